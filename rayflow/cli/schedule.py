"""The commands that run a configuration at set times, without Kubernetes: schedule add, list, serve, export, ..."""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rayflow.cli.options import NIGHTLY, AsJson, Config, Flag, console
from rayflow.schedule.records import Command, Missed

if TYPE_CHECKING:
    from rayflow.schedule.ledger import Ledger

schedule = typer.Typer(no_args_is_help=True, help="Run a configuration at set times, without Kubernetes.")

Name = Annotated[str, typer.Argument(help="The schedule's name.", show_default=False)]
State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="RAYFLOW_SCHEDULE_STATE",
        help="Folder of the ledger, on a disk of this machine; default: ~/.local/state/rayflow/schedule (XDG).",
        show_default=False,
    ),
]
_ADD = "rayflow schedule add NAME CONFIG --cron '0 2 * * *'"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(schedule, name="schedule", rich_help_panel=NIGHTLY)


def _open(state: Path | None) -> Ledger:
    from rayflow.schedule.ledger import Ledger
    from rayflow.schedule.records import state_folder

    return Ledger(state or state_folder())


@schedule.command()
def add(
    name: Name,
    config: Config,
    cron: Annotated[str, typer.Option(help="Minute, hour, day, month, day of the week.", show_default=False)],
    timezone: Annotated[str, typer.Option(help="The zone of these, such as Europe/Berlin.")] = "UTC",
    missed: Annotated[
        Missed, typer.Option(help="A time at which nothing could start: make up for it once, or skip it.")
    ] = "run-once",
    command: Annotated[Command, typer.Option(help="What is run: refresh gets the day.")] = "refresh",
    program: Annotated[
        Path | None,
        typer.Option(help="An executable that is called in rayflow's place, with its arguments."),
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="Finished runs whose record and log are kept.")] = 100,
    replace: Annotated[bool, Flag("--replace", help="Change the schedule of this name.")] = False,
    state: State = None,
) -> None:
    """Add a schedule, from the next time on. It is run in this folder, by `rayflow schedule serve`."""
    from rayflow.schedule import commands
    from rayflow.schedule.show import POLICIES, described, minute

    made = commands.new_schedule(
        *(name, config, cron, timezone, command), missed=missed, keep=keep, program=program
    )
    with _open(state) as ledger:
        hint = commands.add(ledger, made, replace)
        shown = described(ledger, ledger.schedule(name), datetime.now(UTC))
        console.print(f"{name}: next {minute(shown['next']) or 'never: paused'}; {POLICIES[made.missed]}.")
        if hint:
            console.print(hint, soft_wrap=True)
        _warn_unserved(ledger)


@schedule.command(name="list")
def list_(state: State = None, as_json: AsJson = False) -> None:
    """Show all schedules: next and last time, state, last result, what becomes of missed times."""
    from rayflow.schedule.show import described, lines_of

    with _open(state) as ledger:
        rows = [described(ledger, one, datetime.now(UTC)) for one in ledger.schedules()]
        if as_json:
            print(json.dumps(rows, indent=2))
        elif not rows:
            print(f"No schedules yet: {_ADD}")
        else:
            print("\n\n".join("\n".join(lines_of(row)) for row in rows))
            _warn_unserved(ledger)


@schedule.command()
def history(name: Name, state: State = None, as_json: AsJson = False) -> None:
    """Show a schedule's runs, and the times that were not run, with the reason."""
    from rich.table import Table

    from rayflow.schedule import show

    with _open(state) as ledger:
        entries = show.history(ledger, ledger.schedule(name))
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    if not entries:
        print(f"{name} has not run yet, and no time was missed: rayflow schedule list shows its next one.")
        return
    table = Table("time", "date", "result", "log or reason", box=None)
    for entry in entries:
        table.add_row(*show.columns(entry))
    # Whole, also in a pipe: a path that is cut is no use.
    Console(highlight=False, width=1000).print(table)


@schedule.command()
def remove(name: Name, state: State = None) -> None:
    """Forget a schedule, its history and its logs. What its command made stays."""
    from rayflow.schedule import commands

    with _open(state) as ledger:
        commands.remove(ledger, name)
    print(f"{name}: removed, with its history and logs. What its command made stays.")


