"""Shared-prompt log-probabilities equal one plain forward pass per response, for every family that is allowed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from transformers import AutoConfig, AutoModelForCausalLM

from rayflow.core.branches import SHARED_FAMILIES
from rayflow.errors import DataError, ModelError
from rayflow.training.layout import Layout, lengths_of
from rayflow.training.logprobs import response_logprobs
from rayflow.training.pack import pack
from tests.training.helpers import gradients, random_branches, tiny_config

GROUPS = random_branches(3, k=3, vocabulary=120)


def tiny(family: str, **settings):
    torch.manual_seed(0)
    config = tiny_config(family, **settings)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()


def one_by_one(model, groups) -> torch.Tensor:
    """The definition: a causal pass over prompt + response, no mask, no padding, summed log softmax."""
    values = []
    for prompt, responses in groups:
        for response in responses:
            ids = torch.tensor(np.concatenate([prompt, response]), dtype=torch.int64)[None]
            table = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
            predicted = table[len(prompt) - 1 : -1]
            values.append(predicted.gather(1, ids[0, len(prompt) :, None]).sum())
    return torch.stack(values)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("family", sorted(SHARED_FAMILIES))
def test_values_and_gradients_are_those_of_one_response_at_a_time(family, shared):
    model = tiny(family)
    expected = one_by_one(model, GROUPS)
    expected_gradients = gradients(model, expected)
    got = response_logprobs(model, pack(GROUPS, shared=shared), head_only=True)
    assert torch.allclose(got, expected, atol=1e-4)
    difference = (gradients(model, got) - expected_gradients).norm() / expected_gradients.norm()
    assert difference < 1e-3


class Shapes(TorchDispatchMode):
    """Notes the shape of every tensor that is computed, in the backward pass too."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.seen |= {tuple(x.shape) for x in tree_flatten(found)[0] if isinstance(x, torch.Tensor)}
        return found


@pytest.mark.parametrize("shared", [True, False])
def test_the_vocabulary_meets_a_chunk_of_response_positions_at_a_time(shared, monkeypatch):
    """No [tokens, vocabulary] tensor of the prompt ever exists, nor of all response tokens together."""
    monkeypatch.setattr("rayflow.training.pack.HEAD_TOKENS", 7)
    rng = np.random.default_rng(0)
    group = rng.integers(3, 120, 30), [rng.integers(3, 120, n) for n in (5, 9, 6)]
    model = tiny("llama")
    vocabulary, size = model.lm_head.weight.shape
    with Shapes() as shapes:
        response_logprobs(model, pack([group], shared=shared), head_only=True).sum().backward()
    wide = {tuple(sorted(shape)) for shape in shapes.seen if vocabulary in shape}
    assert wide - {(vocabulary,)} == {(20 % 7, vocabulary), (7, vocabulary), (size, vocabulary)}


def test_a_head_of_its_own_sees_the_columns_that_predict_a_response():
    model, group = tiny("gemma2"), (np.arange(3, 33), [np.arange(40, 45), np.arange(50, 59)])
    batch = pack([group], shared=False)
    with torch.no_grad(), Shapes() as shapes:
        got = response_logprobs(model, batch, head_only=False)
    assert torch.allclose(got, one_by_one(model, [group]), atol=1e-4)
    rows = {shape[1] for shape in shapes.seen if len(shape) == 3 and shape[2] == model.config.vocab_size}
    assert rows == {9}  # of 39 columns


def test_full_logits_are_used_where_the_head_is_not_a_plain_projection():
    model = tiny("gemma2")
    config = model.config
    assert config.final_logit_softcapping  # what the bare projection would leave out
    with torch.no_grad():
        got = response_logprobs(model, pack(GROUPS, shared=False), head_only=False)
        assert torch.allclose(got, one_by_one(model, GROUPS), atol=1e-4)


