"""What a stage is, and the worker that runs it on one shard after another.

A shard stage is built on the driver (cheap), sent to its workers, and loads there in `setup`. The same worker
serves every runner: in this process, or inside a Ray Data actor. Shards travel by number: their columns are
read from and committed to storage, so a lost worker costs the shards it held and nothing else, and memory
is bounded by the shards in flight.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import pyarrow as pa
from rich.console import Console

from rayflow.config import PoolOptions
from rayflow.core.registry import is_plug_in
from rayflow.core.rows import Failure, Row
from rayflow.core.schema import from_table, join, to_table
from rayflow.errors import RayflowError, StageError
from rayflow.pipeline.artifact import Artifact


class ShardStage(Protocol):
    """A stage that computes each row from that row alone. If nothing can come of all of them together, a method
    `check_all(artifact)` says so with an error, before a later stage begins.

    Attributes:
        name: unique in the run; names its folder.
        inputs: stages whose columns it reads, the one that decides the rows and their order last.
        models: model folders whose content belongs to the fingerprint.
        reads: record type or view of the columns it needs; no other column is read from disk.
        writes: record type of the columns it adds.
        pool: how many workers, and what each needs.
        actor: whether a worker holds something worth keeping (a model); tasks otherwise.
    """

    name: str
    inputs: tuple[str, ...]
    models: tuple[str, ...]
    reads: type[Row]
    writes: type[Row]
    pool: PoolOptions
    actor: bool

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON values; never hardware."""

    def setup(self) -> None:
        """Load what the worker needs."""

    async def process(self, rows: Sequence[Any]) -> Sequence[Row | Failure]:
        """One outcome per row of a shard, in order: the record it adds, or why there is none."""

    def count_tokens(self, rows: Sequence[Row]) -> int:
        """Tokens generated or processed for these outcomes; 0 where that has no meaning."""

    def close(self) -> None:
        """Free what `setup` loaded."""


@dataclass(frozen=True)
class StageContext:
    """What a stage that is not run by shards needs from the run.

    Attributes:
        artifact: its own folder.
        identity: what to store as its identity.
        artifacts: every stage's folder, by name.
        runner: where heavy work goes.
        console: for the person who waits.
        on_step: told of every optimizer step's metrics.
    """

    artifact: Artifact
    identity: dict[str, Any]
    artifacts: dict[str, Artifact]
    runner: Any
    console: Console
    on_step: Callable[[dict[str, float]], None] = lambda metrics: None  # noqa: E731


class WholeStage(Protocol):
    """A stage that is one piece of work: it begins its artifact, fills it, and may be run again to resume."""

    name: str
    inputs: tuple[str, ...]
    models: tuple[str, ...]

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON values; never hardware."""

    def run(self, context: StageContext) -> dict[str, Any]:
        """Do the work; the caller commits. Returns what the manifest keeps as `extra`."""


Stage = ShardStage | WholeStage


class SimpleStage:
    """Defaults for stages that hold nothing."""

    models: tuple[str, ...] = ()
    actor = False

    def setup(self) -> None:
        """Nothing to load."""

    def count_tokens(self, rows: Sequence[Row]) -> int:
        """Tokens have no meaning here."""
        return 0

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True)
class Work:
    """One shard, computed and committed.

    Attributes:
        rows: records that came out.
        failures: rows that did not.
        seconds: from reading to computing; the commit is not in it.
        tokens: generated or processed; 0 where that has no meaning.
    """

    rows: Sequence[Row]
    failures: Sequence[Failure]
    seconds: float
    tokens: int


@dataclass
class ShardWorker:
    """Runs one stage on shards: reads its columns, computes, commits. A committed shard is not redone.

    Attributes:
        stage: what to compute.
        sources: the input stages' artifacts, in the order of `stage.inputs`.
        target: the stage's own artifact.
        identity: what the stage is made from, as the run that sent this worker has it.
    """

    stage: ShardStage
    sources: tuple[Artifact, ...]
    target: Artifact
    identity: dict[str, Any] | None = None

    async def run(self, index: int) -> Work | None:
        """Compute and commit shard `index`; returns what was done, or None if it was committed already."""
        if self.target.shards.has(index):
            return None
        begin = time.monotonic()
        rows = self.read(index)
        outcomes = await self.stage.process(rows) if rows else []
        if len(outcomes) != len(rows):
            raise StageError(f"{self.stage.name} returned {len(outcomes)} outcomes for {len(rows)} rows.")
        if self.identity is not None:
            # This may be what a killed run left behind, and another run have begun the stage anew meanwhile.
            self.target.check(self.identity)
        kept = [outcome for outcome in outcomes if isinstance(outcome, Row)]
        failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        table = to_table(kept, self.stage.writes)
        work = Work(kept, failures, time.monotonic() - begin, self.stage.count_tokens(kept))
        self.target.shards.write(index, table, failures=failures, seconds=work.seconds, tokens=work.tokens)
        return work

    def read(self, index: int) -> list[Any]:
        """The stage's input rows of one shard: the join of its sources, only the columns it reads.

        A stage that reads the same columns of two others has a method `read` of its own.
        """
        read = getattr(self.stage, "read", None)
        return read_rows(self.sources, index, self.stage.reads) if read is None else read(self.sources, index)


def read_rows(
    sources: Sequence[Artifact], index: int, view: type[Any], positions: Sequence[int] | None = None
) -> list[Any]:
    """Rows of shard `index` as `view`, joined from the artifacts that hold its columns.

    Args:
        sources: the artifacts, the one that decides the rows and their order last.
        index: the shard.
        view: record type of the rows; no other column is read.
        positions: which rows of the shard; all if None.
    """
    table = read_table(sources, index, view)
    return from_table(table if positions is None else table.take(positions), view)


def read_table(sources: Sequence[Artifact], index: int, view: type[Any]) -> pa.Table:
    """The same rows as a table, for who needs whole columns."""
    wanted = {f.name for f in fields(view)}
    return join([source.shards.read(index, wanted) for source in sources])


def row_failure(
    prompt_id: str, reason: str, error: Exception, parts: Sequence[object], *kinds: type[Exception]
) -> Failure:
    """A failure row of an error that is one row's affair: of these kinds, or whatever a plug-in lets through.

    A plug-in does not know our exceptions, and one bad row must not end a night's work: how many there may be,
    `max_failed_fraction` says.

    Args:
        prompt_id: the row.
        reason: a short, countable class.
        error: that is being handled; raised again if it is not the row's.
        parts: whose code has run; None for one that is not there.
        kinds: errors of our own parts that concern a row.
    """
    plugged_in = any(part is not None and is_plug_in(part) for part in parts)
    if not isinstance(error, kinds) and (isinstance(error, RayflowError) or not plugged_in):
        raise error
    return failure_of(prompt_id, reason, str(error) if isinstance(error, RayflowError) else error)


def failure_of(prompt_id: str, reason: str, error: BaseException | str) -> Failure:
    """A failure row whose detail is the exception's own words, at most 500 characters of them."""
    detail = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return Failure(prompt_id=prompt_id, reason=reason, detail=detail[:500])
