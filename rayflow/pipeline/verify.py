"""Looks at every stored byte of a run, and takes back what is damaged and what was made from it.

A shard that is computed anew need not come out the same (a sampler in bfloat16 does not), so what later stages
made of it goes too: the same shard of theirs, and the whole of a stage that is not by shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayflow.core.model_folder import CHECKSUMS, damaged_files
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.execute import is_sharded, open_run
from rayflow.pipeline.plan import Plan


@dataclass(frozen=True)
class Finding:
    """What is wrong in one stage.

    Attributes:
        stage: its name.
        checked: shards that were read, and model files.
        damaged: indices of damaged shards.
        details: one sentence for each damaged file.
        model: whether it is the stage's model that is damaged.
    """

    stage: str
    checked: int
    damaged: tuple[int, ...] = ()
    details: tuple[str, ...] = ()
    model: bool = False

    @property
    def whole(self) -> bool:
        """Nothing is wrong."""
        return not self.details


def verify(plan: Plan) -> list[Finding]:
    """Read all committed shards and trained models of a run, whole, against their checksums."""
    return [_look(artifact) for artifact in plan.artifacts.values() if artifact.identity is not None]


def _look(artifact: Artifact) -> Finding:
    shards = sorted(artifact.committed_shards())
    wrong = {index: said for index in shards if (said := artifact.damage(index))}
    model = artifact.folder / "model"
    details = [*wrong.values()]
    if (model / CHECKSUMS).exists():
        details += (bad := [f"{model / name} is not what was trained." for name in damaged_files(model)])
        return Finding(artifact.name, len(shards) + 1, tuple(wrong), tuple(details), model=bool(bad))
    return Finding(artifact.name, len(shards), tuple(wrong), tuple(details))


def repair(plan: Plan, findings: Sequence[Finding]) -> dict[str, str]:
    """Take back what is damaged and what follows from it; the next run computes that anew.

    Args:
        plan: of the run; nothing else may be working in it.
        findings: of `verify`.

    Returns:
        By stage, what was taken back, in words.

    Raises:
        ArtifactError: another process is working in the run.
    """
    found = {finding.stage: finding for finding in findings}
    told: dict[str, str] = {}
    shards: dict[str, set[int]] = {}  # taken back by number
    wholly: set[str] = set()
    with open_run(plan.config):
        for name, stage in plan.stages.items():
            artifact = plan.artifacts[name]
            if artifact.identity is None:
                continue
            above = set().union(*(shards.get(source, set()) for source in stage.inputs))
            if wholly.intersection(stage.inputs) or (above and not is_sharded(stage)):
                artifact.set_aside()
                wholly.add(name)
                told[name] = "all of it"
                continue
            own = set(found[name].damaged) if name in found else set()
            if own or above:
                artifact.forget(own | above)
                told[name] = f"{len(own | above)} shards"
                # The prompts follow from their file alone: written again, they are the same.
                shards[name] = own | above if is_sharded(stage) else set()
            if name in found and found[name].model:
                artifact.forget(())  # trained on from the newest checkpoint
                wholly.add(name)
                told[name] = "the model"
    return told
