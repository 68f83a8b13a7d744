"""What both policies said to the held-out prompts, as the reports show it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rayflow.config import RunConfig
from rayflow.core.evaluation_rows import Answered, Answers
from rayflow.core.model_folder import resolve_model
from rayflow.core.options import build
from rayflow.core.seeds import derive
from rayflow.losses.base import needs
from rayflow.pipeline.candidates import learns_rewards
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.report_columns import cut_share
from rayflow.report.data import EvaluationSection, Sample, SamplesSection, draw
from rayflow.report.overlap import Overlap


def evaluation_section(plan: Plan, shared: Sequence[Overlap]) -> EvaluationSection:
    """The trained policy beside its baseline.

    Args:
        plan: the run; its verdicts are committed.
        shared: which of the prompts are not held out.
    """
    config, stage = plan.config, plan.stages["evaluate"]
    policy, baseline = zip(*answered(plan), strict=True)

    def lengths(rows: Sequence[Answered]) -> np.ndarray:
        return np.array([len(ids) for row in rows for ids in row.token_ids])

    def cut(side: Sequence[str]) -> float | None:
        return cut_share([plan.artifacts[name] for name in (*side, "evaluate")])

    return EvaluationSection(
        **plan.artifacts["evaluate"].manifest().extra["win_rate"],
        policy_rewards=np.concatenate([row.rewards for row in policy]),
        baseline_rewards=np.concatenate([row.rewards for row in baseline]),
        policy_lengths=lengths(policy),
        baseline_lengths=lengths(baseline),
        baseline="SFT model" if config.evaluate.baseline == "sft" else "targets",
        is_start=is_start(config),
        optimised=is_optimised(config),
        num_seen=sum(found.num_shared for found in shared if found.is_seen),
        policy_cut=cut(stage.policy),
        baseline_cut=cut(stage.baseline),
    )


def is_start(config: RunConfig) -> bool:
    """Whether the baseline is the model that training started from, as it is not in a later round."""
    baseline = config.evaluate.baseline_model or config.model
    return config.evaluate.baseline == "sft" and resolve_model(baseline) == resolve_model(config.model)


def is_optimised(config: RunConfig) -> bool:
    """Whether the run's reward selected, ordered or weighted what was trained on, or chose the checkpoint."""
    if config.train.choose is not None:
        return True
    if config.source == "sampled":
        return learns_rewards(config)
    return config.source == "direct" and needs(build("loss", config.train.loss)).rewards


def samples_section(rows: Sequence[tuple[Answers, Answers]], count: int, seed: int) -> SamplesSection:
    """The first response of each side to at most `count` prompts, drawn without looking at them.

    Args:
        rows: (policy, baseline) by prompt; with their rewards, where there are any.
        count: prompts to show.
        seed: the job's.
    """
    drawn_with = derive(seed, "report") % 2**32
    samples = tuple(
        Sample(
            prompt_id=policy.prompt_id,
            prompt=policy.messages[0]["content"] if len(policy.messages) == 1 else policy.text,
            baseline_response=baseline.responses[0],
            baseline_reward=_first_reward(baseline),
            policy_response=policy.responses[0],
            policy_reward=_first_reward(policy),
        )
        for policy, baseline in (rows[i] for i in draw(len(rows), count=count, seed=drawn_with))
    )
    return SamplesSection(samples=samples, num_prompts=len(rows), seed=drawn_with)


def _first_reward(row: Answers) -> float | None:
    return float(row.rewards[0]) if isinstance(row, Answered) else None


def answered(plan: Plan) -> list[tuple[Answered, Answered]]:
    """What both policies said to the prompts that have a verdict."""
    shards = range(plan.artifacts["evaluate"].num_shards)
    return [pair for i in shards for pair in plan.stages["evaluate"].answered(plan.artifacts, i)]
