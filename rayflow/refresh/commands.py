"""What `rayflow refresh` and `rayflow table` do, without the command line."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rayflow.config.refresh import RefreshConfig, RefreshOptions, checked_date, for_date
from rayflow.core.verbatim import verbatim
from rayflow.errors import ArtifactError, ConfigError
from rayflow.pipeline.plan_table import print_plan, say_unchecked
from rayflow.pipeline.preflight import preflight
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.refresh.attempt import Attempt
from rayflow.refresh.changes import Changes
from rayflow.refresh.execute import Outcome, Refresh, sentence
from rayflow.refresh.export import export
from rayflow.refresh.folder import RefreshFolder, VersionRecord
from rayflow.refresh.lease import Lease
from rayflow.refresh.recipe import data_plan, recipe_of, settings_of
from rayflow.refresh.report import outcome
from rayflow.refresh.table import PreferenceTable
from rayflow.report import words

HELD_BACK = 3
"""Exit code of a refresh whose version did not pass the gate."""


def refresh(config: RefreshConfig, day: str | None, console: Console, dry_run: bool = False) -> int:
    """Bring a day's version of the table to its committed state; returns the exit code.

    Raises:
        BusyError: another process is at it; exit code 75.
        RayflowError: what was finished is kept, and running again goes on from there.
    """
    day = checked_date(day)
    config = for_date(config, day)
    console.print(f"[bold]{config.name}, {day}[/]  {verbatim(config.root)}")
    if dry_run:
        _dry_run(config, day, console)
        return 0
    done = Refresh(config, day, console).run()
    _tell(done, console)
    if not done.promoted:
        return HELD_BACK
    if config.refresh.train:
        from rayflow.refresh.train import train

        console.print(f"[bold]Policy:[/] {train(config, done.version, console)}", soft_wrap=True)
    return 0


def _tell(done: Outcome, console: Console) -> None:
    if done.already:
        console.print(f"Done before: version {done.version}.")
    elif done.unchanged:
        console.print(f"Nothing has changed: version {done.version} stays.")
    elif done.promoted:
        console.print(f"[green]Promoted[/] version {done.version}.")
    else:
        console.print(f"[yellow]Held back[/]: version {done.version} was written, readers do not get it.")
        for reason in done.reasons:
            console.print(f"  {reason}", highlight=False, markup=False, soft_wrap=True)
    if done.report is not None:
        console.print(f"[bold]Report:[/] {verbatim(done.report)}", soft_wrap=True)


def _dry_run(config: RefreshConfig, day: str, console: Console) -> None:
    """Check everything, say what would be computed and where; write nothing that stays."""
    whole = build_run_plan(config)
    preflight(whole)
    work = Refresh(config, day, console)
    work.folder.check()
    if (version := work.folder.day(day)) is not None:
        console.print(f"Nothing to do: the day has version {version}.")
        return
    with tempfile.TemporaryDirectory() as scratch:
        attempt = Attempt(Path(scratch))
        Changes(config, recipe_of(settings_of(whole)), work.base(), attempt.folder).write({}, {})
        console.print(sentence(attempt.counts), highlight=False)
        if attempt.num_todo:
            print_plan(data_plan(config, attempt.run, attempt.todo), console)
    say_unchecked(whole, console)


def show_table(path: Path, version: int | None, console: Console) -> None:
    """List the versions of a table, or show one of them."""
    folder = RefreshFolder.open(path)
    if version is None:
        _list(folder, console)
    else:
        _show(folder, folder.record(version), console)


def export_version(path: Path, version: int | None, output: Path, format: str, console: Console) -> None:
    """Write a version, or the promoted one, to a new folder."""
    folder = RefreshFolder.open(path)
    record = folder.record(_chosen(folder, version))
    total = export(PreferenceTable(folder.table), record, output, format)
    what = "pair" if format == "trl" else "prompt"
    console.print(
        f"Version {record.version}: {words.count(total, what)} -> {verbatim(output)}", soft_wrap=True
    )


def promote(path: Path, version: int | None, console: Console) -> None:
    """Give a version that was held back to the readers, because a person has looked at it.

    Raises:
        ArtifactError: there is no such version, or retention removed its data.
        BusyError: a refresh is under way, which may promote or remove versions itself.
        ConfigError: no version is named, or readers have a later one already.
    """
    folder = RefreshFolder.open(path)
    if version is None:
        raise ConfigError("Say which version to promote: --version N.")
    what = f"promotion of version {version}"
    with Lease(folder.lease, RefreshOptions().lease_seconds).held(what) as lease:
        record, latest = folder.record(version), folder.latest
        if latest is not None and version <= latest:
            raise ConfigError(
                f"Readers have version {latest}; a version before it cannot be promoted any more."
            )
        if record.removed is not None or not PreferenceTable(folder.table).readable(version):
            raise ArtifactError(
                f"Version {version} cannot be promoted: retention removed its data. Promote a later version "
                f"(`rayflow table {path}` lists them), or run the refresh again."
            )
        lease.check()
        folder.promote(version, by="hand")
        folder.finish_day(record.date, version)
    console.print(f"Promoted version {version} by hand.")


def _chosen(folder: RefreshFolder, version: int | None) -> int:
    chosen = folder.latest if version is None else version
    if chosen is None:
        raise ConfigError(f"{folder.root} has no promoted version yet; name one with --version N.")
    return chosen


def _list(folder: RefreshFolder, console: Console) -> None:
    promoted, latest = folder.promoted(), folder.latest
    table = Table(title=f"{folder.name}: {folder.table}", title_justify="left", box=None, pad_edge=False)
    for heading in ("version", "date", "prompts", "pairs", "computed", "failed", "reward", "state"):
        table.add_column(heading, justify="left" if heading in ("date", "state") else "right", no_wrap=True)
    for record in folder.records():
        whole = record.measures["whole"]
        state = "promoted" if record.version in promoted else "held back"
        state = "readers get this" if record.version == latest else state
        table.add_row(
            str(record.version),
            record.date,
            f"{whole['rows']:,}",
            f"{whole['pairs']:,}",
            f"{sum(record.counts['todo'].values()):,}",
            f"{record.counts['failed']:,}",
            words.reward(whole["reward"]["value"]),
            state + (", data removed" if record.removed is not None else ""),
        )
    console.print(table)


def _show(folder: RefreshFolder, record: VersionRecord, console: Console) -> None:
    facts: dict[str, Any] = {
        "made": f"{datetime.fromtimestamp(record.created, tz=UTC):%Y-%m-%d %H:%M} UTC by {record.attempt}",
        "state": "promoted" if record.version in folder.promoted() else "held back",
        **record.recipe,
        **{f"checked {v['check']} ({v['scope']})": _verdict(v) for v in record.verdicts},
    }
    console.print(f"[bold]Version {record.version}[/], {record.date}")
    for name, value in facts.items():
        console.print(f"  {name}: {value}", highlight=False, markup=False)
    for what, how_many in outcome(record.counts):
        console.print(f"  {what}: {how_many:,}", highlight=False, markup=False)


def _verdict(verdict: dict[str, Any]) -> str:
    value = words.number(verdict["value"])
    return f"{value}, limit {words.number(verdict['limit'])}: " + (verdict["reason"] or "passed")
