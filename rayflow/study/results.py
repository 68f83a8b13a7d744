"""What one row with one seed has shown, and what the seeds show together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayflow.core.evaluation_rows import Verdict
from rayflow.core.seeds import rng
from rayflow.core.stats import bootstrap_mean
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.stage import read_rows

Estimate = tuple[float, float, float]
"""Mean, low and high end of its interval over prompts."""


@dataclass(frozen=True, kw_only=True)
class RewardResult:
    """One reward's verdicts on one row and seed.

    Attributes:
        wins: share of comparisons with the SFT policy that are won, by prompt.
        length_controlled: the win rate at equal length.
        gain: by how much the policy's mean reward is higher.
        policy, baseline: mean rewards.
    """

    wins: dict[str, float]
    length_controlled: float
    gain: float
    policy: float
    baseline: float


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """One row with one seed.

    Attributes:
        rewards: "proxy" and "gold".
        kl: KL(policy || SFT), nats per response; one value per prompt is not kept.
        policy_tokens, baseline_tokens: mean response lengths.
        distinct: share of distinct bigrams within a prompt's responses; None with one response per prompt.
        num_steps: optimizer steps.
        train_seconds, seconds: of the training, of everything that this row did not share.
    """

    row: str
    seed: int
    rewards: dict[str, RewardResult]
    kl: float
    policy_tokens: float
    baseline_tokens: float
    distinct: float | None
    num_steps: int
    train_seconds: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RowResult:
        """From `to_json`, whatever else stands beside it."""
        known = {name: data[name] for name in cls.__dataclass_fields__}
        rewards = {name: RewardResult(**value) for name, value in data["rewards"].items()}
        return cls(**{**known, "rewards": rewards})


def result_path(root: Path, row: str, seed: int) -> Path:
    """Where the result of a row and seed is kept."""
    return root / "rows" / row / f"seed-{seed}.json"


def result_of(row: str, seed: int, plan: Plan, evaluation: Plan, seconds: float) -> RowResult:
    """What the artifacts of a finished row say.

    Args:
        row, seed: which.
        plan: its run.
        evaluation: its evaluation, all of it committed.
        seconds: wall time of both.
    """
    measures = evaluation.artifacts["measure"].manifest().extra["measures"]
    rewards = {
        name: RewardResult(
            wins=_wins(evaluation, f"verdict-{name}"),
            length_controlled=found["length_controlled"]["win_rate"],
            gain=found["gain"]["mean"],
            policy=found["policy"]["mean"],
            baseline=found["baseline"]["mean"],
        )
        for name, found in measures["rewards"].items()
    }
    won = measures["rewards"]["gold"]["win_rate"]
    diversity = measures["diversity"].get("policy")
    trained = plan.artifacts["train"].manifest()
    return RowResult(
        row=row,
        seed=seed,
        rewards=rewards,
        kl=measures["kl"]["nats"],
        policy_tokens=won["policy_tokens"],
        baseline_tokens=won["baseline_tokens"],
        distinct=diversity and diversity["distinct_2"]["mean"],
        num_steps=trained.extra["num_steps"],
        train_seconds=trained.seconds,
        seconds=seconds,
    )


def _wins(plan: Plan, stage: str) -> dict[str, float]:
    artifact = plan.artifacts[stage]
    rows = (row for index in range(artifact.num_shards) for row in read_rows([artifact], index, Verdict))
    return {row.prompt_id: row.win_rate for row in rows}


@dataclass(frozen=True, kw_only=True)
class RowSummary:
    """One row over its seeds.

    Attributes:
        seeds: those that are there.
        wins: by reward the win rate: mean over seeds, with its bootstrap interval over prompts.
        seed_wins: by reward the win rate of each seed.
        length_controlled, gain: by reward, means over seeds.
        kl, policy_tokens, baseline_tokens, seconds: means over seeds.
        by_prompt: by reward the win shares, means over seeds, of each prompt.
    """

    row: str
    seeds: tuple[int, ...]
    wins: dict[str, Estimate]
    seed_wins: dict[str, tuple[float, ...]]
    length_controlled: dict[str, float]
    gain: dict[str, float]
    kl: float
    policy_tokens: float
    baseline_tokens: float
    seconds: float
    by_prompt: dict[str, dict[str, float]]


def summarise(results: Sequence[RowResult]) -> RowSummary:
    """One row's seeds together. A prompt that failed with any of them is left out of the interval."""
    first = results[0]
    by_prompt = {name: _over_seeds([r.rewards[name].wins for r in results]) for name in first.rewards}
    return RowSummary(
        row=first.row,
        seeds=tuple(r.seed for r in results),
        wins={name: interval(list(shares.values()), name) for name, shares in by_prompt.items()},
        seed_wins={
            name: tuple(float(np.mean(list(r.rewards[name].wins.values()))) for r in results)
            for name in first.rewards
        },
        length_controlled={
            name: float(np.mean([r.rewards[name].length_controlled for r in results]))
            for name in first.rewards
        },
        gain={name: float(np.mean([r.rewards[name].gain for r in results])) for name in first.rewards},
        kl=float(np.mean([r.kl for r in results])),
        policy_tokens=float(np.mean([r.policy_tokens for r in results])),
        baseline_tokens=float(np.mean([r.baseline_tokens for r in results])),
        seconds=float(np.mean([r.seconds for r in results])),
        by_prompt=by_prompt,
    )


def _over_seeds(wins: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([w[name] for w in wins])) for name in wins[0] if all(name in w for w in wins)}


def interval(values: Sequence[float], name: str) -> Estimate:
    """Mean over prompts with its 95% bootstrap interval; `name` seeds the resamples."""
    return bootstrap_mean(np.array(values), rng(0, "study", name))
