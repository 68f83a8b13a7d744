"""Looks at every stored byte of a run, and takes back what is damaged and what was made from it.

A shard that is computed anew need not come out the same (a sampler in bfloat16 does not), so what later stages
made of it goes too: the same shard of theirs, and the whole of a stage that is not by shards.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rayflow.core.files import read_json, write_json
from rayflow.core.model_folder import CHECKSUMS, damaged_files
from rayflow.errors import ArtifactError
from rayflow.pipeline.amended import as_written
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.execute import is_sharded, open_run
from rayflow.pipeline.manifest import FORMAT, read_stored
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.prompts import PromptStage
from rayflow.pipeline.stages.train import TrainStage
from rayflow.report import words

STAGE, MANIFEST = "stage.json", "manifest.json"
"""The files that say what a stage is, and that it is finished (see `artifact`)."""


@dataclass(frozen=True)
class Finding:
    """What is wrong in one stage.

    Attributes:
        stage: its name.
        shards: how many were read.
        models: how many were read, or looked for: 1 for a finished training, else 0.
        damaged: indices of damaged shards.
        files: which of `STAGE` and `MANIFEST` cannot be read.
        details: one sentence for each damaged or missing file.
        model: whether it is the stage's model that is damaged.
    """

    stage: str
    shards: int = 0
    models: int = 0
    damaged: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    model: bool = False

    @property
    def whole(self) -> bool:
        """Nothing is wrong."""
        return not self.details


def verify(plan: Plan) -> list[Finding]:
    """Read all committed shards and trained models of a run, whole, against their checksums, and the stages' own files.

    Returns:
        A finding for every stage that was begun, in order.

    Raises:
        ArtifactError: another version's format, which is no damage.
    """
    return [_look(plan, name) for name, artifact in plan.artifacts.items() if _is_begun(artifact)]


def _is_begun(artifact: Artifact) -> bool:
    return artifact.committed or (artifact.folder / STAGE).exists()


def _look(plan: Plan, name: str) -> Finding:
    artifact = as_written(plan.artifacts[name])
    shards = sorted(artifact.shards.committed())
    wrong = {index: said for index in shards if (said := artifact.shards.damage(index))}
    bad = _damage_of_model(artifact) if (trained := _has_model(plan, artifact)) else []
    files = _damage_of_files(artifact)
    details = (*files.values(), *wrong.values(), *bad)
    return Finding(name, len(shards), int(trained), tuple(wrong), tuple(files), details, model=bool(bad))


def _damage_of_files(artifact: Artifact) -> dict[str, str]:
    """What is wrong with the files that say what a stage is, by name."""
    found = {}
    for name in (STAGE, *((MANIFEST,) if artifact.committed else ())):
        try:
            read_json(artifact.folder / name)
        except ArtifactError as error:
            found[name] = str(error)
        else:
            read_stored(artifact.folder / name)  # refuses another version's format
    return found


def _has_model(plan: Plan, artifact: Artifact) -> bool:
    """Whether a model is, or has to be, in a stage's folder.

    A study trains many models and removes each one once it has been measured (unless `keep_models`): what was
    measured lies beside the row's folder then, under its name.
    """
    if not isinstance(plan.stages[artifact.name], TrainStage):
        return False
    if (artifact.folder / "model" / CHECKSUMS).exists():
        return True
    root = plan.config.root
    return artifact.committed and not (root.parent / f"{root.name}.json").exists()


def _damage_of_model(artifact: Artifact) -> list[str]:
    """One sentence for each of its files that is not what was trained."""
    model = artifact.folder / "model"
    if not model.is_dir():
        return [f"{model} is missing."]
    if not (model / CHECKSUMS).exists():
        return [f"{model / CHECKSUMS} is missing, so nothing tells whether the model is whole."]
    return [f"{model / name} is not what was trained." for name in damaged_files(model, remembered=False)]


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
    with open_run(plan.config):
        restored = {finding.stage for finding in findings if _restore(plan, finding)}
        steps = _to_take_back(plan, {finding.stage: finding for finding in findings}, restored)
        # The last stage first: killed in between, nothing is left that was made of what is gone.
        for name, step in reversed(steps.items()):
            if step.shards is None:
                plan.artifacts[name].set_aside()
            else:
                plan.artifacts[name].forget(step.shards)
    told = dict.fromkeys(restored, f"{STAGE}, which {MANIFEST} has given again")
    return told | {name: step.told for name, step in steps.items()}


def _restore(plan: Plan, finding: Finding) -> bool:
    """Write a finished stage's `stage.json` anew: the manifest holds the same, but for the size of the shards."""
    artifact = plan.artifacts[finding.stage]
    if STAGE not in finding.files or MANIFEST in finding.files or not artifact.committed:
        return False
    manifest = artifact.manifest()
    sized: dict[str, int] = {}
    whole = artifact.shards.committed() - set(finding.damaged)
    if whole and isinstance(
        plan.stages[finding.stage], PromptStage
    ):  # the others take the shards as they come
        sized["shard_size"] = max(artifact.shards.marker(index).rows for index in whole)
    stage = {"identity": manifest.identity, "num_shards": manifest.num_shards, "format": FORMAT, **sized}
    write_json(artifact.folder / STAGE, stage)
    return True


@dataclass(frozen=True)
class _Step:
    """What is taken back of one stage: these shards, or all of it for None; and that in words."""

    shards: frozenset[int] | None
    told: str


def _to_take_back(plan: Plan, found: dict[str, Finding], restored: Collection[str]) -> dict[str, _Step]:
    """By stage, in the plan's order; of the restored ones the `stage.json` is whole again."""
    steps: dict[str, _Step] = {}
    below: dict[str, frozenset[int]] = {}  # shards whose readers must be taken back too
    wholly: set[str] = set()  # stages whose every reader must
    for name, stage in plan.stages.items():
        if not _is_begun(plan.artifacts[name]):
            continue
        sources = plan.inputs(stage)
        above = frozenset().union(*(below.get(source, frozenset()) for source in sources))
        finding = found.get(name, Finding(name))
        unknown = STAGE in finding.files and name not in restored  # nothing tells what it was made from
        if unknown or wholly.intersection(sources) or (above and not is_sharded(stage)):
            steps[name] = _Step(None, "all of it")
            wholly.add(name)
        elif shards := above | set(finding.damaged):
            steps[name] = _Step(shards, words.count(len(shards), "shard"))
            # The prompts follow from their file alone: written again, they are the same.
            below[name] = shards if is_sharded(stage) else frozenset()
        elif finding.model or (MANIFEST in finding.files and isinstance(stage, TrainStage)):
            # Trained on from the newest checkpoint; a chosen model may be an earlier one, which is not there any more.
            chosen = getattr(plan.config.train, "choose", None) is not None
            steps[name] = _Step(None, "all of it") if chosen else _Step(frozenset(), "the model")
            wholly.add(name)
        elif MANIFEST in finding.files:  # the same again, from the shards that are there
            steps[name] = _Step(frozenset(), "the manifest")
    return steps
