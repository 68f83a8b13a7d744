"""The theorem behind DPO and RSO, on a table: from Bradley-Terry labels the optimum is the tilted SFT policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.helpers import inputs, make

GAMMA = 0.5


def pair_weights(rng: np.random.Generator, n: int) -> dict[tuple[int, int], float]:
    """A random distribution over unordered pairs whose graph is connected: a random tree, and some edges more."""
    order = rng.permutation(n)
    edges = {tuple(sorted((order[i], order[rng.integers(i)]))) for i in range(1, n)}
    edges |= {(a, b) for a in range(n) for b in range(a) if rng.random() < 0.3 and (b, a) not in edges}
    weights = rng.dirichlet(np.ones(len(edges)) * 5)
    return dict(zip(sorted(edges), weights, strict=True))


def labelled_pairs(weights: dict[tuple[int, int], float], rewards: np.ndarray):
    """Both labels of every pair, with the probability of drawing the pair and getting the label."""
    rows = [
        (pair, weight / (1 + np.exp(rewards[pair[1]] - rewards[pair[0]])))
        for (a, b), weight in weights.items()
        for pair in ((a, b), (b, a))
    ]
    pairs, probabilities = zip(*rows, strict=True)
    return pairs, torch.tensor(probabilities)


def minimiser(loss, reference: torch.Tensor, pairs, probabilities: torch.Tensor) -> torch.Tensor:
    """[n] log-probabilities of the policy with the least expected loss, by L-BFGS from the reference."""
    logits = reference.clone().requires_grad_()
    example = inputs(reference, reference, pairs)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        expected = (probabilities * loss(replace(example, logprobs=logits.log_softmax(0)))).sum()
        expected.backward()
        return expected

    optimizer.step(closure)
    return logits.detach().log_softmax(0)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
@settings(max_examples=15)
def test_the_sigmoid_norm_optimum_is_the_tilted_sft_policy_for_any_connected_pairs(seed, n):
    rng = np.random.default_rng(seed)
    reference, rewards = torch.tensor(np.log(rng.dirichlet(np.ones(n) * 3))), rng.uniform(-1, 1, n)
    pairs, probabilities = labelled_pairs(pair_weights(rng, n), rewards)
    found = minimiser(make("sigmoid_norm", gamma=GAMMA), reference, pairs, probabilities)
    expected = (reference + torch.tensor(rewards) / GAMMA).log_softmax(0)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_pairs_that_fall_apart_into_two_sets_leave_their_balance_where_it_was():
    """The counterexample: without a pair between them, nothing compares {0, 1} with {2, 3}."""
    reference, rewards = torch.full((4,), 0.25).double().log(), np.array([0.0, 1.0, 2.0, 3.0])
    pairs, probabilities = labelled_pairs({(0, 1): 0.5, (2, 3): 0.5}, rewards)
    found = minimiser(make("sigmoid_norm", gamma=GAMMA), reference, pairs, probabilities)
    assert (found[1] - found[0]).item() == pytest.approx(1 / GAMMA, abs=1e-4)
    assert (found[3] - found[2]).item() == pytest.approx(1 / GAMMA, abs=1e-4)
    assert (found[2] - found[0]).item() == pytest.approx(0, abs=1e-4)  # not 2 / GAMMA


def test_hinge_norm_overshoots_the_tilted_policy():
    """It is a classifier: with every pair it can win, it pushes to the margin 1 / gamma, whatever the rewards."""
    reference, rewards = torch.tensor([0.5, 0.5]).double().log(), np.array([0.3, 0.0])
    pairs, probabilities = labelled_pairs({(0, 1): 1.0}, rewards)
    found = minimiser(make("hinge_norm", gamma=GAMMA), reference, pairs, probabilities)
    assert (found[0] - found[1]).item() == pytest.approx(1 / GAMMA, abs=1e-3)
