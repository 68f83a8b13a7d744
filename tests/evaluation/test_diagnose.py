"""The whole diagnosis from arrays: what is averaged, what is recommended, what is refused."""

import math

import numpy as np
import pytest

from rayflow.errors import ConfigError, DataError
from rayflow.evaluation import importance
from rayflow.evaluation.diagnose import Sample, Settings, diagnose

NUM_PROMPTS, N = 300, 32


def rewards(num_prompts: int = NUM_PROMPTS, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_prompts, 1)) * 5 + rng.normal(size=(num_prompts, N))


def sample_of(values: np.ndarray, **changes) -> Sample:
    """Lengths that follow the rewards exactly, texts all different."""
    order = np.argsort(np.argsort(values, axis=1), axis=1)
    return Sample(**{"rewards": values, "lengths": 10 + order, "texts": order} | changes)


def take_best(values: np.ndarray, beta: float):
    """A stand-in rule whose outcome is plain: the 4 highest rewards in 2 passes, or the first 4 in 1."""
    if beta > 10:
        return [np.arange(4)] * len(values), np.ones(len(values))
    return list(np.argsort(-values, axis=1)[:, :4]), np.full(len(values), 2)


def run(values=None, sample=None, **settings):
    values = rewards() if values is None else values
    return diagnose(
        lambda: iter(np.array_split(values, 7)),
        len(values),
        sample or sample_of(values),
        take_best,
        Settings(**{"num_accepted": 4} | settings),
    )


def test_every_number_is_the_mean_over_prompts_whatever_the_batches():
    values = rewards()
    found = run(values, betas=(2.0, 0.7))
    point = next(p for p in found.points if p.beta == 0.7)
    direct = importance.estimate(values, 0.7)
    for name in ("reward", "gain", "kl", "ess", "acceptance"):
        interval = getattr(point, name)
        assert interval.mean == pytest.approx(getattr(direct, name).mean())
        assert interval.low < interval.mean < interval.high
    assert found.sft.reward.mean == pytest.approx(values.mean())
    assert found.best_of[-1].reward.mean == pytest.approx(values.max(axis=1).mean())
    assert [p.count for p in found.best_of] == [1, 2, 4, 8, 16, 32]
    assert [p.count for p in found.top_k] == [32, 16, 8, 4, 2, 1]


def test_gains_are_paired_so_their_interval_ignores_how_hard_prompts_are():
    found = run()
    spread = found.choice.reward.high - found.choice.reward.low
    assert found.choice.gain.high - found.choice.gain.low < spread / 5


def test_the_recommended_beta_is_the_smallest_of_two_digits_within_the_budget():
    values = rewards()
    found = run(values, kl_budget=0.4)
    assert found.choice.kl.mean <= 0.4
    below = found.recommended - 10.0 ** (math.floor(math.log10(found.recommended)) - 1)
    assert importance.estimate(values, below).kl.mean() > 0.4
    assert run(values).kl_budget == pytest.approx(0.5 * math.log(32 / 4))


def test_the_recommendation_does_not_depend_on_the_betas_that_are_shown():
    wide, narrow = run(), run(betas=(5.0,), own_beta=0.25)
    assert narrow.recommended == wide.recommended
    assert [p.beta for p in narrow.points] == sorted({5.0, 0.25, wide.recommended}, reverse=True)
    assert narrow.choice == wide.choice


def test_a_budget_beyond_what_n_candidates_can_show_ends_at_beta_zero_which_is_not_trusted():
    found = run(kl_budget=5.0)
    assert found.recommended == 0 and found.choice.kl.mean == pytest.approx(math.log(N))
    assert not found.choice.trusted and found.sft.trusted


def test_rewards_in_another_unit_give_the_same_recommendation_in_that_unit():
    here, there = run(), run(1000 * rewards())
    assert there.recommended == pytest.approx(1000 * here.recommended)
    assert there.choice.kl.mean == pytest.approx(here.choice.kl.mean)


def test_outcomes_are_those_of_the_rule_that_was_passed_in():
    values = rewards()
    texts = np.zeros((NUM_PROMPTS, N), int)
    texts[:, :2] = [1, 2]
    found = run(values, sample_of(values, texts=texts), betas=(1.0, 50.0))
    best = next(p for p in found.points if p.beta == 1.0).outcome
    assert best.rounds.mean == 2
    assert best.reward.mean == pytest.approx(np.sort(values, axis=1)[:, -4:].mean())
    assert best.tokens.mean == pytest.approx(10 + np.mean([N - 1, N - 2, N - 3, N - 4]))
    first = next(p for p in found.points if p.beta == 50.0).outcome
    assert (first.rounds.mean, first.distinct.mean) == (1, 3)  # texts 1, 2, 0, 0
    assert found.distinct_candidates == 3


def test_length_correlation_is_within_prompts_and_overall():
    values = rewards()
    found = run(values).length
    assert found.spearman_within.mean == pytest.approx(1)
    # Overall the prompts' own levels, which have nothing to do with length, hide most of it.
    assert 0 < found.spearman < 0.4 and found.num_prompts == NUM_PROMPTS
    lengths = np.full((NUM_PROMPTS, N), 7)
    constant = run(values, sample_of(values, lengths=lengths)).length
    assert math.isnan(constant.spearman_within.mean) and math.isnan(constant.pearson)
    assert constant.num_prompts == 0


def test_the_same_seed_gives_the_same_numbers():
    assert run(seed=4) == run(seed=4)
    assert run(seed=4).choice.gain.low != run(seed=5).choice.gain.low


def test_settings_that_leave_nothing_to_choose_are_refused():
    with pytest.raises(ConfigError, match="Use --num-accepted below 32"):
        run(num_accepted=32)
    with pytest.raises(ConfigError, match="beta must be a number >= 0"):
        run(betas=(-1.0,))
    with pytest.raises(ConfigError, match="at least 0.001 nats"):
        run(kl_budget=0.0)
    with pytest.raises(DataError, match="same reward"):
        run(np.repeat(np.arange(5.0)[:, None] / 10, N, axis=1))
