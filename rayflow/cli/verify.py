"""The command that looks for damage in a stored run: verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rayflow.cli.options import LOOK, Flag, RunFolder, console
from rayflow.core.verbatim import verbatim

if TYPE_CHECKING:
    from rayflow.pipeline.verify import Finding


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=LOOK)(verify)


def verify(
    run_folder: RunFolder,
    repair: Annotated[
        bool, Flag("--repair", help="Take back what is damaged and what was made from it.")
    ] = False,
) -> None:
    """Hold every stored shard and model of a run against its checksum. Exit code 1 if something is damaged."""
    from rayflow.config.load import command_of
    from rayflow.pipeline import verify as checks
    from rayflow.pipeline.stored import open_any

    plan = open_any(run_folder)
    findings = checks.verify(plan)
    if not findings:
        console.print(f"Nothing is stored yet in {verbatim(run_folder)}.", soft_wrap=True)
        return
    for finding in findings:
        mark = "[green]✓[/]" if finding.whole else "[red]✗[/]"
        console.print(f"{mark} {finding.stage:<20} {_checked([finding])}")
        for detail in finding.details:
            console.print(f"  {detail}", soft_wrap=True, markup=False)
    damaged = sum(len(finding.details) for finding in findings)
    console.print(
        f"{_checked(findings)} checked, {f'{damaged} damaged or missing' if damaged else 'all whole'}."
    )
    if not damaged:
        return
    if not repair:
        raise typer.Exit(1)
    for stage, what in checks.repair(plan, findings).items():
        console.print(f"taken back: {stage}, {what}")
    command = command_of(run_folder / "config.yaml")
    console.print(f"Now run it again: rayflow {command} {verbatim(run_folder)}", soft_wrap=True)


def _checked(findings: list[Finding]) -> str:
    """What was looked at, with its unit."""
    from rayflow.report import words

    found = {"shard": sum(each.shards for each in findings), "model": sum(each.models for each in findings)}
    return " and ".join(words.count(amount, noun) for noun, amount in found.items() if amount) or "no shards"
