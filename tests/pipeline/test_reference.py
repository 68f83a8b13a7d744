"""Reference log-probabilities: recomputed, or the sampler's own, and the difference between the two."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.core.files import read_json
from rayflow.pipeline import commands
from rayflow.pipeline.plan import Plan, build_plan
from rayflow.training.reference import ReferenceScorer
from tests.pipeline.helpers import tables


@pytest.fixture
def settings(settings: dict, tiny_model: str) -> dict:
    """The small run of these tests, sampled for real, so that the engine's log-probabilities mean something."""
    return {
        **settings,
        "model": tiny_model,
        "sample": {
            "engine": {"kind": "transformers", "dtype": "float32"},
            "num_candidates": 8,
            "max_tokens": 6,
        },
        "train": {"batch_size": 4, "learning_rate": 1e-3, "precision": "float32"},
        "reference": {"precision": "float32"},
    }


def run(settings: dict, **reference: object) -> Plan:
    merged = {**settings, "reference": {**settings["reference"], **reference}}
    plan = build_plan(RunConfig.model_validate(merged))
    commands.run(plan.config, Console(quiet=True))
    return plan


def of_accepted(plan: Plan) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(reference, sampler, difference) of every prompt's accepted responses."""
    stored = tables(plan)
    rows = zip(stored["reference"], stored["sample"], stored["select"], strict=True)
    return [
        (
            np.array(reference["ref_logprobs"], np.float64),
            np.array(sample["logprobs"], np.float64)[select["accepted"]],
            np.array(reference["sampler_differences"], np.float64),
        )
        for reference, sample, select in rows
    ]


def test_recomputed_values_are_used_and_compared_with_the_samplers(settings):
    plan = run(settings)
    for reference, sampler, difference in of_accepted(plan):
        np.testing.assert_allclose(reference, sampler, atol=1e-3)
        np.testing.assert_allclose(difference, reference - sampler, atol=1e-4)
    summary = read_json(plan.config.root / "summary.json")["reference"]
    assert summary["num_compared"] == 4 * len(of_accepted(plan))
    assert 0 <= summary["mean_difference"] <= summary["max_difference"] < 1e-3


def test_the_samplers_values_cost_no_pass_of_the_reference(settings, monkeypatch):
    def refuse(self: ReferenceScorer) -> None:
        raise AssertionError("the reference model was loaded")

    monkeypatch.setattr(ReferenceScorer, "setup", refuse)
    plan = run(settings, source="sampler", check_fraction=0.0)
    for reference, sampler, difference in of_accepted(plan):
        assert reference.tolist() == sampler.tolist()
        assert np.isnan(difference).all()
    assert read_json(plan.config.root / "summary.json")["reference"]["mean_difference"] is None


def test_a_share_of_the_prompts_is_recomputed_all_the_same(settings):
    plan = run(settings, source="sampler", check_fraction=0.5)
    rows = of_accepted(plan)
    checked = [np.isfinite(difference).all() for _, _, difference in rows]
    assert 0 < sum(checked) < len(rows)
    assert all(reference.tolist() == sampler.tolist() for reference, sampler, _ in rows)


def test_a_sampler_that_computes_another_function_is_reported(settings):
    settings["sample"]["engine"] = {"kind": "fake", "max_model_len": 256}
    plan = run(settings, source="sampler", check_fraction=1.0)
    summary = read_json(plan.config.root / "summary.json")
    assert summary["reference"]["mean_difference"] > 0.5
    assert any("do not compute the same function" in note for note in summary["notes"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "direct", "select": None, "pair": None}, "is always recomputed"),
        ({"sample": {"model": "another"}}, "names another one"),
    ],
)
def test_the_sampler_must_be_the_reference(settings, changes, message):
    settings["reference"]["source"] = "sampler"
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate({**settings, **changes})
