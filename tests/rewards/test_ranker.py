"""The pairwise ranker: whole texts through the whole model by hand are the yardstick."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from rayflow.core.comparison import comparison_text
from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.errors import ConfigError, ModelError, RewardError
from rayflow.rewards.ranker import RankerReward
from tests.conftest import tiny_tokenizer

PLAIN = Prompt(prompt_id="p1", prompt="write a short review of the play", messages=(), target=None)
CHAT = Prompt(
    prompt_id="p2",
    prompt=None,
    messages=({"role": "user", "content": "write a short review"},),
    target=None,
)
# Of different lengths, one repeated, one empty, two that begin alike.
RESPONSES = (
    "the film was a joy",
    "dull",
    "a wonderful story with great acting from start to finish",
    "dull",
    "",
    "the film was a dull and lifeless story",
)
ALL_PAIRS = np.array([(i, j) for i in range(6) for j in range(6) if i != j])


@pytest.fixture(scope="session")
def causal_models(tmp_path_factory, tiny_model) -> dict[str, str]:
    """Random language models with different attention, positions and output layers."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

    sizes = {"vocab_size": 320, "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = {
            "tied": GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=256, **sizes)),
            "sliding": MistralForCausalLM(
                MistralConfig(
                    hidden_size=32,
                    intermediate_size=64,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    num_key_value_heads=1,
                    sliding_window=8,  # shorter than what the texts share
                    **sizes,
                )
            ),
        }
    folders = {"llama": tiny_model}
    for name, model in models.items():
        folder = tmp_path_factory.mktemp("rankers") / name
        model.eval().save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        folders[name] = str(folder)
    return folders


def ranker(model, **options) -> RankerReward:
    built = build("reward", RankerReward.Config(**{"model": model, "dtype": "float32", **options}))
    built.setup()
    return built


@cache
def loaded_by_hand(model: str):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    return loaded, AutoTokenizer.from_pretrained(model)


def by_hand(model: str, context: str, first: str, second: str) -> float:
    """P(A) / (P(A) + P(B)) behind one unpadded text, from the probabilities of the whole vocabulary."""
    import torch

    loaded, tokenizer = loaded_by_hand(model)
    text = tokenizer.bos_token + comparison_text(context, first, second)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    a, b = (tokenizer(letter, add_special_tokens=False)["input_ids"][-1] for letter in (" A", " B"))
    with torch.inference_mode():
        p = loaded(ids).logits[0, -1].double().softmax(-1)
    return float(p[a] / (p[a] + p[b]))


@pytest.mark.parametrize("batch_tokens", [1, 200, 16384])
@pytest.mark.parametrize("name", ["llama", "tied", "sliding"])
def test_both_orders_of_whole_texts_give_the_average_probability(causal_models, name, batch_tokens):
    model = causal_models[name]
    pairs = np.array([(0, 2), (1, 0), (5, 4), (2, 5)])
    found = ranker(model, batch_tokens=batch_tokens).compare(CHAT, RESPONSES, pairs)
    expected = []
    for i, j in pairs:
        a, b = RESPONSES[i], RESPONSES[j]
        expected.append((by_hand(model, CHAT.text, a, b) + 1 - by_hand(model, CHAT.text, b, a)) / 2)
    assert found.dtype == np.float64
    assert found == pytest.approx(expected, abs=1e-6)


def test_each_order_is_told_by_itself_and_equal_texts_are_not_asked_about(causal_models):
    model, pairs = causal_models["llama"], np.array([(0, 2), (1, 3), (5, 4)])
    found = ranker(model).compare_orders(CHAT, RESPONSES, pairs)
    expected = []
    for i, j in ((0, 2), (5, 4)):
        a, b = RESPONSES[i], RESPONSES[j]
        expected.append((by_hand(model, CHAT.text, a, b), 1 - by_hand(model, CHAT.text, b, a)))
    assert found.orders == pytest.approx(np.array(expected), abs=1e-6)
    assert found.values[[0, 2]] == pytest.approx(np.mean(expected, axis=1), abs=1e-6)
    assert found.values[1] == 0.5
    assert (found.values == ranker(model).compare(CHAT, RESPONSES, pairs)).all()
    scored = ranker(model).score_orders(CHAT, RESPONSES)
    assert (scored.values == ranker(model).score(CHAT, RESPONSES)).all()
    assert 1 <= len(scored.orders) <= len(RESPONSES) - 1


def test_the_fixture_tells_responses_and_orders_apart(causal_models):
    """Else the yardstick could not tell one order from the average of two."""
    for model in causal_models.values():
        one = by_hand(model, PLAIN.text, RESPONSES[0], RESPONSES[2])
        other = by_hand(model, PLAIN.text, RESPONSES[2], RESPONSES[0])
        assert abs(one - 0.5) > 1e-3 and abs(one - (1 - other)) > 1e-3


