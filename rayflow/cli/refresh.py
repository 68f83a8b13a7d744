"""The commands that keep a preference table up to date, and read it: refresh, table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rayflow.cli.options import NIGHTLY, Config, DryRun, Flag, Overrides, console


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (refresh, table):
        app.command(rich_help_panel=NIGHTLY)(command)


def refresh(
    config: Config,
    date: Annotated[
        str | None, typer.Option(help="The day, such as 2026-11-20; default: today in UTC.")
    ] = None,
    set_: Overrides = None,
    dry_run: DryRun = False,
) -> None:
    """Bring the preference table to a day's state: compute what is new or has changed, judge it, promote it.

    Exit codes: 0 the day is done, now or before; 3 its version was held back by the gate; 75 another refresh is at it.
    """
    from rayflow.config import load_config
    from rayflow.config.refresh import RefreshConfig
    from rayflow.refresh import commands

    code = commands.refresh(load_config(config, set_, RefreshConfig), date, console, dry_run)
    if code:
        raise typer.Exit(code)


def table(
    folder: Annotated[
        Path, typer.Argument(help="A refresh's folder, or the table in it.", show_default=False)
    ],
    version: Annotated[int | None, typer.Option(help="Which version; default: the promoted one.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write the version to this new folder.")] = None,
    format: Annotated[
        str, typer.Option(help="trl: prompt, chosen, rejected; groups: whole groups for rayflow.")
    ] = "trl",
    promote: Annotated[bool, Flag("--promote", help="Give a held-back version to readers.")] = False,
) -> None:
    """List the versions of a preference table, show one, export one in the Hugging Face layout, or promote one."""
    from rayflow.refresh import commands

    if promote:
        commands.promote(folder, version, console)
    elif export is not None:
        commands.export_version(folder, version, export, format, console)
    else:
        commands.show_table(folder, version, console)