@schedule.command()
def pause(name: Name, state: State = None) -> None:
    """Start it no more until it is resumed; what runs goes on."""
    from rayflow.schedule import commands

    with _open(state) as ledger:
        commands.pause(ledger, name)
    print(f"{name}: paused; what runs goes on. Start it again: rayflow schedule resume {name}")


@schedule.command()
def resume(name: Name, state: State = None) -> None:
    """Start it again, from the next time on; those of the pause are left out."""
    from rayflow.schedule import commands
    from rayflow.schedule.show import described, minute, note_described

    with _open(state) as ledger:
        now = datetime.now(UTC)
        note = commands.resume(ledger, name, now)
        one = ledger.schedule(name)
        if note:
            console.print(f"{note.count} times were left out: {note_described(one, note)['text']}.")
        console.print(f"{name}: next {minute(described(ledger, one, now)['next'])}.")


@schedule.command()
def run_now(
    name: Name,
    date: Annotated[
        str | None, typer.Option(help="The day for the command; default: today in its zone.")
    ] = None,
    state: State = None,
) -> None:
    """Run it once, here, and wait. The exit code is the command's; 75 if it is running already."""
    from rayflow.schedule import commands
    from rayflow.schedule.records import BUSY

    with _open(state) as ledger:
        run = commands.run_now(ledger, name, date, sys.stdout.buffer, lambda line: print(line, flush=True))
    if run.state != "done":
        print(f"{run.result}; `rayflow schedule serve`, or run-now again, takes it up.", file=sys.stderr)
        raise typer.Exit(BUSY if run.exit_code == BUSY else 130)
    raise typer.Exit(run.exit_code or 0)


@schedule.command()
def day(
    cron: Annotated[str, typer.Argument(help="Five fields, such as '0 2 * * *'.", show_default=False)],
    timezone: Annotated[str, typer.Option(help="The zone that the times are in.")] = "UTC",
    until: Annotated[
        int | None,
        typer.Option("--at", min=0, max=2**36, help="Up to this time, in seconds since 1970; default: now."),
    ] = None,
) -> None:
    """Print the day of the latest time at which such a schedule was due: what exported schedules run for."""
    from rayflow.schedule.times import Times

    now = datetime.now(UTC) if until is None else datetime.fromtimestamp(until, UTC)
    print(Times(cron, timezone).latest_day(now))


@schedule.command()
def serve(state: State = None) -> None:
    """Wait in the foreground and start what is due, until SIGTERM or Ctrl-C. Keep one up, under systemd, say."""
    from rayflow.schedule.server import Clock, Server

    clock = Clock()
    with _open(state) as ledger, ledger.serving():
        clock.listen()
        _say(f"serving {len(ledger.schedules())} schedules of {ledger.path}")
        Server(ledger, clock, _say).serve()


@schedule.command()
def export(
    name: Name,
    format: Annotated[
        str,
        typer.Option(
            help="Who keeps the schedule instead: cronjob, raycronjob, crontab, systemd or airflow.",
            show_default=False,
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="Folder to write to; default: shown.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a=value", help="A setting of the cluster (cronjob, raycronjob)."),
    ] = None,
    state: State = None,
) -> None:
    """Write the schedule for Kubernetes, cron, systemd or Airflow. Then `remove` or `pause` it here."""
    from rayflow.cli.cluster import warn_of_pods
    from rayflow.schedule.exports import KUBERNETES
    from rayflow.schedule.exports import export as exported
    from rayflow.schedule.exports.kubernetes import cluster_of

    with _open(state) as ledger:
        found = ledger.schedule(name)
    files = exported(found, format, set_ or [])
    if format in KUBERNETES:
        warn_of_pods(cluster_of(found, set_ or []), found.folder)
    for file, text in files.items():
        if output is None:
            print(f"# {file}\n{text}" if len(files) > 1 else text, end="")
            continue
        output.mkdir(parents=True, exist_ok=True)
        (output / file).write_text(text, encoding="utf-8")
        console.print(str(output / file), soft_wrap=True)


def _warn_unserved(ledger: Ledger) -> None:
    if not ledger.is_served():
        console.print("Nothing is started: no `rayflow schedule serve` is running on this ledger.")


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever read this may be gone: no reason to stop serving
        print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}", flush=True)
