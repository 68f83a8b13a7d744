"""Commands for ratings by people: human export, human import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rayflow.cli.options import EVALUATION, console
from rayflow.core.verbatim import verbatim


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="Ratings by people: a page for raters, and what they said.", no_args_is_help=True
    )
    group.command("export")(export)
    group.command("import")(import_)
    app.add_typer(group, name="human", rich_help_panel=EVALUATION)


def export(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs or evaluations with the same prompts.", show_default=False),
    ],
    output: Annotated[Path, typer.Option(help="A new folder.")],
    num: Annotated[int, typer.Option(min=1, help="Tasks at most.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw, and of the order of responses.")] = 0,
    instructions: Annotated[
        Path | None, typer.Option(help="A text file that raters read first, instead of ours.")
    ] = None,
) -> None:
    """Write a rating page that opens in a browser, a CSV for crowd platforms, and the key."""
    from rayflow.errors import DataError
    from rayflow.pipeline.human import KEY, RATERS, export_human
    from rayflow.report.human import INSTRUCTIONS

    try:
        text = instructions.read_text(encoding="utf-8").strip() if instructions else INSTRUCTIONS
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The instructions {instructions} cannot be read: {error}") from error
    total = export_human(runs, num, output, text, seed)
    console.print(
        f"{total} tasks -> {verbatim(output / RATERS)}: send rating.html to raters, or tasks.csv to a platform."
    )
    console.print(
        f"Keep {verbatim(output / KEY)}: it says which response is whose. Then: rayflow human import {verbatim(output)}"
    )


def import_(
    folder: Annotated[Path, typer.Argument(help="What `human export` wrote.", show_default=False)],
    answers: Annotated[
        list[Path] | None,
        typer.Argument(help="Raters' .json or .csv files; default: answers* in the folder."),
    ] = None,
) -> None:
    """Aggregate raters' answers: mean quality, majority vote, agreement."""
    from rayflow.pipeline.human_answers import import_human
    from rayflow.report.human import lead
    from rayflow.report.human_terminal import print_human

    result, page = import_human(folder, answers or [])
    print_human(result, console)
    console.print(f"\n{verbatim(lead(result))}")
    console.print(f"[bold]Report:[/] {verbatim(page)}", soft_wrap=True)
