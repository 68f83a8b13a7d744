"""The pairing rules by reward: gap, all pairs, best against worst or against the worst of a few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.core.registry import FAMILIES, resolve
from rayflow.pairing.labels import by_reward

REWARDS = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=16).map(np.array)


def pairs(kind: str, accepted: object, rewards: object, **settings: object) -> list[list[int]]:
    rule = resolve("pairing", kind)
    rewards = np.array(rewards, float)
    made = rule(rule.Config(**settings)).pair(
        np.array(accepted, np.int32), rewards, np.random.default_rng(0), by_reward(rewards)
    )
    assert made.dtype == np.int32 and made.shape[1:] == (2,)
    return made.tolist()


@pytest.mark.parametrize("kind", sorted(FAMILIES["pairing"]))
@given(rewards=REWARDS, data=st.data())
def test_every_rule_pairs_the_accepted_only_and_prefers_the_higher_reward(
    kind: str, rewards: np.ndarray, data: st.DataObject
) -> None:
    accepted = data.draw(st.permutations(range(len(rewards))))[: data.draw(st.integers(0, len(rewards)))]
    for chosen, rejected in pairs(kind, accepted, rewards):
        assert {chosen, rejected} <= set(accepted)
        assert rewards[chosen] > rewards[rejected]


def test_gap_keeps_what_differs_by_more_than_tau_logit_eta() -> None:
    rewards = [0.0, 1.0, 3.0, 2.9]
    # logit(.8) = 1.386, so with tau = 1 the differences 3.0, 2.9, 2.0 and 1.9 pass, 1.0 and 0.1 do not
    assert sorted(pairs("gap", [0, 1, 2, 3], rewards, tau=1.0, eta=0.8)) == [[2, 0], [2, 1], [3, 0], [3, 1]]
    assert sorted(pairs("gap", [0, 1, 2, 3], rewards, tau=1.45, eta=0.8)) == [[2, 0], [3, 0]]


@given(rewards=REWARDS, tau=st.floats(0.3, 3), eta=st.floats(0.55, 0.95), scale=st.floats(0.5, 2))
def test_gap_depends_on_tau_logit_eta_only(rewards: np.ndarray, tau: float, eta: float, scale: float) -> None:
    logit = np.log(eta / (1 - eta)) * scale
    other = 1 / (1 + np.exp(-logit))
    differences = np.abs(rewards[:, None] - rewards[None, :])
    if np.any(np.isclose(differences, tau * np.log(eta / (1 - eta)), atol=1e-9)):
        return  # on the threshold rounding decides
    everyone = range(len(rewards))
    assert pairs("gap", everyone, rewards, tau=tau, eta=eta) == pairs(
        "gap", everyone, rewards, tau=tau / scale, eta=other
    )


@given(rewards=REWARDS)
def test_all_pairs_and_gap_at_one_half_are_the_same_and_at_most_k_choose_2(rewards: np.ndarray) -> None:
    everyone = range(len(rewards))
    made = pairs("all_pairs", everyone, rewards)
    assert made == pairs("gap", everyone, rewards, eta=0.5)
    assert len(made) <= len(rewards) * (len(rewards) - 1) // 2
    assert len({tuple(sorted(pair)) for pair in made}) == len(made)
    assert len(pairs("all_pairs", range(16), np.arange(16.0))) == 120


def test_best_worst_is_one_pair_or_none() -> None:
    assert pairs("best_worst", [3, 1, 2], [9.0, 0.5, 0.1, 0.2]) == [[1, 2]]
    assert pairs("best_worst", [0, 1], [1.0, 1.0]) == pairs("best_worst", [0], [1.0]) == []


def test_min_of_m_rejects_the_worst_of_m_random_others() -> None:
    rewards = np.arange(20.0)
    for m in (1, 5, 19, 50):
        rejected = []
        for seed in range(2000 if m == 5 else 20):
            rule = resolve("pairing", "min_of_m")
            made = rule(rule.Config(m=m)).pair(
                np.arange(20, dtype=np.int32), rewards, np.random.default_rng(seed), by_reward(rewards)
            )
            ((chosen, worst),) = made.tolist()
            assert chosen == 19 and worst < 19
            rejected.append(worst)
        if m == 5:  # the lowest of 5 drawn from 0..18 without replacement is (19 - 5) / (5 + 1) on average
            assert np.mean(rejected) == pytest.approx(14 / 6, abs=0.2)
        elif m > 5:
            assert set(rejected) == {0}
        else:
            assert len(set(rejected)) > 5


def test_min_of_m_is_one_pair_or_none() -> None:
    assert pairs("min_of_m", [3, 1], [9.0, 0.5, 0.1, 0.2]) == [[1, 3]]
    assert pairs("min_of_m", [0, 1], [1.0, 1.0]) == pairs("min_of_m", [0], [1.0]) == []