def test_swapped_responses_have_the_other_probability_and_equal_ones_are_even(tiny_model):
    found = ranker(tiny_model).compare(PLAIN, RESPONSES, ALL_PAIRS)
    swapped = ranker(tiny_model).compare(PLAIN, RESPONSES, ALL_PAIRS[:, ::-1])
    assert found == pytest.approx(1 - swapped, abs=1e-6)
    same = [tuple(pair) in {(1, 3), (3, 1)} for pair in ALL_PAIRS]
    assert found[same].tolist() == [0.5, 0.5]  # exactly: a tie, not a label by rounding
    assert (np.abs(found[~np.array(same)] - 0.5) > 1e-6).all()


def test_sharing_the_beginning_changes_nothing(tiny_model, monkeypatch):
    shared = ranker(tiny_model).compare(PLAIN, RESPONSES, ALL_PAIRS)
    monkeypatch.setattr("rayflow.rewards.ranker.common_prefix", lambda sequences: 0)
    assert ranker(tiny_model).compare(PLAIN, RESPONSES, ALL_PAIRS) == pytest.approx(shared, abs=1e-6)


def test_a_scored_prompt_is_read_once_per_order(tiny_model, monkeypatch):
    """Eq 7: of 2 (n - 1) texts the tokens that all of an order share go through the model one time."""
    built = ranker(tiny_model)
    widths = []
    forward = built._model.forward

    def counted(input_ids, **inputs):
        widths.append(tuple(input_ids.shape))
        return forward(input_ids=input_ids, **inputs)

    monkeypatch.setattr(built._model, "forward", counted)
    built.score(PLAIN, [f"{text} {i}" for i, text in enumerate(RESPONSES)])
    context = len(built._tokenizer(f"[CONTEXT] {PLAIN.text}")["input_ids"])
    assert [rows for rows, _ in widths] == [1, 5, 1, 5]
    assert all(width >= context for rows, width in widths if rows == 1)


def test_scores_are_log_odds_against_one_candidate_and_cost_one_comparison_each(tiny_model):
    built = ranker(tiny_model)
    responses = [f"{text} {i}" for i, text in enumerate(RESPONSES)]
    rewards = built.score(PLAIN, responses)
    assert built.num_comparisons == 5
    (baseline,) = np.flatnonzero(rewards == 0)
    for i in set(range(6)) - {baseline}:
        rho = built.compare(PLAIN, responses, np.array([[i, baseline]]))
        assert rewards[i] == pytest.approx(np.log(rho / (1 - rho))[0], abs=1e-6)


def test_a_context_that_does_not_fit_is_refused_not_cut(tiny_model):
    long = Prompt(prompt_id="p9", prompt="word " * 300, messages=(), target=None)
    with pytest.raises(RewardError, match="p9.*two responses has .* tokens .*512"):
        ranker(tiny_model).score(long, ["good", "bad"])
    with pytest.raises(ConfigError, match="512 positions"):
        ranker(tiny_model, max_length=1000)
    with pytest.raises(RewardError, match="ranker's 40"):
        ranker(tiny_model, max_length=40).score(PLAIN, ["good", "bad"])


def test_half_precision_compares_the_letters_in_float32(tiny_model):
    built = ranker(tiny_model, dtype="bfloat16")
    odds = built._log_odds(built._encode(PLAIN, [(RESPONSES[0], RESPONSES[2])]))
    assert built._model.get_output_embeddings().weight.shape == (2, 64)
    assert np.float32(odds[0]) != np.float32(np.float16(odds[0]))  # not a rounded logit
    exact = ranker(tiny_model).compare(PLAIN, RESPONSES, ALL_PAIRS)
    assert np.ptp(exact) > 0.04  # twenty times the tolerance: one half for every pair would not do
    assert built.compare(PLAIN, RESPONSES, ALL_PAIRS) == pytest.approx(exact, abs=2e-3)


def test_a_classifier_is_no_ranker_and_missing_weights_are_refused(pad_is_eos_model, tiny_model, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    with pytest.raises(ModelError, match="not a language model.*kind: classifier"):
        ranker(pad_is_eos_model)
    folder = tmp_path / "headless"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lm_head.weight.*AutoModelForCausalLM"):
        ranker(str(folder))


def test_a_lack_of_memory_says_what_to_lower(tiny_model, monkeypatch):
    import torch

    built = ranker(tiny_model, batch_tokens=512)

    def out_of_memory(**inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(built._model, "forward", out_of_memory)
    with pytest.raises(RewardError, match="batch_tokens .now 512"):
        built.score(PLAIN, ["good", "bad"])
