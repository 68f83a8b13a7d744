"""The selection rules beside rejection sampling: their definitions, and the limits that connect them to it."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.core.registry import FAMILIES, resolve
from rayflow.selection.rejection import RejectionSampling

REWARDS = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=20).map(np.array)


def chosen(kind: str, rewards: object, seed: int = 0, **settings: object) -> list[int]:
    rule = resolve("selection", kind)
    selection = rule(rule.Config(**settings)).select(np.array(rewards, float), np.random.default_rng(seed))
    assert selection.num_rounds >= 1 and selection.num_visits >= len(selection.accepted)
    return selection.accepted.tolist()


@pytest.mark.parametrize("kind", sorted(FAMILIES["selection"]))
@given(rewards=REWARDS, seed=st.integers(0, 9))
def test_every_rule_gives_distinct_indices_and_the_same_again(
    kind: str, rewards: np.ndarray, seed: int
) -> None:
    accepted = chosen(kind, rewards, seed)
    assert len(set(accepted)) == len(accepted) > 0
    assert set(accepted) <= set(range(len(rewards)))
    assert accepted == chosen(kind, rewards, seed)


@pytest.mark.parametrize("kind", sorted(FAMILIES["selection"]))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_every_rule_refuses_a_reward_that_is_not_finite(kind: str, bad: float) -> None:
    with pytest.raises(ValueError, match="1 of 2 rewards are not finite .candidate 1"):
        chosen(kind, [0.0, bad])


@given(rewards=REWARDS, k=st.integers(1, 8))
def test_top_k_is_rejection_sampling_at_beta_0(rewards: np.ndarray, k: int) -> None:
    top = rewards[chosen("top_k", rewards, num_accepted=k)]
    limit = RejectionSampling(RejectionSampling.Config(beta=0, num_accepted=k))
    assert top.tolist() == rewards[limit.select(rewards, np.random.default_rng(1)).accepted].tolist()
    assert top.tolist() == sorted(rewards, reverse=True)[:k]


@given(rewards=REWARDS, k=st.integers(1, 8))
def test_first_k_is_rejection_sampling_in_order_at_a_large_beta(rewards: np.ndarray, k: int) -> None:
    limit = RejectionSampling(RejectionSampling.Config(beta=1e12, num_accepted=k, shuffle=False))
    expected = limit.select(rewards, np.random.default_rng(1)).accepted.tolist()
    assert chosen("first_k", rewards, num_accepted=k) == expected == list(range(min(k, len(rewards))))


def test_all_is_all() -> None:
    assert chosen("all", [3.0, 1.0, 2.0]) == [0, 1, 2]


def test_the_first_of_gumbel_is_softmax_and_the_second_softmax_of_the_rest() -> None:
    draws = [tuple(chosen("gumbel", [0, 1, 2], seed, beta=1.0, num_accepted=2)) for seed in range(20_000)]
    first = Counter(draw[0] for draw in draws)
    weights = np.exp([0.0, 1.0, 2.0])
    for index, probability in enumerate(weights / weights.sum()):  # .0900, .2447, .6652
        assert first[index] / len(draws) == pytest.approx(probability, abs=0.012)
    after_2 = [second for one, second in draws if one == 2]
    assert after_2.count(1) / len(after_2) == pytest.approx(math.e / (1 + math.e), abs=0.015)


def test_gumbel_does_not_overflow() -> None:
    assert chosen("gumbel", [1e308, -1e308, 0.0], beta=1e-3, num_accepted=1) == [0]
