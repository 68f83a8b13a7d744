"""A reward model's scores: the same packed as one by one, and the same wherever the saved model is loaded."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
)

from rayflow.core.chat import prompt_token_ids, response_token_ids
from rayflow.core.rows import Prompt
from rayflow.errors import ModelError
from rayflow.rewards.classifier import ClassifierReward
from rayflow.training.backend import write_model
from rayflow.training.checkpoints import FolderStore
from rayflow.training.layout import SHARED_FAMILIES
from rayflow.training.loop import train
from rayflow.training.metrics import read_metrics
from rayflow.training.objective import build_scorer
from rayflow.training.pack import pack
from rayflow.training.plain import PlainBackend
from rayflow.training.scores import RewardScorer, load_reward_model, reward_tokenizer
from tests.training.helpers import (
    gradients,
    random_branches,
    reproducible,
    small_job,
    tiny_config,
    write_random_groups,
)

GROUPS = random_branches(3, k=3, vocabulary=120)
PLAIN = Prompt(prompt_id="p", prompt="write a short review:", messages=(), target=None)
CHAT = Prompt(
    prompt_id="c", prompt=None, messages=({"role": "user", "content": "write a review"},), target=None
)
RESPONSES = ("a joy from start to finish", "dull", "great", "a dull and lifeless story with wooden acting")


def tiny(family: str):
    torch.manual_seed(0)
    config = tiny_config(family, num_labels=1)
    return AutoModelForSequenceClassification.from_config(
        config, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()


def one_by_one(model, groups) -> torch.Tensor:
    """The definition: transformers' own classifier on prompt + response, one unpadded text at a time."""
    texts = [np.concatenate([prompt, response]) for prompt, responses in groups for response in responses]
    return torch.stack(
        [model(input_ids=torch.tensor(ids.astype(np.int64))[None]).logits[0, 0] for ids in texts]
    )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("family", sorted(SHARED_FAMILIES))
def test_packed_scores_and_gradients_are_those_of_one_text_at_a_time(family, shared):
    model = tiny(family)
    expected = one_by_one(model, GROUPS)
    expected_gradients = gradients(model, expected)
    got = RewardScorer(model)(pack(GROUPS, shared=shared))
    assert torch.allclose(got, expected, atol=1e-4)
    assert expected.std() > 0.1
    difference = (gradients(model, got) - expected_gradients).norm() / expected_gradients.norm()
    assert difference < 1e-3


def test_a_response_ends_at_its_own_last_token_by_hand():
    group = (np.array([7, 8]), [np.array([1, 2]), np.array([], np.int32), np.array([3])])
    assert pack([group, group], shared=True).ends.tolist() == [3, 1, 4, 8, 6, 9]
    assert pack([group], shared=False).ends.tolist() == [3, 5, 10]  # rows of four


def test_another_branch_does_not_change_a_score():
    model = tiny("llama")
    prompt, responses = GROUPS[0]
    other = [responses[0], np.full(9, 5, np.int32), responses[2]]
    with torch.no_grad():
        a, b = (RewardScorer(model)(pack([(prompt, each)], shared=True)) for each in (responses, other))
    assert torch.allclose(a[[0, 2]], b[[0, 2]], atol=1e-5)
    assert not torch.allclose(a[1], b[1], atol=1e-2)


def with_pad(source: str, folder: Path, pad: str | None) -> str:
    """A copy of a model whose tokenizer pads with `pad`; None leaves it as it is."""
    shutil.copytree(source, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if pad is not None:
        tokenizer.pad_token = pad
    tokenizer.save_pretrained(folder)
    return str(folder)


def trained_like(model: str, folder: Path, prompt: Prompt) -> tuple[list[float], list[list[int]]]:
    """A saved reward model; returns what training sees of the responses, and their token ids."""
    scorer = RewardScorer(load_reward_model(model, "float32", seed=0)).eval()
    write_model(scorer, None, folder, model)
    assert not (folder / "generation_config.json").exists()
    tokenizer = scorer.tokenizer(model)
    begin = prompt_token_ids(tokenizer, prompt)
    answers = [response_token_ids(tokenizer, prompt, text) for text in RESPONSES]
    with torch.no_grad():
        scores = scorer(pack([(begin, answers)], shared=True)).tolist()
    return scores, [[*begin.tolist(), *ids.tolist()] for ids in answers]


@pytest.mark.parametrize("prompt", [PLAIN, CHAT], ids=["plain", "chat"])
@pytest.mark.parametrize("pad", [None, "<|im_end|>"], ids=["own-pad", "pad-is-eos"])
def test_the_saved_model_scores_as_training_did_in_every_reader(tiny_model, tmp_path, pad, prompt):
    source = with_pad(tiny_model, tmp_path / "source", pad)
    expected, sequences = trained_like(source, tmp_path / "reward", prompt)
    assert np.ptp(expected) > 0.1
    reward = ClassifierReward(ClassifierReward.Config(model=str(tmp_path / "reward")))
    reward.setup()
    assert reward.score(prompt, RESPONSES) == pytest.approx(expected, abs=1e-4)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "reward")
    assert (model.config.num_labels, model.config.pad_token_id) == (1, tokenizer.pad_token_id)
    assert all(ids[-1] == tokenizer.eos_token_id != tokenizer.pad_token_id for ids in sequences)
    for side in ("left", "right"):
        batch = tokenizer.pad({"input_ids": sequences}, padding_side=side, return_tensors="pt")
        with torch.no_grad():
            assert model(**batch).logits[:, 0].tolist() == pytest.approx(expected, abs=1e-4), side


