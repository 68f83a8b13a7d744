"""The commands that look: doctor at this machine, lineage at where a row came from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayflow.cli.options import LOOK, AsJson, console

if TYPE_CHECKING:
    from rayflow.doctor.finding import Finding

_MARKS = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "error": "[bold red]error  [/]"}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (doctor, lineage):
        app.command(rich_help_panel=LOOK)(command)


def doctor(
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="Look at the job server of this cluster too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for what is known to break runs on this machine. Ends with 1 if there is an error."""
    from rayflow.doctor.machine import check_machine
    from rayflow.doctor.packages import Installed, check_packages

    found = [*check_machine(), *check_packages(Installed.here())]
    if address:
        found += _cluster(address)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
    else:
        for each in found:
            console.print(f"{_MARKS[each.level]} {each.subject:<14}", end="")
            console.print(each.seen, markup=False, soft_wrap=True)
            if each.remedy:
                console.print(f"        {'':<14}-> {each.remedy}", markup=False, soft_wrap=True)
    if any(each.level == "error" for each in found):
        raise typer.Exit(1)


def _cluster(address: str) -> list[Finding]:
    from rayflow.dist.exposure import warnings_for
    from rayflow.dist.jobs import JobServer
    from rayflow.doctor.finding import Finding
    from rayflow.errors import JobError

    try:
        server = JobServer(address)
        server.jobs()
    except JobError as error:
        return [Finding("error", "cluster", str(error), "See above; then run this again.")]
    told = [
        Finding("error", "cluster", text, "See the README, Security.")
        for text in warnings_for(server.address)
    ]
    return told or [Finding("ok", "cluster", f"{server.address} answers")]


def lineage(
    folder: Annotated[
        Path, typer.Argument(help="A run's folder, or a refresh's for its table.", show_default=False)
    ],
    row: Annotated[
        str, typer.Argument(metavar="ID", help="PROMPT, PROMPT/3 for a candidate, 'PROMPT/3>5' for a pair.")
    ],
    version: Annotated[
        int | None, typer.Option(help="Of a preference table; default: the promoted one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what made a row: policy, reward, seed and settings, with its log-probabilities and rewards."""
    from rayflow.errors import ConfigError
    from rayflow.pipeline.lineage import trace
    from rayflow.refresh.folder import RefreshFolder
    from rayflow.refresh.lineage import trace_row
    from rayflow.report.lineage import lineage_lines

    if RefreshFolder.is_one(folder):
        found = trace_row(folder, version, row)
    elif version is not None:
        raise ConfigError(f"--version: {folder} is no preference table; only those have versions.")
    else:
        found = trace(folder, row)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    whole = "/" not in row  # a prompt with all its responses, each of which would take ten lines
    sides = found.get("held_out") or {}
    short = {"candidates": {}, "held_out": {"verdicts": sides.get("verdicts", {})}}
    for line in lineage_lines(found | short if whole else found):
        typer.echo(line)
    if whole and (found["candidates"] or not sides):
        _print_candidates(found["candidates"], row)
    if whole and sides:
        _print_sides(sides, row)


def _print_candidates(candidates: dict[str, dict[str, Any]], prompt: str) -> None:
    """All candidates of a prompt, a line each."""
    _print_responses("candidate", candidates, accepted=True)
    console.print(
        f"Accepted: in this order. A candidate in full: {prompt}/{next(iter(candidates), 0)}", markup=False
    )


def _print_sides(sides: dict[str, Any], prompt: str) -> None:
    """What both policies answered to a held-out prompt, a line each."""
    for side in ("policy", "baseline"):
        _print_responses(side, sides[side], accepted=False)
    console.print(
        f"Held out: nothing was learned from these. One of each side in full: {prompt}/0",
        markup=False,
        soft_wrap=True,
    )


def _print_responses(heading: str, found: dict[str, dict[str, Any]], accepted: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from rayflow.report import words

    table = Table(box=None, pad_edge=False)
    for title in (heading, "reward", "tokens", *(("accepted",) if accepted else ()), "response"):
        # In a narrow terminal the text gives way, not the numbers.
        table.add_column(
            title, justify="left" if title == "response" else "right", no_wrap=title != "response"
        )
    for index, each in found.items():
        text = "".join(sign if sign.isprintable() else " " for sign in each.get("response", ""))
        place = "" if each.get("accepted_as") is None else f"{each['accepted_as'] + 1}."
        reward, tokens = words.reward(each.get("reward")), str(each.get("num_tokens", ""))
        table.add_row(
            index,
            reward,
            tokens,
            *((place,) if accepted else ()),
            Text(text[:60], no_wrap=True, overflow="ellipsis"),
        )
    console.print()
    console.print(table)
