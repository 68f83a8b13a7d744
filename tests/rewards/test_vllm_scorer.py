"""A classifier in vLLM's pooling runner gives the transformers path's rewards, in float32."""

from __future__ import annotations

import pytest

from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.errors import ConfigError, MissingPackageError, RewardError, StageError
from rayflow.rewards import vllm_scorer
from rayflow.rewards.classifier import ClassifierReward, chosen_backend
from rayflow.rewards.models import load_config
from tests.rewards.test_classifier import CHAT, PLAIN, RESPONSES, logit_at_last_token, reward

LONG = "the story was good and bad . " * 12
"""Longer than a block of vLLM's cache, so that its prefix is shared."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A Llama and a Mistral, which transformers reads whole; both pad with EOS and have heads that vLLM's CPU has."""
    return {family: save(tmp_path_factory.mktemp("vllm") / family, family) for family in ("llama", "mistral")}


def save(folder, family, num_labels=1):
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from tests.rewards.conftest import _save, _word_tokenizer

    config = AutoConfig.for_model(
        family,
        vocab_size=40,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
        num_labels=num_labels,
        **({"sliding_window": 128} if family == "mistral" else {}),
    )
    tokenizer = _word_tokenizer(pad_token="<eos>")
    tokenizer.model_max_length = 256
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    return _save(folder, model, tokenizer)


@pytest.mark.engine
def test_rewards_are_those_of_transformers_to_float32_and_read_at_the_last_token(models):
    """With a Mistral, which is what vLLM is chosen for; starting an engine for a Llama too shows nothing more."""
    model = models["mistral"]
    in_vllm = reward(model, backend="vllm")
    try:
        in_transformers = reward(model, backend="transformers")
        long = Prompt(prompt_id="p3", prompt=LONG, messages=(), target=None)
        for prompt in (PLAIN, CHAT, long, long):  # the last one from a warm cache
            found = in_vllm.score(prompt, RESPONSES)
            assert found == pytest.approx(in_transformers.score(prompt, RESPONSES), abs=1e-4)
        expected = [logit_at_last_token(model, PLAIN.prompt + text) for text in RESPONSES]
        assert in_vllm.score(PLAIN, RESPONSES) == pytest.approx(expected, abs=1e-4)
        assert max(abs(value) for value in expected) > 1.5  # no sigmoid between
        with pytest.raises(RewardError, match="does not fit into the reward model's 256"):
            in_vllm.score(long, [LONG * 3])
    finally:
        in_vllm.close()
    in_vllm.close()
    with pytest.raises(StageError, match="closed"):
        in_vllm.score(PLAIN, RESPONSES)


def test_without_vllm_the_error_says_what_to_install(models, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    with pytest.raises(MissingPackageError, match="backend: vllm"):
        reward(models["llama"], backend="vllm")


def test_a_device_is_not_chosen_for_vllm():
    with pytest.raises((ConfigError, ValueError), match="leave device at auto"):
        ClassifierReward.Config(model="m", backend="vllm", device="cpu")


@pytest.mark.parametrize(
    ("family", "backend", "there", "expected"),
    [
        ("llama", "auto", {"vllm"}, False),  # reads the prompt once in transformers
        ("mistral", "auto", {"vllm"}, True),
        ("mistral", "auto", {}, False),
        ("mistral", "auto", {"vllm", "gpu"}, False),
        ("mistral", "transformers", {"vllm"}, False),
        ("llama", "vllm", {"vllm", "gpu"}, True),
    ],
)
def test_auto_takes_vllm_where_transformers_would_read_the_prompt_for_every_response(
    models, monkeypatch, family, backend, there, expected
):
    started = []

    class Started:
        def __init__(self, *arguments):
            started.append(arguments)

    monkeypatch.setattr("rayflow.rewards.classifier.VllmScorer", Started)
    monkeypatch.setattr(vllm_scorer, "find_spec", lambda name: object() if "vllm" in there else None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: "gpu" in there)
    options = ClassifierReward.Config(model=models[family], backend=backend, dtype="auto")
    if not expected:
        assert chosen_backend(load_config(models[family], "classifier")[1], options, 256) == "transformers"
        return
    build("reward", options).setup()
    path, dtype, max_length, share = started[0]
    assert (path, str(dtype), max_length, share) == (models[family], "torch.float32", 256, 0.9)
