"""What one row with one seed has shown, and what the seeds show together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayflow.core.evaluation_rows import Verdict
from rayflow.core.options import build
from rayflow.errors import DataError
from rayflow.losses.base import needs
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.stage import read_rows
from rayflow.study.intervals import Estimate, interval
from rayflow.training.metrics import read_metrics


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
        cut: share of the responses behind `kl` that the length limit ended.
        policy_tokens, baseline_tokens: mean response lengths.
        distinct: share of distinct bigrams within a prompt's responses; None with one response per prompt.
        num_steps: optimizer steps.
        margin: mean of gamma * D over the pairs of the last steps; None for a loss without a reference.
        train_seconds, seconds: of the training, of everything that this row did not share.
    """

    row: str
    seed: int
    rewards: dict[str, RewardResult]
    kl: float
    cut: float
    policy_tokens: float
    baseline_tokens: float
    distinct: float | None
    num_steps: int
    margin: float | None
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


def pairs_path(root: Path) -> Path:
    """Where what the pairs of all rows are worth is kept."""
    return root / "pairs.json"


def result_of(row: str, seed: int, plan: Plan, evaluation: Plan, seconds: float) -> RowResult:
    """What the artifacts of a finished row say.

    Args:
        row, seed: which.
        plan: its run.
        evaluation: its evaluation, all of it committed.
        seconds: wall time of both, of all calls that worked on them.
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
        cut=measures["kl"]["cut"],
        policy_tokens=won["policy_tokens"],
        baseline_tokens=won["baseline_tokens"],
        distinct=diversity and diversity["distinct_2"]["mean"],
        num_steps=trained.extra["num_steps"],
        margin=_margin(plan),
        train_seconds=trained.seconds,
        seconds=seconds,
    )


def _wins(plan: Plan, stage: str) -> dict[str, float]:
    artifact = plan.artifacts[stage]
    rows = (row for index in range(artifact.num_shards) for row in read_rows([artifact], index, Verdict))
    return {row.prompt_id: row.win_rate for row in rows}


def _margin(plan: Plan) -> float | None:
    """The mean of gamma * D over the pairs of the last tenth of the steps (at least one).

    A loss without a reference has implicit rewards too, but they are no differences from one.
    """
    if not needs(build("loss", plan.config.train.loss)).reference:
        return None
    lines = read_metrics(plan.artifacts["train"].folder / "metrics.jsonl")
    found = [line["rewards/margins"] for line in lines if line.get("rewards/margins") is not None]
    return float(np.mean(found[-max(1, len(found) // 10) :])) if found else None


@dataclass(frozen=True, kw_only=True)
class RowSummary:
    """One row over its seeds.

    Attributes:
        seeds: those that are there.
        wins: by reward the win rate, with its interval over prompts and seeds (see `interval`).
        seed_wins: by reward the win rate of each seed.
        length_controlled, gain: by reward, means over seeds.
        kl, cut, policy_tokens, baseline_tokens, num_steps, seconds: means over seeds.
        margin: likewise; None for a loss without a reference.
        shares: by reward and prompt the win share of each seed, of the prompts that every seed has.
    """

    row: str
    seeds: tuple[int, ...]
    wins: dict[str, Estimate]
    seed_wins: dict[str, tuple[float, ...]]
    length_controlled: dict[str, float]
    gain: dict[str, float]
    kl: float
    cut: float
    policy_tokens: float
    baseline_tokens: float
    num_steps: float
    margin: float | None
    seconds: float
    shares: dict[str, dict[str, tuple[float, ...]]]


def summarise(results: Sequence[RowResult]) -> RowSummary:
    """One row's seeds together. A prompt that failed with any of them is left out of the win rates.

    Raises:
        DataError: no prompt is left.
    """
    first = results[0]
    shares = {name: _shares(first.row, [r.rewards[name].wins for r in results]) for name in first.rewards}
    tables = {name: np.array(list(found.values())).T for name, found in shares.items()}
    margins = [r.margin for r in results if r.margin is not None]

    def mean(of: Callable[[RowResult], float]) -> float:
        return float(np.mean([of(result) for result in results]))

    return RowSummary(
        row=first.row,
        seeds=tuple(r.seed for r in results),
        wins={name: interval(table).within(0.0, 1.0) for name, table in tables.items()},
        seed_wins={name: tuple(table.mean(axis=1).tolist()) for name, table in tables.items()},
        length_controlled={
            name: mean(lambda r, name=name: r.rewards[name].length_controlled) for name in tables
        },
        gain={name: mean(lambda r, name=name: r.rewards[name].gain) for name in tables},
        kl=mean(lambda r: r.kl),
        cut=mean(lambda r: r.cut),
        policy_tokens=mean(lambda r: r.policy_tokens),
        baseline_tokens=mean(lambda r: r.baseline_tokens),
        num_steps=mean(lambda r: r.num_steps),
        margin=float(np.mean(margins)) if margins else None,
        seconds=mean(lambda r: r.seconds),
        shares=shares,
    )


def _shares(row: str, wins: Sequence[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    # In order, because the last digit of a mean depends on it.
    found = {name: tuple(w[name] for w in wins) for name in sorted(wins[0]) if all(name in w for w in wins)}
    if not found:
        raise DataError(
            f"Row '{row}' has no prompt that was judged with every seed: delete its results to redo it."
        )
    return found
