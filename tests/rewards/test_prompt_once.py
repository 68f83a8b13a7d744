"""Scores of a group with its prompt read once: equal to one text at a time, and no token too many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rayflow.core.branches import SHARED_FAMILIES
from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.rewards.classifier import ClassifierReward
from rayflow.rewards.prompt_once import row_batches
from tests.conftest import tiny_tokenizer

PLAIN = Prompt(prompt_id="p1", prompt="write a review of a dull sto", messages=(), target=None)
CHAT = Prompt(
    prompt_id="p2",
    prompt=None,
    messages=({"role": "user", "content": "write a short review"},),
    target=None,
)
EOS = "<|im_end|>"
# Different lengths; ended by EOS or not; empty; one that begins another; one whose start joins the prompt's end.
RESPONSES = (
    f"the film was a joy{EOS}",
    "dull",
    f"a wonderful story with great acting from start to finish{EOS}",
    "",
    EOS,
    "ry",
    "ry and the film was a dull and lifeless story",
)


def save_classifier(family: str, folder: Path) -> str:
    """A random classifier of a family, float32, whose tokenizer pads with EOS."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    extra = {} if family == "gpt_neox" else {"num_key_value_heads": 2}
    if family in ("gemma", "qwen3", "smollm3"):
        extra["head_dim"] = 16
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    config = AutoConfig.for_model(
        family,
        vocab_size=320,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.2,
        num_labels=1,
        pad_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **extra,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("classifiers")
    return {family: save_classifier(family, folder / family) for family in SHARED_FAMILIES}


def reward(model: str, **options) -> ClassifierReward:
    built = build(
        "reward",
        ClassifierReward.Config(**{"model": model, "backend": "transformers", "dtype": "float32", **options}),
    )
    built.setup()
    return built


def one_by_one(model: str, texts: list[str]) -> list[float]:
    """Each text alone, tokenised whole, through transformers' own attention, read at its very last token."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    loaded = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    with torch.inference_mode():
        ids = [tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"] for text in texts]
        return [loaded.score(loaded.base_model(i).last_hidden_state)[0, -1, 0].item() for i in ids]


def as_text(prompt: Prompt, response: str, tokenizer) -> str:
    if prompt.prompt is not None:
        return prompt.prompt + response
    turns = [*prompt.messages, {"role": "assistant", "content": response}]
    return tokenizer.apply_chat_template(turns, tokenize=False)


@pytest.mark.parametrize("batch_tokens", [1, 60, 16384])
@pytest.mark.parametrize("prompt", [PLAIN, CHAT], ids=["plain", "chat"])
@pytest.mark.parametrize("family", sorted(SHARED_FAMILIES))
def test_scores_are_those_of_one_text_at_a_time(family, prompt, batch_tokens, classifiers):
    model = classifiers[family]
    expected = one_by_one(model, [as_text(prompt, r, tiny_tokenizer()) for r in RESPONSES])
    found = reward(model, batch_tokens=batch_tokens).score(prompt, RESPONSES)
    assert np.abs(found - expected).max() < 1e-4
    assert np.ptp(expected) > 0.1  # far more than the tolerance, so a wrong token would show


def test_a_response_that_joins_the_last_token_of_the_prompt_keeps_its_token():
    """The fixture is sharp enough: cut at the border of the texts, the ids would be others."""
    tokenizer = tiny_tokenizer()
    whole = tokenizer(PLAIN.prompt + "ry")["input_ids"]
    assert whole != tokenizer(PLAIN.prompt)["input_ids"] + tokenizer("ry")["input_ids"]


def counted(built: ClassifierReward) -> list[int]:
    """Tokens, padding included, of each forward pass from now on."""
    sizes: list[int] = []
    embeddings = built._scorer.model.get_input_embeddings()
    embeddings.register_forward_hook(lambda module, inputs, output: sizes.append(inputs[0].numel()))
    return sizes


@pytest.mark.parametrize("batch_tokens", [1, 100, 300, 16384])
def test_the_prompt_is_computed_once_and_nothing_is_padded(batch_tokens, classifiers):
    built = reward(classifiers["llama"], batch_tokens=batch_tokens)
    sizes = counted(built)
    prompt = Prompt(prompt_id="p", prompt="a dull story " * 20, messages=(), target=None)
    responses = [f"{i} " + "joy " * (i % 7) for i in range(16)]
    built.score(prompt, responses)
    tokenizer = tiny_tokenizer()
    size = len(tokenizer(prompt.prompt)["input_ids"])
    lengths = [len(tokenizer(prompt.prompt + r)["input_ids"]) - size for r in responses]
    digits = {tokenizer(str(i))["input_ids"][0] for i in range(16)}
    assert len(digits) > 1 and size > 50  # they part at the first token, so the prompt is all they share
    assert sum(sizes) == size + sum(lengths)
    assert max(sizes[1:], default=0) <= max(batch_tokens, *lengths)


def test_repeated_responses_and_a_single_one_are_read_once(classifiers, monkeypatch):
    built = reward(classifiers["llama"])
    sizes = counted(built)
    twice = built.score(PLAIN, ["dull"] * 3)
    assert sizes == [len(tiny_tokenizer()(PLAIN.prompt + "dull")["input_ids"])]
    assert twice.tolist() == built.score(PLAIN, ["dull"]).tolist() * 3


def test_an_encoder_and_an_untested_family_read_every_text_whole(bert_model, unshared_model):
    for model in (bert_model, unshared_model):
        built = reward(model)
        sizes = counted(built)
        prompt = Prompt(prompt_id="p", prompt="the film was ", messages=(), target=None)
        built.score(prompt, ["good", "very bad"])
        assert sizes == [2 * 7 if model == bert_model else 2 * 5]  # [CLS] and <eos> are the encoder's own


def test_rows_hold_every_index_once_within_the_budget():
    lengths = [3, 50, 7, 7, 20, 1, 100]
    found = list(row_batches(lengths, prompt=30, batch_tokens=60))
    assert sorted(i for row in found for i in row) == list(range(7))
    assert found[0] == [6]  # longer than the budget: alone, not lost
    assert all(sum(lengths[i] for i in row) <= 60 for row in found[1:])
    assert list(row_batches([5, 5], 30, 40)) == [[0, 1]]
    assert list(row_batches([5, 6], 30, 40)) == [[1], [0]]
