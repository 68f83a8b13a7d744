"""The command that looks for damage in a stored run: verify."""

from __future__ import annotations

from typing import Annotated

import typer

from rayflow.cli.options import RunFolder, console


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(verify)


def verify(
    run_folder: RunFolder,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take back what is damaged and what was made from it.")
    ] = False,
) -> None:
    """Hold every stored shard and model of a run against its checksum. Exit code 1 if something is damaged."""
    from rayflow.config.load import command_of
    from rayflow.pipeline import verify as checks
    from rayflow.pipeline.commands import open_any

    plan = open_any(run_folder)
    findings = checks.verify(plan)
    for finding in findings:
        mark = "[green]✓[/]" if finding.whole else "[red]✗[/]"
        console.print(f"{mark} {finding.stage:<20} {finding.checked:,} checked")
        for detail in finding.details:
            console.print(f"  {detail}", soft_wrap=True, markup=False)
    if all(finding.whole for finding in findings):
        return
    if not repair:
        raise typer.Exit(1)
    for stage, what in checks.repair(plan, findings).items():
        console.print(f"taken back: {stage}, {what}")
    command = command_of(run_folder / "config.yaml")
    console.print(f"Now run it again: rayflow {command} {run_folder}", soft_wrap=True)
