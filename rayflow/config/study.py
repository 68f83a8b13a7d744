"""The configuration of `rayflow study`: many methods on the same samples, each with several seeds."""

from __future__ import annotations

import itertools
from typing import Any, Literal

from pydantic import Field, model_validator

from rayflow.config.run import JobConfig
from rayflow.core.options import Options


class PartOptions(Options):
    """The configurations that a study puts together, as file names from the study's own folder.

    Their `name`, `runs_dir`, `model` and `seed` come from the study. In the last two, the words "{preferences}"
    and "{proxy}" stand for the file and the model folder that the first two give.

    Attributes:
        preferences: a run up to its pairs, which are the preference data of the study.
        proxy: the training of the reward model on them (`rayflow train-reward`).
        run: what the rows have in common (`rayflow run`).
        evaluation: how every row is measured (`rayflow evaluate`), with two rewards, `proxy` and `gold`.
    """

    preferences: str
    proxy: str
    run: str
    evaluation: str


class RowOptions(Options):
    """One method: what it changes of the run that the rows have in common.

    Attributes:
        title: names it in tables and drawings.
        group: where its responses come from; decides its colour in drawings.
        settings: by dotted path, such as {train.loss.gamma: 0.1}; a block that names a `kind` is replaced whole.
    """

    title: str
    group: Literal["direct", "sft", "rso", "other"] = "other"
    settings: dict[str, Any] = {}


class SweepOptions(Options):
    """One setting of one row, over several values: each makes a row of its own, named "<row>.<sweep>=<value>".

    Attributes:
        title: of its drawing.
        row: which row.
        setting: the dotted path.
        own: the value that the row itself has, whose result is the row's.
        values: the others.
        source: a line above its table, such as where the paper shows the same.
    """

    title: str
    row: str
    setting: str
    own: float
    values: tuple[float, ...] = Field(min_length=1)
    source: str = ""

    def named(self, key: str) -> dict[float, str]:
        """The names of the rows by value, in order of the values; `key` is the sweep's name."""
        names = {value: f"{self.row}.{key}={value:g}" for value in self.values} | {self.own: self.row}
        return dict(sorted(names.items()))


class TableOptions(Options):
    """Rows side by side, beside what a paper reports of the same methods.

    Attributes:
        title: above the table.
        rows: their names, in order.
        source: where the paper's numbers stand.
        paper: the paper's columns by heading, each with a number (percent) for those rows that it has.
    """

    title: str
    rows: tuple[str, ...] = Field(min_length=1)
    source: str = ""
    paper: dict[str, dict[str, float]] = {}


class StudyConfig(JobConfig):
    """One study. Its `seed` draws the samples that all rows share, and those that measure them.

    Attributes:
        seeds: of the replicates; each repeats selection, pairing and training.
        parts: what it is made of.
        rows, sweeps, tables: what is compared, and how it is shown.
        notes: sentences for the page, under "What we make of it", such as why an order differs from a paper's.
        keep_models: leave every trained model on disk; otherwise it is deleted when it has been measured.
    """

    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    parts: PartOptions
    rows: dict[str, RowOptions] = Field(min_length=1)
    sweeps: dict[str, SweepOptions] = {}
    tables: dict[str, TableOptions] = {}
    notes: tuple[str, ...] = ()
    keep_models: bool = False

    @model_validator(mode="after")
    def _is_tracked_by_its_parts(self) -> StudyConfig:
        if self.track.kind != "none":
            raise ValueError(
                f"track: the runs of a study are tracked, not the study: --set run.track={self.track.kind}"
            )
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> StudyConfig:
        named = [(f"tables.{key}", name) for key, table in self.tables.items() for name in table.rows]
        named += [
            (f"tables.{key}", name)
            for key, table in self.tables.items()
            for name in itertools.chain(*table.paper.values())
        ]
        named += [(f"sweeps.{key}", sweep.row) for key, sweep in self.sweeps.items()]
        for place, name in named:
            if name not in self.rows:
                raise ValueError(f"{place} names the row '{name}'; the rows are {', '.join(self.rows)}")
        return self

    @property
    def all_rows(self) -> dict[str, RowOptions]:
        """The rows and those of the sweeps, by name, in the order in which they are run."""
        swept = {
            name: RowOptions(
                title=f"{self.rows[sweep.row].title}, {key} {value:g}",
                group=self.rows[sweep.row].group,
                settings={**self.rows[sweep.row].settings, sweep.setting: value},
            )
            for key, sweep in self.sweeps.items()
            for value, name in sweep.named(key).items()
            if name not in self.rows
        }
        return {**self.rows, **swept}