@pytest.mark.parametrize("reader", ["prompt once", "whole texts", "vllm"])
def test_a_cut_response_is_judged_without_the_end_that_training_never_saw(
    tiny_model, tmp_path, reader, monkeypatch
):
    _, sequences = trained_like(tiny_model, tmp_path / "reward", CHAT)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").eval()

    def alone(texts: list[list[int]]) -> np.ndarray:
        with torch.no_grad():
            return np.array([model(input_ids=torch.tensor([ids])).logits[0, 0].item() for ids in texts])

    class InAnotherProcess:  # as vLLM's pooling runner: token ids in, the head's values at the last of them out
        logits = staticmethod(lambda texts: alone(texts)[:, None])

    if reader == "whole texts":
        monkeypatch.setattr("rayflow.rewards.classifier.why_not_shared", lambda *_: "a test's wish")
    options = ClassifierReward.Config(model=str(tmp_path / "reward"), backend="transformers")
    reward = ClassifierReward(options)
    reward.setup()
    assert (reward._scorer._prompt_once is None) == (reader == "whole texts")
    if reader == "vllm":
        reward._scorer = InAnotherProcess()
    cut = np.array([True, False, True, False])
    expected = alone([ids[:-1] if short else ids for ids, short in zip(sequences, cut, strict=True)])
    assert reward.score(CHAT, RESPONSES, cut) == pytest.approx(expected, abs=1e-4)
    complete = reward.score(CHAT, RESPONSES)
    assert complete == pytest.approx(alone(sequences), abs=1e-4)
    assert np.abs(complete - expected)[cut].min() > 0.01
    # One text may have come to its end in one sample and not in another.
    both = reward.score(CHAT, [RESPONSES[0]] * 2, np.array([True, False]))
    assert both == pytest.approx([expected[0], complete[0]], abs=1e-4)


def test_without_a_free_token_the_vocabulary_grows_by_one(tiny_model, tmp_path):
    source = tmp_path / "source"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = "<|pad|>" + tokenizer.chat_template  # now every special token means something
    tokenizer.save_pretrained(source)
    language_model = AutoModelForCausalLM.from_pretrained(tiny_model)
    language_model.resize_token_embeddings(len(tokenizer))
    language_model.save_pretrained(source)
    expected, sequences = trained_like(str(source), tmp_path / "reward", PLAIN)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
    assert model.get_input_embeddings().num_embeddings == len(tokenizer) + 1
    assert model.config.pad_token_id == reward_tokenizer(str(source)).pad_token_id == len(tokenizer)
    with torch.no_grad():
        batch = AutoTokenizer.from_pretrained(tmp_path / "reward").pad(
            {"input_ids": sequences}, return_tensors="pt"
        )
        assert model(**batch).logits[:, 0].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_new_head_comes_from_the_seed_and_a_trained_one_is_kept(tiny_model, tmp_path):
    first, again, other = (load_reward_model(tiny_model, "float32", seed).score.weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.std().item() * (first.shape[1] + 1) ** 0.5 == pytest.approx(1, abs=0.3)
    trained_like(tiny_model, tmp_path / "reward", PLAIN)
    kept = load_reward_model(str(tmp_path / "reward"), "float32", seed=9).score.weight
    assert torch.equal(kept, load_reward_model(tiny_model, "float32", seed=0).score.weight)


def test_what_cannot_become_a_reward_model_is_refused(tiny_model, tmp_path):
    three = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=3)
    three.save_pretrained(tmp_path / "three")
    with pytest.raises(ModelError, match="several labels"):
        load_reward_model(str(tmp_path / "three"), "float32", seed=0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoder = BertForSequenceClassification(BertConfig(vocab_size=40, num_labels=1, **sizes))
    encoder.save_pretrained(tmp_path / "encoder")
    with pytest.raises(ModelError, match="bert.*cannot become a reward model.*'score'"):
        load_reward_model(str(tmp_path / "encoder"), "float32", seed=0)


def test_training_by_bradley_terry_learns_resumes_and_logs_scores(tiny_model, tmp_path):
    groups = write_random_groups(tmp_path / "groups.arrow", tiny_model)

    def job(folder: Path):
        made = small_job(tiny_model, groups, folder, loss="bradley_terry", num_epochs=4)
        return dataclasses.replace(made, objective="reward")

    def run(folder: Path, stop_at: int | None = None) -> list[dict[str, float]]:
        def stop(metrics):
            if metrics["step"] == stop_at:
                raise KeyboardInterrupt

        train(job(folder), PlainBackend(), FolderStore(folder / "checkpoints", 1), stop)
        return reproducible(read_metrics(job(folder).metrics_path))

    expected = run(tmp_path / "whole")
    assert expected[-1]["loss"] < expected[0]["loss"] / 2
    assert expected[-1]["rewards/accuracies"] > 0.9 and "logps/chosen" not in expected[0]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stop_at=5)
    assert run(tmp_path / "stopped") == expected


def test_the_objective_decides_what_is_trained(tiny_model, tmp_path):
    job = small_job(tiny_model, tmp_path / "groups.arrow", tmp_path)
    assert type(build_scorer(job).model).__name__ == "LlamaForCausalLM"
    reward = build_scorer(dataclasses.replace(job, objective="reward"))
    assert type(reward.model).__name__ == "LlamaForSequenceClassification" and reward.training
    config = AutoConfig.for_model("llama")
    assert getattr(config, "rayflow_encoding", None) is None  # only models that rayflow trained say so