@pytest.mark.parametrize("shared", [True, False])
def test_padding_and_order_do_not_matter(shared):
    model = tiny("llama")
    with torch.no_grad():
        together = response_logprobs(model, pack(GROUPS, shared=shared), head_only=True).split(3)
        turned = response_logprobs(model, pack(GROUPS[::-1], shared=shared), head_only=True).split(3)
        alone = [response_logprobs(model, pack([g], shared=shared), head_only=True) for g in GROUPS]
    for a, b, c in zip(together, turned[::-1], alone, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
        assert torch.allclose(a, c, atol=1e-5)


def test_other_branches_are_invisible():
    model = tiny("llama")
    prompt, responses = GROUPS[0]
    other = [responses[0], np.full(9, 5, np.int32), responses[2]]
    with torch.no_grad():
        a = response_logprobs(model, pack([(prompt, responses)], shared=True), head_only=True)
        b = response_logprobs(model, pack([(prompt, other)], shared=True), head_only=True)
    assert torch.allclose(a[[0, 2]], b[[0, 2]], atol=1e-5)


def test_a_response_without_tokens_has_probability_one():
    batch = pack([(np.array([3, 4]), [np.array([], np.int32), np.array([5])])], shared=True)
    assert response_logprobs(tiny("llama"), batch, head_only=True)[0] == 0


def test_the_layout_of_one_group_by_hand():
    batch = pack([(np.array([7, 8]), [np.array([1, 2]), np.array([3])])], shared=True)
    assert batch.input_ids.tolist() == [[7, 8, 1, 2, 3]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    assert batch.predictors.tolist() == [1, 2, 1]  # both responses begin after the last prompt token
    assert batch.targets.tolist() == [1, 2, 3]
    assert batch.owners.tolist() == [0, 0, 1]
    assert batch.num_tokens.tolist() == [2, 1]
    assert batch.forks == ((2, (2, 1)),)
    assert batch.attention_mask is None


def test_the_layout_of_two_groups_by_hand():
    groups = [
        (np.array([7, 8]), [np.array([1]), np.array([], np.int32)]),
        (np.array([9]), [np.array([2, 3])]),
    ]
    batch = pack(groups, shared=True)
    assert batch.input_ids.tolist() == [[7, 8, 1, 9, 2, 3]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 2]]
    assert batch.predictors.tolist() == [1, 3, 4]
    assert batch.owners.tolist() == [0, 2, 2]
    assert batch.ends.tolist() == [2, 1, 5]
    assert batch.forks == ((2, (1,)), (1, (2,)))
    apart = pack(groups, shared=False)
    assert apart.input_ids.tolist() == [[7, 8, 1], [7, 8, 0], [9, 2, 3]]
    assert apart.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 1]]
    assert apart.predictors.tolist() == [1, 6, 7]
    assert apart.ends.tolist() == [2, 4, 8]
    assert apart.forks is None


def test_one_model_reads_both_layouts_in_turn_and_saves_neither(tmp_path):
    """The reference's layout may change from shard to shard; what is saved must load anywhere."""
    model, found = tiny("llama"), []
    with torch.no_grad():
        for shared in (True, False, True):
            found.append(response_logprobs(model, pack(GROUPS, shared=shared), head_only=True))
    assert torch.allclose(found[0], found[1], atol=1e-4)
    assert torch.equal(found[0], found[2])
    model.save_pretrained(tmp_path)
    assert "rayflow" not in (tmp_path / "config.json").read_text()


def test_an_untested_family_gets_its_own_rows_and_the_log_says_why(caplog):
    config = AutoConfig.for_model("gemma2")
    lengths = lengths_of(GROUPS)
    with caplog.at_level("INFO"):
        assert not Layout.choose(config, lengths, "auto").shared
    assert "'gemma2' is not among the tested ones" in caplog.text
    with pytest.raises(ModelError, match="auto or false"):
        Layout.choose(config, lengths, True)


def test_a_sliding_window_is_not_overridden_by_a_mask():
    """Shared only where no sequence is longer than the window; the row of all branches may be."""
    lengths = lengths_of(GROUPS)
    longest = int((lengths.prompt + lengths.response_max).max())
    assert not Layout.choose(tiny_config("mistral", sliding_window=longest - 1), lengths, "auto").shared
    model = tiny("mistral", sliding_window=longest)
    layout = Layout.choose(model.config, lengths, "auto")
    assert layout.shared and layout.width.max() > longest
    expected = one_by_one(model, GROUPS)
    got = response_logprobs(model, pack(GROUPS, shared=True), head_only=True)
    assert torch.allclose(got, expected, atol=1e-4)


def test_sharing_is_chosen_only_where_a_prompt_has_several_responses():
    config = AutoConfig.for_model("llama")
    alone, several = (lengths_of([(np.zeros(20), [np.zeros(30)] * k)] * 3) for k in (1, 2))
    assert Layout.choose(config, several, "auto").shared
    assert not Layout.choose(config, alone, "auto").shared
    assert Layout.choose(config, alone, True).shared


def test_what_exceeds_the_context_is_refused_but_branches_do_not_add_up():
    config = AutoConfig.for_model("llama", max_position_embeddings=50)
    Layout.choose(config, lengths_of([(np.zeros(20), [np.zeros(30)] * 8)]), "auto")
    with pytest.raises(DataError, match=r"context of 50 tokens.*21 prompt tokens.*response of 30"):
        Layout.choose(config, lengths_of([(np.zeros(21), [np.zeros(30)])]), "auto")
