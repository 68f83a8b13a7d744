"""The selection rules beside rejection sampling, and what holds for every rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rayflow.core.registry import FAMILIES
from rayflow.selection.base import PerRow
from rayflow.selection.batch import BLOCK_ELEMENTS
from rayflow.selection.threshold import Threshold
from tests.selection.chi_square import LIMIT, surprise
from tests.selection.helpers import chosen, outcomes, row_seeds, select

EVERY_RULE = pytest.mark.parametrize("kind", sorted(FAMILIES["selection"]))
REWARDS = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=20)


@EVERY_RULE
@given(rewards=REWARDS, seed=st.integers(0, 9))
def test_every_rule_gives_distinct_indices_and_the_same_again(kind: str, rewards: list, seed: int) -> None:
    accepted = chosen(kind, rewards, seed)
    assert len(set(accepted)) == len(accepted) > 0
    assert set(accepted) <= set(range(len(rewards)))
    assert accepted == chosen(kind, rewards, seed)


@EVERY_RULE
@given(st.integers(1, 9), st.data())
def test_a_row_is_decided_alike_alone_and_in_any_batch(kind: str, n: int, data) -> None:
    rows = data.draw(st.lists(st.lists(st.floats(-3, 3), min_size=n, max_size=n), min_size=1, max_size=6))
    seeds = np.arange(len(rows), dtype=np.uint64)
    together = outcomes(select(kind, rows, seeds))
    order = data.draw(st.permutations(range(len(rows))))
    assert outcomes(select(kind, np.array(rows)[order], seeds[order])) == [together[i] for i in order]
    assert [outcomes(select(kind, row, seed))[0] for row, seed in zip(rows, seeds, strict=True)] == together


@EVERY_RULE
def test_a_batch_of_many_blocks_is_its_rows(kind: str) -> None:
    n = 500
    count = 2 * (BLOCK_ELEMENTS // n) + 3
    rewards, seeds = np.random.default_rng(0).normal(size=(count, n)), row_seeds(count)
    selection = select(kind, rewards, seeds)
    assert len(selection) == len(selection.per_prompt()) == count
    assert selection.num_accepted.sum() == len(selection.accepted)
    together = outcomes(selection)
    for i in (0, count // 2, count - 1):
        assert outcomes(select(kind, rewards[i], seeds[i])) == [together[i]]


@EVERY_RULE
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_every_rule_refuses_a_reward_that_is_not_finite(kind: str, bad: float) -> None:
    with pytest.raises(ValueError, match="1 of 4 rewards are not finite .row 1, candidate 0"):
        select(kind, [[0.0, 1.0], [bad, 1.0]], [1, 2])


@given(rewards=REWARDS, k=st.integers(1, 8))
def test_top_k_is_rejection_sampling_at_beta_0(rewards: list, k: int) -> None:
    top = [rewards[i] for i in chosen("top_k", rewards, num_accepted=k)]
    limit = chosen("rejection", rewards, beta=0, num_accepted=k)
    assert top == [rewards[i] for i in limit] == sorted(rewards, reverse=True)[:k]


def test_top_k_breaks_ties_at_random() -> None:
    firsts = select("top_k", np.ones((20_000, 4)), row_seeds(20_000), num_accepted=1).accepted
    assert surprise(np.bincount(firsts, minlength=4), np.full(4, 0.25)) < LIMIT


@given(rewards=REWARDS, k=st.integers(1, 8))
def test_first_k_is_rejection_sampling_in_order_at_a_large_beta(rewards: list, k: int) -> None:
    limit = chosen("rejection", rewards, beta=1e12, num_accepted=k, shuffle=False)
    assert chosen("first_k", rewards, num_accepted=k) == limit == list(range(min(k, len(rewards))))


def test_all_is_all() -> None:
    assert chosen("all", [3.0, 1.0, 2.0]) == [0, 1, 2]


def test_gumbel_is_softmax_sampling_without_replacement() -> None:
    """First softmax, then softmax over the rest: six ordered pairs."""
    rewards, count = np.array([0.0, 1.0, 2.0]), 50_000
    pairs = select(
        "gumbel", np.tile(rewards, (count, 1)), row_seeds(count), beta=1.0, num_accepted=2
    ).accepted
    weights = np.exp(rewards) / np.exp(rewards).sum()  # .0900, .2447, .6652
    law = weights[:, None] * weights / (1 - weights[:, None])
    np.fill_diagonal(law, 0)
    first, second = pairs.reshape(-1, 2).T
    assert surprise(np.bincount(first * 3 + second, minlength=9), law.ravel()) < LIMIT
    # Rejection sampling over the same three is another law, and that shows.
    other = select("rejection", np.tile(rewards, (count, 1)), row_seeds(count), beta=1.0, num_accepted=1)
    assert surprise(np.bincount(other.accepted, minlength=3), weights) > 2 * LIMIT


@given(
    rewards=st.lists(st.integers(-40, 40), min_size=1, max_size=20),
    shift=st.integers(-99, 99),
    scale=st.sampled_from([0.25, 2.0, 64.0]),
)
def test_gumbel_sees_differences_in_units_of_beta_only(rewards: list, shift: int, scale: float) -> None:
    base = chosen("gumbel", rewards, beta=0.5)
    assert chosen("gumbel", np.array(rewards) + shift, beta=0.5) == base
    assert chosen("gumbel", np.array(rewards) * scale, beta=0.5 * scale) == base


@pytest.mark.filterwarnings("error")
def test_gumbel_does_not_overflow() -> None:
    assert chosen("gumbel", [1e308, -1e308, 0.0], beta=1e-3, num_accepted=1) == [0]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, [1, 4]),  # scaled per prompt: 0, 1, .5, .7, .8; .7 is not above .7
        ({"threshold": 0.45}, [1, 2, 3, 4]),
        ({"threshold": 0.0}, [1, 2, 3, 4]),
        ({"threshold": 0.99}, [1]),
        ({"scale": "global", "low": -10, "high": 30, "threshold": 0.35}, [1, 4]),  # .25 .5 .375 .425 .45
        ({"scale": "none", "threshold": 7}, [1, 4]),
        ({"scale": "none", "threshold": 10}, []),
    ],
)
def test_threshold_keeps_what_is_above_it_in_the_order_of_sampling(settings: dict, kept: list[int]) -> None:
    if settings.get("scale") == "global":
        settings = {**settings, "threshold": 0.43}
    assert chosen("threshold", [0.0, 10.0, 5.0, 7.0, 8.0], **settings) == kept


def test_threshold_scales_each_prompt_by_itself() -> None:
    rows = [[0.0, 1.0, 0.9], [100.0, 0.0, 90.0], [5.0, 5.0, 5.0]]
    selection = select("threshold", rows, [0, 0, 0], threshold=0.8)
    assert [a.tolist() for a in selection.per_prompt()] == [[1, 2], [0, 2], [0, 1, 2]]
    assert selection.num_visits.tolist() == [3, 3, 3]


@given(
    rewards=st.lists(st.integers(-40, 40), min_size=1, max_size=20),
    shift=st.integers(-99, 99),
    scale=st.sampled_from([0.25, 2.0, 64.0]),
    thresholds=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
)
def test_threshold_ignores_the_scale_and_a_higher_one_keeps_fewer(
    rewards: list, shift: int, scale: float, thresholds: tuple[float, float]
) -> None:
    low, high = sorted(thresholds)
    kept = chosen("threshold", rewards, threshold=low)
    assert chosen("threshold", (np.array(rewards) + shift) * scale, threshold=low) == kept
    assert set(chosen("threshold", rewards, threshold=high)) <= set(kept)
    assert rewards.index(max(rewards)) in chosen("threshold", rewards, threshold=high)


@pytest.mark.filterwarnings("error")
def test_threshold_does_not_overflow() -> None:
    assert chosen("threshold", [1.7e308, -1.7e308, 1e308]) == [0, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": "global", "low": 1}, "give both, or neither"),
        ({"scale": "global", "low": 1, "high": 1}, "'low' must be below 'high'"),
        ({"scale": "global", "shortfall": "resample"}, "would move a measured range"),
        ({"scale": "prompt", "shortfall": "resample"}, "its best is always kept"),
        ({"low": 0, "high": 1}, "belong to scale 'global'"),
        ({"threshold": 1.0}, r"must be in \[0, 1\)"),
    ],
)
def test_threshold_says_which_settings_do_not_fit(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Threshold.Config(**settings)


def test_a_range_that_is_to_be_measured_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="has not been measured"):
        select("threshold", [[0.0, 1.0]], scale="global")


class Every(PerRow):
    """A user's rule, said for one prompt: every candidate above a random one."""

    def select_one(self, rewards: np.ndarray, rng: np.random.Generator) -> list[int]:
        return np.flatnonzero(rewards >= rewards[rng.integers(len(rewards))]).tolist()


def test_a_rule_for_one_prompt_is_a_rule_for_many() -> None:
    rewards, seeds = np.random.default_rng(0).normal(size=(30, 12)), row_seeds(30)
    rule = Every(
        Every.Config(kind="tests.selection.test_simple:Every")
    )  # settings of its own are not asked for
    together = outcomes(rule.select(rewards, seeds))
    alone = [outcomes(rule.select(rewards[i : i + 1], seeds[i : i + 1]))[0] for i in range(30)]
    assert together == alone and len(set(together)) > 20
    assert {visits for _, visits, *_ in together} == {12}


@pytest.mark.parametrize("wrong", [[0, 0], [-1], [3]])
def test_a_rule_for_one_prompt_cannot_return_what_is_not_there(wrong: list[int]) -> None:
    class Wrong(PerRow):
        def select_one(self, rewards: np.ndarray, rng: np.random.Generator) -> list[int]:
            return wrong

    with pytest.raises(ValueError, match="distinct indices of the 3 candidates"):
        Wrong(Wrong.Config(kind="wrong")).select(np.zeros((2, 3)), row_seeds(2))
