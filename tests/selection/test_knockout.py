"""The knockout: a best candidate wins, after n - 1 games, and everyone has the same chance when all are equal."""

from __future__ import annotations

import numpy as np
import pytest

from rayflow.core.options import build
from rayflow.core.registry import resolve

RULE = build("selection", resolve("selection", "knockout").Config())


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64])
def test_the_highest_reward_wins(n):
    rewards = np.random.default_rng(n).permutation(n).astype(float)
    for seed in range(5):
        assert RULE.select_one(rewards, np.random.default_rng(seed)).tolist() == [rewards.argmax()]


@pytest.mark.parametrize("n", [2, 3, 7, 8, 64])
def test_a_winner_costs_one_game_less_than_there_are_players(n):
    played = []

    def prefer(games):
        played.extend(map(tuple, games.tolist()))
        return np.full(len(games), 0.9)

    winner = RULE.select_one(np.zeros(n), np.random.default_rng(0), prefer)
    assert len(played) == n - 1
    losers = [second for _, second in played]
    assert sorted([*losers, *winner.tolist()]) == list(range(n))


def test_equal_candidates_win_equally_often():
    seeds = np.arange(4000, dtype=np.uint64)
    chosen = RULE.select(np.zeros((4000, 5)), seeds).accepted
    counts = np.bincount(chosen, minlength=5)
    assert (
        (counts - 800) ** 2 / 800
    ).sum() < 18.5  # the 0.999 quantile of chi-square with 4 degrees of freedom
