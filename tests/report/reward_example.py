"""A made-up reward model's training, for tests and for looking at the page: run this file with a folder."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from rayflow.core.stats import sigmoid
from rayflow.evaluation.reward_quality import JudgedPairs, reward_quality
from rayflow.report.data import FailureCount, StageTiming, TrainingSection
from rayflow.report.reward import RewardReport, write_reward_report
from tests.report.report_example import history


def judged(kind: str, num_pairs: int = 900, seed: int = 0) -> JudgedPairs:
    """Pairs on which the model is too sure of itself and pays for length."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 1.4, num_pairs)
    tokens = rng.poisson(50, (2, num_pairs)) + rng.integers(0, 60, (2, num_pairs))
    said = np.where(rng.random(num_pairs) < sigmoid(odds), 1, -1) * odds
    margins = 1.6 * said + 0.025 * (tokens[0] - tokens[1])
    level = rng.normal(0, 1, num_pairs)
    scores = (
        (level + margins / 2, level - margins / 2) if kind == "classifier" else (np.empty(0), np.empty(0))
    )
    return JudgedPairs(
        prompts=np.arange(num_pairs) // 2,
        margins=margins,
        chosen_tokens=tokens[0],
        rejected_tokens=tokens[1],
        chosen_scores=scores[0],
        rejected_scores=scores[1],
        scores=np.concatenate(scores),
        score_tokens=tokens.ravel() if kind == "classifier" else np.empty(0),
    )


def finished(kind: str = "classifier", num_pairs: int = 900) -> RewardReport:
    """A training with every section."""
    pairs = judged(kind, num_pairs)
    curves = history(200, np.random.default_rng(0))
    if kind == "ranker":
        curves = tuple({k: v for k, v in row.items() if not k.startswith("rewards/")} for row in curves)
    stages = [
        ("prompts", 0.9),
        ("eval-prompts", 0.8),
        ("encode", 6.0),
        ("train", 940.0),
        ("eval-judge", 41.0),
    ]
    return RewardReport(
        name=f"harmless-{kind}",
        created=datetime(2026, 3, 14, 15, 9, tzinfo=UTC),
        kind=kind,
        model="SmolLM2-135M",
        num_rows=8000,
        num_pairs=8000,
        trained=f"/runs/harmless-{kind}/04-train/model",
        training=TrainingSection(history=curves, loss="bradley_terry", num_epochs=1),
        quality=reward_quality(pairs, seed=0, num_resamples=500),
        pairs=pairs,
        failures=(
            FailureCount(stage="encode", reason="group longer than the context", count=3, example="p1"),
        ),
        timings=tuple(StageTiming(stage=name, seconds=seconds, rows=8000) for name, seconds in stages),
        config_yaml="kind: classifier\n",
        versions={"rayflow": "0.1.0"},
    )


if __name__ == "__main__":
    for each in ("classifier", "ranker"):
        print(write_reward_report(finished(each), Path(sys.argv[1]) / each))
