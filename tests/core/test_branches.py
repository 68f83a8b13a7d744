"""Rows that fork: which models may read them, what texts share, and the layout by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.core import branches
from rayflow.core.branches import common_prefix, forked_row, why_not_shared


@pytest.mark.parametrize(
    ("family", "settings", "reason"),
    [
        ("llama", {}, None),
        ("qwen2", {}, None),
        ("gemma2", {}, "'gemma2' is not among the tested ones"),
        ("bert", {}, "'bert'"),
        (
            "qwen2",
            {"use_sliding_window": True, "max_window_layers": 1, "num_hidden_layers": 4},
            "4096 tokens",
        ),
        ("mistral", {}, "sliding window of 4096 tokens"),
        ("mistral", {"sliding_window": 5000}, None),
        ("mistral", {"sliding_window": None}, None),
        ("llama", {"is_causal": False}, "see what follows"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "position",
        ),
    ],
)
def test_a_model_whose_numbers_could_differ_is_not_shared_and_the_reason_is_named(family, settings, reason):
    from transformers import AutoConfig

    found = why_not_shared(AutoConfig.for_model(family, **settings), 5000)
    assert found is None if reason is None else reason in found


def test_what_sequences_share_is_shorter_than_each_of_them():
    assert common_prefix([[1, 2, 3], [1, 2, 4]]) == 2
    assert common_prefix([[1, 2], [1, 2, 4], [1, 2]]) == 1
    assert common_prefix([[1, 2], [1, 2]]) == 1
    assert common_prefix([[2, 1], [1, 1]]) == 0
    assert common_prefix([[1, 2, 3]]) == 0


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=2, max_size=5))
def test_what_is_shared_is_the_longest_beginning_that_leaves_each_a_token(sequences):
    size = common_prefix(sequences)
    assert len({tuple(s[:size]) for s in sequences}) == 1
    longer = [s[: size + 1] for s in sequences]
    assert len(set(map(tuple, longer))) > 1 or min(map(len, sequences)) == size + 1


def test_the_layout_of_two_prompts_by_hand(monkeypatch):
    monkeypatch.setattr(branches, "KEYS_AT_ONCE", 9)
    row = forked_row([(2, [1, 2]), (0, [3])], "cpu")
    assert row.position_ids.tolist() == [[0, 1, 2, 2, 3, 0, 1, 2]]
    assert row.ends.tolist() == [2, 4, 7]
    prompt, first, second = row.blocks
    assert prompt.queries.tolist() == [[0, 1]]
    assert prompt.mask is None
    assert first.queries.tolist() == first.own.tolist() == [[3, 4], [2, 2]]  # the longer one first
    assert first.prompts.tolist() == [[0, 1]]
    assert first.whose.tolist() == [0, 0]
    assert first.mask.int().tolist() == [[[1, 1, 1, 0], [1, 1, 1, 1]]]
    assert second.queries.tolist() == [[5, 6, 7]]  # nothing goes before it
    assert second.prompts is None
    # computed: prompt 0 1, then 3 4 2 (2), then 5 6 7
    assert row.order.tolist() == [0, 1, 4, 2, 3, 6, 7, 8]


def test_branches_of_several_prompts_attend_in_one_call():
    row = forked_row([(1, [1, 2]), (3, [1])], "cpu")
    prompts, block = row.blocks
    assert prompts.queries.tolist() == [[4, 5, 6], [0, 0, 0]]  # the longest first, for the prompts too
    assert block.queries.tolist() == [[7, 7], [2, 3], [1, 1]]
    assert block.prompts.tolist() == [[4, 5, 6], [0, 0, 0]]
    assert block.whose.tolist() == [0, 1, 1]
    assert block.mask[0].int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert block.mask[1].int().tolist() == [[1, 0, 0, 1, 0], [1, 0, 0, 1, 1]]
    assert (row.position_ids.tolist(), row.ends.tolist()) == ([[0, 1, 1, 2, 0, 1, 2, 3]], [1, 3, 7])


def test_a_prompt_that_is_remembered_takes_no_place():
    row = forked_row([(5, [2, 1])], "cpu", memory={0: (np.zeros(0), np.zeros(0))})
    assert row.position_ids.tolist() == [[5, 6, 5]]
    assert row.ends.tolist() == [1, 2]
    (block,) = row.blocks
    assert block.prompts.tolist() == [[0, 1, 2, 3, 4]]  # where memory has them
    assert (block.queries.tolist(), block.own.tolist()) == ([[0, 1], [2, 2]], [[5, 6], [7, 7]])
    assert block.mask.shape == (1, 2, 7)


@pytest.mark.parametrize("limit", [1, 20, 8192])
def test_every_token_has_its_place_whatever_is_computed_at_once(limit, monkeypatch):
    monkeypatch.setattr(branches, "KEYS_AT_ONCE", limit)
    lengths = [3, 1, 7, 7, 2]
    row = forked_row([(4, lengths)], "cpu")
    _, *blocks = row.blocks
    assert sum(len(block.queries) for block in blocks) == len(lengths)
    assert all(b.mask.shape[2] * len(b.queries) <= limit or len(b.queries) == 1 for b in blocks)
    pieces = np.concatenate([block.queries.numpy().ravel() for block in row.blocks])
    assert pieces[row.order.numpy()].tolist() == list(range(4 + sum(lengths)))
