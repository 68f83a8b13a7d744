"""What the log of a training says, step by step, as the report shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayflow.errors import ArtifactError
from rayflow.pipeline.artifact import Artifact
from rayflow.training.choice import WIN_RATE
from rayflow.training.metrics import Metrics, read_metrics


@dataclass(frozen=True)
class TrainedOn:
    """What went through a training.

    Attributes:
        num_prompts: prompts over all epochs; None if the log does not tell.
        tokens_per_second: response tokens, mean over the steps; None if it was not logged.
    """

    num_prompts: int | None
    tokens_per_second: float | None


def logged_steps(train: Artifact) -> list[Metrics]:
    """One mapping for each logged step; a last line that was only half written is left out.

    Raises:
        ArtifactError: a line before that is no step.
    """
    path = train.folder / "metrics.jsonl"
    try:
        found = read_metrics(path)
    except json.JSONDecodeError as error:  # its `doc` is the line
        bad = path.read_text().splitlines(keepends=True).index(error.doc) + 1
    except UnicodeDecodeError as error:
        bad = error.object[: error.start].count(b"\n") + 1
    else:
        steps = (isinstance(row, dict) and "step" in row for row in found)
        bad = next((number for number, is_step in enumerate(steps, 1) if not is_step), 0)
        if not bad:
            return found
    raise ArtifactError(
        f"{path}, line {bad}, is no step of a training: the file is damaged. Restore it from a copy, or take the "
        "line out; the report then shows the curves without that step."
    )


def kept_step(steps: Sequence[Metrics]) -> int | None:
    """The step whose model was kept: the first with the highest win rate; None if none was compared."""
    rates = {int(row["step"]): row[WIN_RATE] for row in steps if row.get(WIN_RATE) is not None}
    return max(rates, key=lambda step: (rates[step], -step), default=None)


def trained_on(train: Artifact) -> TrainedOn:
    """What went through a finished training."""
    steps, told = logged_steps(train), train.manifest().extra
    groups = told.get("num_trained", told.get("num_groups"))  # the first is not told of an older run
    epochs = steps[-1].get("epoch") if steps else None
    speeds = [row["tokens_per_second"] for row in steps if row.get("tokens_per_second") is not None]
    return TrainedOn(
        num_prompts=round(groups * epochs) if groups and epochs else None,
        tokens_per_second=float(np.mean(speeds)) if speeds else None,
    )
