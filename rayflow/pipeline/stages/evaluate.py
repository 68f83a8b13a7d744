"""Evaluate: the trained policy against the SFT policy on held-out prompts. Row out: `Verdict`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rayflow.config import EvaluationOptions
from rayflow.core.rows import Answered
from rayflow.core.schema import to_table
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import StageContext, read_rows


@dataclass
class EvaluateStage:
    """Compares two scored sample stages prompt by prompt; a prompt that failed in either is left out."""

    name: str
    policy: tuple[str, ...]
    baseline: tuple[str, ...]
    options: EvaluationOptions
    seed: int
    models: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both sides' stages."""
        return (*self.policy, *(name for name in self.baseline if name not in self.policy))

    def identity(self) -> dict[str, Any]:
        """The interval's settings."""
        return {"evaluate": self.options.identity(), "seed": self.seed}

    def run(self, context: StageContext) -> dict[str, Any]:
        """Write the verdicts; returns the win rate with its interval for the manifest."""
        from rayflow.core.rows import Verdict
        from rayflow.evaluation.win_rate import verdicts, win_rate

        artifact = context.artifact
        policy = [context.artifacts[name] for name in self.policy]
        baseline = [context.artifacts[name] for name in self.baseline]
        artifact.begin(context.identity, num_shards=policy[-1].num_shards)
        found: list[Verdict] = []
        for index in range(artifact.num_shards):
            rows = paired(policy, baseline, index)
            shard = verdicts([p for p, _ in rows], [b for _, b in rows]) if rows else []
            if not artifact.has_shard(index):
                artifact.write_shard(index, to_table(shard, Verdict))
            found += shard
        result = win_rate(
            found,
            confidence=self.options.confidence,
            num_resamples=self.options.num_resamples,
            seed=self.seed,
        )
        return {"win_rate": asdict(result)}


def paired(policy: list[Artifact], baseline: list[Artifact], index: int) -> list[tuple[Answered, Answered]]:
    """(policy, baseline) rows of one shard, for the prompts that both have."""
    others = {row.prompt_id: row for row in read_rows(baseline, index, Answered)}
    rows = read_rows(policy, index, Answered)
    return [(row, others[row.prompt_id]) for row in rows if row.prompt_id in others]
