"""The block mask of FlexAttention says who sees whom, and leaves out what lies between branches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM

from rayflow.errors import StageError
from rayflow.training.logprobs import response_logprobs
from rayflow.training.masks import block_mask
from rayflow.training.objective import build_scorer
from rayflow.training.pack import pack
from tests.training.helpers import random_branches, small_job, tiny_config

sizes = st.lists(
    st.tuples(st.integers(1, 40), st.lists(st.integers(0, 30), min_size=1, max_size=5)),
    min_size=1,
    max_size=3,
)


def by_hand(sizes) -> torch.Tensor:
    """[t, t] bool, query before key: the definition, token by token."""
    tokens = []  # (prompt, branch or 0)
    for number, (prompt, responses) in enumerate(sizes):
        tokens += [(number, 0)] * prompt
        for branch, length in enumerate(responses):
            tokens += [(number, branch + 1)] * length
    return torch.tensor(
        [
            [j <= i and mine[0] == its[0] and its[1] in (0, mine[1]) for j, its in enumerate(tokens)]
            for i, mine in enumerate(tokens)
        ]
    )


@given(sizes, st.sampled_from([8, 16]))
@settings(max_examples=25, deadline=None)
def test_the_blocks_hold_the_definition_and_no_block_without_a_visible_key(sizes, block):
    dense, blocks = by_hand(sizes), block_mask(sizes, "cpu", block)
    width = len(dense)
    assert torch.equal(create_mask(blocks.mask_mod, 1, 1, width, width, "cpu")[0, 0], dense)
    count = -(-width // block)
    padded = torch.zeros(count * block, count * block, dtype=torch.bool)
    padded[:width, :width] = dense
    tiles = padded.unflatten(0, (count, block)).unflatten(2, (count, block)).any(dim=(1, 3))
    assert torch.equal(blocks.to_dense()[0, 0].bool(), tiles)


def test_long_branches_are_not_computed_against_each_other():
    """Prompt and eight responses of one block each: 9 diagonal blocks and 8 that see the prompt, of 45 causal ones."""
    assert int(block_mask([(16, [16] * 8)], "cpu", 16).to_dense().sum()) == 17


def test_attention_in_blocks_is_attention_with_the_dense_mask():
    sizes = [(20, [9, 30, 1]), (33, [12, 12])]
    dense = by_hand(sizes)
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, len(dense), 16) for heads in (4, 2, 2))
    found = flex_attention(query, key, value, block_mask=block_mask(sizes, "cpu", 16), enable_gqa=True)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=dense, enable_gqa=True)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_model_that_attends_in_blocks_gives_the_same_log_probabilities(family, monkeypatch):
    """Uncompiled, which is slow and needs no GPU; the same call is compiled there."""
    monkeypatch.setattr(
        "transformers.integrations.flex_attention.compile_friendly_flex_attention",
        lambda query, key, value, training, **more: flex_attention(query, key, value, **more),
    )
    groups = random_branches(3, k=3, vocabulary=120)
    values = []
    for attention in ("sdpa", "flex_attention"):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(
            tiny_config(family), dtype=torch.float32, attn_implementation=attention
        ).eval()
        with torch.no_grad():
            values.append(response_logprobs(model, pack(groups, shared=True), head_only=True))
    assert torch.allclose(*values, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_refused(tiny_model, tmp_path):
    with pytest.raises(StageError, match="flex needs a GPU"):
        build_scorer(small_job(tiny_model, tmp_path / "groups.arrow", tmp_path, attention="flex"))
