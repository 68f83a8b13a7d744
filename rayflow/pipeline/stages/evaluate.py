"""Evaluate: the trained policy against the SFT policy on held-out prompts. Row out: `Verdict`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rayflow.config import EvaluationOptions
from rayflow.core.evaluation_rows import Answered, Answers, ComparedVerdict, Verdict
from rayflow.core.schema import to_table
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import StageContext, read_rows


@dataclass
class EvaluateStage:
    """Compares two sample stages prompt by prompt; a prompt that failed in either is left out.

    Attributes:
        policy, baseline: the stages of each side, up to their rewards where the reward is pointwise.
        compared: the stage in which a pairwise reward judged both; None: the rewards are compared here.
    """

    name: str
    policy: tuple[str, ...]
    baseline: tuple[str, ...]
    options: EvaluationOptions
    seed: int
    compared: str | None = None
    models: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both sides' stages."""
        sides = (*self.policy, *(name for name in self.baseline if name not in self.policy))
        return sides if self.compared is None else (*sides, self.compared)

    def identity(self) -> dict[str, Any]:
        """The interval's settings."""
        return {"evaluate": self.options.identity(), "seed": self.seed}

    def run(self, context: StageContext) -> dict[str, Any]:
        """Write the verdicts; returns the win rate with its interval for the manifest."""
        from rayflow.evaluation.win_rate import win_rate

        artifact = context.artifact
        artifact.begin(context.identity, num_shards=context.artifacts[self.policy[-1]].num_shards)
        found: list[Verdict] = []
        for index in range(artifact.num_shards):
            shard = self._verdicts(context.artifacts, index)
            if not artifact.shards.has(index):
                artifact.shards.write(index, to_table(shard, Verdict))
            found += shard
        result = win_rate(
            found,
            confidence=self.options.confidence,
            num_resamples=self.options.num_resamples,
            seed=self.seed,
        )
        return {"win_rate": asdict(result)}

    def _verdicts(self, artifacts: dict[str, Artifact], index: int) -> list[Verdict]:
        from rayflow.evaluation.win_rate import verdicts

        if self.compared is not None:
            return read_rows([artifacts[self.compared]], index, Verdict)
        rows = self.answered(artifacts, index)
        return verdicts([p for p, _ in rows], [b for _, b in rows]) if rows else []

    def answered(self, artifacts: dict[str, Artifact], index: int) -> list[tuple[Answered, Answered]]:
        """(policy, baseline) answers of one shard with the rewards by which they are compared."""
        policy = [artifacts[name] for name in self.policy]
        baseline = [artifacts[name] for name in self.baseline]
        if self.compared is None:
            return paired(policy, baseline, index, Answered)
        rows = read_rows([artifacts[self.compared]], index, ComparedVerdict)
        judged = {row.prompt_id: row for row in rows}
        return [
            (
                Answered(**vars(p), rewards=judged[p.prompt_id].policy_rewards),
                Answered(**vars(b), rewards=judged[b.prompt_id].baseline_rewards),
            )
            for p, b in paired(policy, baseline, index, Answers)
            if p.prompt_id in judged
        ]


def paired(policy: list[Artifact], baseline: list[Artifact], index: int, view: type[Any]) -> list[Any]:
    """(policy, baseline) rows of one shard as `view`, for the prompts that both have."""
    others = {row.prompt_id: row for row in read_rows(baseline, index, view)}
    rows = read_rows(policy, index, view)
    return [(row, others[row.prompt_id]) for row in rows if row.prompt_id in others]
