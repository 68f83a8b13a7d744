"""Reference log-probabilities: recomputed, or the sampler's own, and the difference between the two."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.core.files import read_json
from rayflow.core.options import build
from rayflow.pipeline import commands
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.stage import read_rows
from rayflow.pipeline.stages.groups import _group
from rayflow.pipeline.stages.reference import ReferenceStage, SampledPairedTokens
from rayflow.training.groups import GroupFile, TrainingGroup
from rayflow.training.layout import has_plain_head
from rayflow.training.logprobs import response_logprobs
from rayflow.training.models import load_model
from rayflow.training.pack import pack
from rayflow.training.reference import ReferenceScorer
from rayflow.training.steps import loss_inputs
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
    plan = build_run_plan(RunConfig.model_validate(merged))
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
    summary = read_json(plan.config.root / "summary.json")
    assert summary["reference"]["mean_difference"] is None
    assert any("that the two agree is not shown" in note for note in summary["notes"])


def test_a_model_that_reads_the_prompt_for_every_response_is_reported_with_the_reason(settings, monkeypatch):
    monkeypatch.setattr("rayflow.core.branches.SHARED_FAMILIES", frozenset({"another"}))
    text = io.StringIO()
    plan = build_run_plan(RunConfig.model_validate(settings))
    commands.run(plan.config, Console(file=text, width=500))
    reason = "model family 'llama' is not among the tested ones (another)"
    assert f"Training reads the prompt anew for every response: {reason}." in text.getvalue()
    assert any(reason in note for note in read_json(plan.config.root / "summary.json")["notes"])
    monkeypatch.undo()
    shared = build_run_plan(RunConfig.model_validate({**settings, "name": "shared"}))
    commands.run(shared.config, Console(quiet=True))
    assert not any("anew" in note for note in read_json(shared.config.root / "summary.json")["notes"])


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


def loss_and_gradient(groups: list[TrainingGroup], model: str) -> tuple[float, torch.Tensor]:
    """Of one batch of all groups under DPO's loss: the sum, and the gradient of the embeddings."""
    network = load_model(model, "float32")
    batch = pack([group.branches for group in groups], shared=True)
    logprobs = response_logprobs(network, batch, head_only=has_plain_head(network.config))
    loss = build("loss", RunConfig.model_fields["train"].default.loss)
    total = loss(loss_inputs(groups, logprobs, batch.num_tokens)).sum()
    total.backward()
    return total.item(), network.get_input_embeddings().weight.grad


def test_responses_in_no_pair_cost_nothing_and_change_nothing(settings):
    plan = run({**settings, "pair": {"kind": "best_worst"}})
    stored = tables(plan)
    for reference, select, pair in zip(stored["reference"], stored["select"], stored["pair"], strict=True):
        paired = np.isin(select["accepted"], pair["pairs"])
        assert paired.sum() == 2 and len(paired) == 4
        assert np.isfinite(reference["ref_logprobs"]).tolist() == paired.tolist()
    kept = list(GroupFile(plan.artifacts["train"].folder / "groups.arrow"))
    assert {len(group.response_token_ids) for group in kept} == {2}

    plain = ReferenceStage(
        "all", ("sample", "select"), settings["model"], plan.config.reference, True, 3, None
    )
    plain.setup()
    sources = [plan.artifacts[name] for name in ("sample", "select", "pair")]
    rows = [row for i in range(sources[0].num_shards) for row in read_rows(sources, i, SampledPairedTokens)]
    whole = [
        replace(_group(row, np.arange(4)), ref_logprobs=made.ref_logprobs)
        for row, made in zip(rows, asyncio.run(plain.process(rows)), strict=True)
    ]
    assert {len(group.response_token_ids) for group in whole} == {4}
    before, after = (loss_and_gradient(groups, settings["model"]) for groups in (whole, kept))
    assert before[0] == pytest.approx(after[0], rel=1e-5)
    torch.testing.assert_close(after[1], before[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "inputs"),
    [
        ({"pair": {"kind": "best_worst"}}, ("sample", "select", "pair")),
        ({"pair": {"kind": "tournament"}}, ("sample", "select")),
        ({"pair": {"kind": "best_worst"}, "train": {"loss": {"kind": "lipo_lambda"}}}, ("sample", "select")),
    ],
)
def test_the_reference_waits_for_the_pairs_only_where_they_leave_much_out(settings, changes, inputs):
    stage = build_run_plan(RunConfig.model_validate({**settings, **changes})).stages["reference"]
    assert stage.inputs == inputs and stage.identity()["paired"] == ("pair" in inputs)
