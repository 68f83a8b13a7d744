"""KL on a policy's own samples, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from rayflow.errors import DataError
from rayflow.evaluation.divergence import PolicyLogprobs, divergence


def sample(policy: list[float], sft: list[float], tokens: list[int], cut: bool = False) -> PolicyLogprobs:
    return PolicyLogprobs(np.array(policy), np.array(sft), np.array(tokens), np.full(len(policy), cut))


def test_it_is_the_mean_log_ratio_per_response_and_per_token():
    rows = [sample([-1.0, -2.0], [-2.0, -3.0], [4, 6]), sample([-5.0], [-8.0], [10], cut=True)]
    found = divergence(rows, num_resamples=100)
    assert found.nats == pytest.approx((1.0 + 3.0) / 2)  # prompts count the same
    assert found.nats_per_token == pytest.approx((1 + 1 + 3) / 20)
    assert (found.num_prompts, found.num_responses, found.cut) == (2, 3, pytest.approx(1 / 3))
    assert found.low == 1.0 and found.high == 3.0
    assert found.token_low == pytest.approx(2 / 10) and found.token_high == pytest.approx(3 / 10)


def test_the_same_model_has_none():
    rows = [sample([-1.0], [-1.0], [4]), sample([-7.0], [-7.0], [3])]
    found = divergence(rows, num_resamples=10)
    assert (found.nats, found.low, found.high, found.nats_per_token) == (0, 0, 0, 0)


def test_the_interval_covers_the_divergence_of_two_known_policies():
    rng, p, q = np.random.default_rng(0), np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
    truth = float(p @ np.log(p / q))
    hits = 0
    for trial in range(100):
        draws = rng.choice(3, size=(100, 4), p=p)
        rows = [PolicyLogprobs(np.log(p[d]), np.log(q[d]), np.ones(4), np.zeros(4, bool)) for d in draws]
        found = divergence(rows, seed=trial, num_resamples=500)
        hits += found.low <= truth <= found.high
    assert hits >= 88  # of 95 expected; fewer than 88 has probability 0.4%


def test_no_samples_are_an_error():
    with pytest.raises(DataError, match="needs samples"):
        divergence([])
