"""The gate: each check can fail, each says why, noise excuses what a small sample cannot tell."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from rayflow.config.refresh import GateOptions
from rayflow.refresh.gate import Evidence, Verdict, judge
from rayflow.refresh.measure import Mean, Measures, compare, measure
from tests.refresh.conftest import DAYS, Nightly

GOOD = Measures(
    rows=1000,
    responses=16000,
    pairs=4000,
    reward=Mean(0.5, 0.001),
    reward_deviation=0.2,
    reward_range=(0.0, 1.0),
    tokens=Mean(40.0, 0.1),
    token_range=(1.0, 60.0),
    acceptance=Mean(0.3, 0.001),
    distinct=Mean(0.9, 0.001),
    paired=Mean(0.95, 0.001),
)
SEEN = Evidence(
    whole=GOOD,
    fresh=replace(GOOD, rows=500),
    before=GOOD,
    version=3,
    distances={"whole": 0.01, "fresh": 0.01},
    wanted=1000,
    failed=1,
    lost=0.01,
)


def failed(options: GateOptions, seen: Evidence) -> dict[tuple[str, str], Verdict]:
    return {(v.check, v.scope): v for v in judge(options, seen) if not v.passed}


def test_a_version_like_the_last_one_passes_every_check() -> None:
    verdicts = judge(GateOptions(max_acceptance_rate=0.9), SEEN)
    assert all(v.passed and not v.reason for v in verdicts)
    assert {v.check for v in verdicts} == set(GateOptions.model_fields)


BAD = {
    "max_reward_shift": (replace(GOOD, reward=Mean(0.7, 0.001)), "moved by 1.000 standard deviations"),
    "max_length_drift": (replace(GOOD, tokens=Mean(60.0, 0.1)), "became 50.0% longer"),
    "min_acceptance_rate": (replace(GOOD, acceptance=Mean(0.001, 0.0001)), "accepted 0.1% of its visits"),
    "max_acceptance_rate": (replace(GOOD, acceptance=Mean(0.99, 0.0001)), "accepted 99.0% of its visits"),
    "min_distinct": (replace(GOOD, distinct=Mean(0.1, 0.001)), "Only 10.0% of a prompt's candidates"),
    "min_paired": (replace(GOOD, paired=Mean(0.2, 0.001)), "Only 20.0% of the prompts have a pair"),
}


@pytest.mark.parametrize("check", BAD)
@pytest.mark.parametrize("scope", ["whole", "fresh"])
def test_each_mean_fails_in_its_own_scope_with_its_reason(check: str, scope: str) -> None:
    measures, words = BAD[check]
    found = failed(GateOptions(max_acceptance_rate=0.9), replace(SEEN, **{scope: measures}))
    assert set(found) == {(check, scope)}
    (verdict,) = found.values()
    assert words in verdict.reason and "is allowed" in verdict.reason


@pytest.mark.parametrize(
    ("check", "seen", "words"),
    [
        ("max_reward_distance", replace(SEEN, distances={"whole": 0.6}), "the distance is 0.600"),
        ("max_failure_rate", replace(SEEN, failed=100), "100 of 1,000 prompts could not be computed"),
        ("max_lost", replace(SEEN, lost=0.7), "70.0% of the prompts of version 3 are gone"),
        ("min_rows", replace(SEEN, whole=replace(GOOD, rows=0)), "has 0 rows; at least 1 are wanted"),
    ],
)
def test_what_is_counted_fails_with_its_reason(check: str, seen: Evidence, words: str) -> None:
    found = failed(GateOptions(), seen)
    assert {name for name, _ in found} == {check}
    assert all(words in verdict.reason for verdict in found.values())


@pytest.mark.parametrize("check", sorted(GateOptions.model_fields))
def test_a_check_that_is_switched_off_is_not_made(check: str) -> None:
    assert check not in {v.check for v in judge(GateOptions(**{check: None}), SEEN)}


def test_a_few_prompts_do_not_fail_by_chance() -> None:
    """One standard deviation off, but with an error as large: nothing is shown."""
    unsure = replace(GOOD, rows=4, reward=Mean(0.7, 0.15), tokens=Mean(60.0, 12.0))
    assert not failed(GateOptions(), replace(SEEN, fresh=unsure, distances={"whole": 0.0, "fresh": 0.5}))
    alone = replace(GOOD, rows=1, reward=Mean(9.0, math.inf), distinct=Mean(0.1, math.inf))
    verdicts = judge(GateOptions(), replace(SEEN, fresh=alone, distances={}))
    assert all(v.passed for v in verdicts)
    assert [v.noise for v in verdicts if (v.check, v.scope) == ("max_reward_shift", "fresh")] == [None]


def test_another_reward_is_named_as_a_reason_for_drift() -> None:
    seen = replace(SEEN, whole=replace(GOOD, reward=Mean(5.0, 0.001)), reward_changed=True)
    (verdict,) = failed(GateOptions(), seen).values()
    assert "another reward made its rows" in verdict.reason


def test_without_an_earlier_version_there_is_no_drift() -> None:
    checks = {v.check for v in judge(GateOptions(), Evidence(whole=GOOD, wanted=10))}
    assert checks == {
        "min_rows",
        "max_failure_rate",
        "min_acceptance_rate",
        "min_distinct",
        "min_paired",
    }


def batch(rewards: list[list[float]], attempt: str = "a") -> pa.RecordBatch:
    columns = {
        "prompt_id": [f"p{i}" for i in range(len(rewards))],
        "responses": [[f"r{r}" for r in row] for row in rewards],
        "rewards": rewards,
        "num_tokens": pa.array(
            [[2 * i + 1 for i in range(len(row))] for row in rewards], pa.list_(pa.int32())
        ),
        "acceptance_rate": [0.25 + 0.5 * (i % 2) for i in range(len(rewards))],
        "pairs": pa.array(
            [[[0, 1]] if len(set(row)) > 1 else [] for row in rewards], pa.list_(pa.list_(pa.int32()))
        ),
        "attempt": [attempt] * len(rewards),
    }
    return pa.RecordBatch.from_pydict(columns)


def test_measures_are_those_of_numpy_however_the_rows_are_cut() -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(50, 4)).round(1)
    cuts = np.split(rewards, [3, 4, 30])
    found = measure(batch(part.tolist()) for part in cuts)
    means = rewards.mean(axis=1)
    assert (found.rows, found.responses) == (50, 200)
    assert found.reward.value == pytest.approx(means.mean())
    assert found.reward.error == pytest.approx(means.std(ddof=1) / math.sqrt(50))
    assert found.reward_deviation == pytest.approx(rewards.std())
    assert found.distinct.value == pytest.approx(np.mean([len(set(row)) / 4 for row in rewards.tolist()]))
    assert found.reward_range == (rewards.min(), rewards.max())
    assert found.tokens.value == 4.0 and found.tokens.error == 0.0
    assert measure([]).rows == 0 and math.isnan(measure([]).reward.value)


def test_the_distance_of_two_distributions_is_scipys() -> None:
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(300, 8)), rng.normal(0.4, 1.3, size=(200, 8))
    sides = [(lambda _, x=x: [batch(x.tolist())], measure([batch(x.tolist())])) for x in (b, a)]
    found = compare("rewards", *sides)["whole"]
    assert found.distance == pytest.approx(ks_2samp(a.ravel(), b.ravel()).statistic, abs=2e-3)
    assert found.coarse().after.counts.sum() == b.size and found.coarse().before.counts.sum() == a.size


PROVOKED = {
    "max_reward_shift": ("reward.function=tests.refresh.test_gate:shifted",),
    "max_reward_distance": ("reward.function=tests.refresh.test_gate:shifted",),
    "max_length_drift": ("sample.max_tokens=200",),
    "min_acceptance_rate": ("refresh.gate.min_acceptance_rate=0.999",),
    "max_acceptance_rate": ("refresh.gate.max_acceptance_rate=0.01",),
    "max_failure_rate": ("sample.engine.fail_on=about 1", "sample.temperature=0.9"),
    "min_distinct": ("sample.engine.words=[good, bad]", "sample.max_tokens=6"),
    "min_paired": ("reward.function=tests.refresh.test_gate:level",),
    "max_lost": ("prompts.train.limit=5",),
    "min_rows": ("refresh.gate.min_rows=21",),
}


def shifted(prompt: str, response: str) -> float:
    """The tests' reward, much lower."""
    from tests.pipeline.conftest import cheerful

    return cheerful(prompt, response) - 3.0


def level(prompt: str, response: str) -> float:
    """No response is better than another: there are no pairs."""
    return 0.5


@pytest.mark.parametrize("check", sorted(GateOptions.model_fields))
def test_a_refresh_that_fails_a_check_is_held_back_for_that_reason(refreshed: Nightly, check: str) -> None:
    assert refreshed.run(DAYS[1], *PROVOKED[check], "sample.temperature=0.9") == 3
    newest = refreshed.root.records()[-1]
    assert check in {v["check"] for v in newest.verdicts if not v["passed"]}
    assert refreshed.root.latest == newest.baseline != newest.version
