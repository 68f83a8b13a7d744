"""LiPO-lambda against its formula written out with loops, and at the start, where all scores are equal."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, permutations
from statistics import mean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.helpers import inputs, make, random_inputs, value_and_gradient

LOSS = make("lipo_lambda", gamma=0.05, labels="reward")
seeds = st.integers(0, 2**32 - 1)


def written_out(scores: list[float], labels: list[float], order: tuple[int, ...]) -> float:
    """Eq 8 of the paper for one group; `order` lists its responses from rank 1 on."""
    rank = {response: place + 1 for place, response in enumerate(order)}
    total = 0.0
    for i, psi_i in enumerate(labels):
        for j, psi_j in enumerate(labels):
            if psi_i > psi_j:
                gain = abs((2**psi_i - 1) - (2**psi_j - 1))
                discount = abs(1 / math.log2(1 + rank[i]) - 1 / math.log2(1 + rank[j]))
                total += gain * discount * math.log1p(math.exp(scores[j] - scores[i]))
    return total


def orders(scores: list[float]) -> list[tuple[int, ...]]:
    """Every order in which the scores fall."""
    every = permutations(range(len(scores)))
    return [order for order in every if all(scores[a] >= scores[b] for a, b in pairwise(order))]


@given(seeds)
def test_every_group_is_the_papers_formula(seed):
    example = random_inputs(seed)
    items = LOSS(example)
    scores = 0.05 * (example.logprobs - example.ref_logprobs)
    for group in range(example.num_groups):
        own = example.groups == group
        s, psi = scores[own].tolist(), example.rewards[own].tolist()
        (order,) = orders(s)
        assert items[group].item() == pytest.approx(written_out(s, psi, order), abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=2, max_size=5))
@settings(max_examples=60)
def test_equal_scores_are_taken_in_all_orders_alike(responses):
    ratios, levels = zip(*responses, strict=True)
    rewards = [level / 3 for level in levels]
    example = inputs(
        torch.tensor(ratios, dtype=torch.float64), [0.0] * len(ratios), rewards=rewards, pairs=[]
    )
    scores = (0.05 * example.logprobs).tolist()
    expected = mean(written_out(scores, example.rewards.tolist(), order) for order in orders(scores))
    assert LOSS(example).item() == pytest.approx(expected, abs=1e-6)


def test_training_starts_although_the_policy_is_the_reference():
    example = inputs([-12.0, -14.0, -9.0], [-12.0, -14.0, -9.0], rewards=[0.9, 0.1, 0.5], pairs=[])
    items, gradient = value_and_gradient(LOSS, example)
    assert items.item() > 0
    best, worst, middle = gradient.tolist()
    assert best < middle < worst and best < 0 < worst
    assert sum(gradient.tolist()) == pytest.approx(0, abs=1e-6)


def test_two_responses_are_dpo_with_one_weight():
    example = inputs([-12.0, -14.0], [-12.5, -13.2], rewards=[1.0, 0.0])
    # Labels: (1/2 + s(1)) / 2 and (s(-1) + 1/2) / 2; ranks 1 and 2.
    gain = 2**0.6155293 - 2**0.3844707
    weight = gain * (1 - 1 / math.log2(3))
    loss = make("lipo_lambda", gamma=0.05)
    assert loss(example).item() == pytest.approx(weight * 0.661175, abs=1e-6)


@given(seeds, st.floats(-100, 100))
def test_win_probabilities_do_not_depend_on_the_zero_of_the_rewards(seed, shift):
    example = random_inputs(seed)
    moved = replace(example, rewards=example.rewards + shift)
    torch.testing.assert_close(make("lipo_lambda")(moved), make("lipo_lambda")(example))
