"""Fills an evaluation's report from the artifacts: whatever is committed is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from rayflow.config.evaluate import EvaluateConfig, SideOptions
from rayflow.core.evaluation_rows import Answers
from rayflow.evaluation.measures import Measures
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.report import NUM_SAMPLES, created, failures_of, model_name, timing_of, title, versions
from rayflow.pipeline.report_answers import samples_section
from rayflow.pipeline.report_columns import cut_share
from rayflow.pipeline.stage import read_rows
from rayflow.pipeline.stages.measure import MeasureStage, PlainSamples, answered_rows, judged_rows
from rayflow.report.evaluation import EvaluationReport, Sides, lead, write_evaluation

Pairs = Sequence[tuple[Answers, Answers]]


def report(plan: Plan) -> tuple[Path, str]:
    """Write `report.html` and `summary.json` into the evaluation's folder.

    Returns:
        The page's path, and the result in a sentence or two.
    """
    data = collect(plan)
    return write_evaluation(data, plan.config.root), lead(data)


def collect(plan: Plan) -> EvaluationReport:
    """Everything that the report shows."""
    config, stage = plan.config, plan.stages["measure"]
    done = {name: a for name, a in plan.artifacts.items() if a.committed}
    measured = "measure" in done
    answers = {n: answered_rows(v, plan.artifacts) for n, v in stage.verdicts.items()} if measured else {}
    first: Pairs = next(iter(answers.values()), [])
    if measured and stage.judged and not answers:
        first = judged_rows(plan.stages[stage.judged], plan.artifacts)
    policy, baseline = _called(config.policy), _called(config.baseline)
    if policy == baseline:  # two folders of one name
        policy, baseline = f"policy ({policy})", f"baseline ({baseline})"
    judge = config.side_by_side
    return EvaluationReport(
        name=config.name,
        created=created(config),
        policy=policy,
        baseline=baseline,
        sft=model_name(config.model),
        prompts=Path(config.prompts.path).name,
        sampling=_sampling(config),
        rewards={name: title(reward) for name, reward in config.rewards.items()},
        judge=f"{title(judge.judge)}, template {Path(judge.template).name}" if judge else "",
        measures=_measures(done["measure"].manifest().extra["measures"]) if measured else None,
        values={name: _sides(rows, lambda row: row.rewards) for name, rows in answers.items()},
        lengths=_sides(first, lambda row: np.array([len(ids) for ids in row.token_ids])) if first else None,
        policy_cut=_cut(plan, "policy") if measured else None,
        baseline_cut=_cut(plan, "baseline") if measured else None,
        log_ratios=_log_ratios(plan, stage) if measured and stage.divergent else None,
        samples=samples_section(first, NUM_SAMPLES, config.seed) if first else None,
        failures=tuple(f for name, artifact in done.items() for f in failures_of(name, artifact)),
        timings=tuple(timing_of(artifact) for artifact in done.values()),
        config_yaml=config.to_yaml(),
        versions=versions(),
    )


def _measures(stored: dict[str, Any]) -> Measures:
    return TypeAdapter(Measures).validate_python(stored)


def _called(side: SideOptions) -> str:
    """A side as a reader calls it."""
    if side.sft:
        return "SFT policy"
    if side.target:
        return "targets"
    return model_name(side.run or side.model or (side.responses.path if side.responses else ""))


def _sampling(config: EvaluateConfig) -> str:
    drawn = config.sample
    kept = f", top_k {drawn.top_k}" if drawn.top_k else ""
    kept += f", top_p {drawn.top_p:g}" if drawn.top_p < 1 else ""
    more = f" ({drawn.num_baseline_candidates} of the baseline)" if drawn.num_baseline_candidates else ""
    number = f"{drawn.num_candidates} per prompt{more}"
    return f"{number}, temperature {drawn.temperature:g}{kept}, {drawn.max_tokens} tokens"


def _sides(rows: Pairs, value: Any) -> Sides:
    policy, baseline = (np.concatenate([value(pair[side]) for pair in rows]) for side in (0, 1))
    return Sides(policy=policy, baseline=baseline)


def _cut(plan: Plan, side: str) -> float | None:
    """The share of a side's responses that were cut, on the prompts of the first reward, or of the judge."""
    stage = plan.stages["measure"]
    for verdict in stage.verdicts.values():
        return cut_share([plan.artifacts[name] for name in (*getattr(verdict, side), verdict.name)])
    judge = plan.stages[stage.judged]
    _, baseline, policy = judge.inputs
    return cut_share([plan.artifacts[policy if side == "policy" else baseline], plan.artifacts[judge.name]])


def _log_ratios(plan: Plan, stage: MeasureStage) -> np.ndarray:
    assert stage.divergent is not None
    samples = plan.artifacts[stage.divergent.samples]

    def logprobs(name: str) -> dict[str, np.ndarray]:
        sources = [samples, plan.artifacts[name]]
        shards = range(samples.num_shards)
        rows = (row for index in shards for row in read_rows(sources, index, PlainSamples))
        return {row.prompt_id: row.exact_logprobs for row in rows}

    policy, sft = logprobs(stage.divergent.policy), logprobs(stage.divergent.sft)
    return np.concatenate([values - sft[name] for name, values in policy.items() if name in sft])
