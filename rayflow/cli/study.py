"""The commands of a study: run it, or write its report anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rayflow.cli.options import EVALUATION, DryRun, Overrides, console
from rayflow.core.verbatim import verbatim

StudyConfig = Annotated[Path, typer.Argument(help="The study's YAML configuration.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add `study` with its commands."""
    group = typer.Typer(
        help="Compare many methods on the same samples, each with several seeds.", no_args_is_help=True
    )
    group.command()(run)
    group.command()(report)
    app.add_typer(group, name="study", rich_help_panel=EVALUATION)


def run(config: StudyConfig, set_: Overrides = None, dry_run: DryRun = False) -> None:
    """Make the preferences, the proxy and the shared samples, then every row. Run again to go on."""
    from rayflow.study.dry_run import dry_run as only_check
    from rayflow.study.found import collect
    from rayflow.study.page import write
    from rayflow.study.parts import load_study
    from rayflow.study.run import StudyRun

    study = load_study(config, set_ or [])
    if dry_run:
        only_check(study, console)
        return
    StudyRun(study, console).run()
    _say(*write(collect(study), study.config.root))


def report(
    config: Annotated[
        Path,
        typer.Argument(
            help="The study's YAML configuration, its folder, or a study.json.", show_default=False
        ),
    ],
    set_: Overrides = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: the study's, or the file's.")
    ] = None,
) -> None:
    """Write study.html, study.json and tables.md from what the study has so far, or from its study.json alone."""
    from rayflow.errors import ArtifactError
    from rayflow.study.found import collect, restored
    from rayflow.study.page import write
    from rayflow.study.parts import load_study

    if config.is_dir():
        config /= "study.json"
    if config.suffix == ".json":
        if not config.exists():
            raise ArtifactError(
                f"{config} does not exist. Give the study's YAML configuration, or a study.json."
            )
        found, folder = restored(config, set_ or []), config.absolute().parent
    else:
        study = load_study(config, set_ or [])
        found, folder = collect(study), study.config.root
    _say(*write(found, output or folder))


def _say(path: Path, lead: str) -> None:
    console.print(f"\n{verbatim(lead)}")
    console.print(f"[bold]Study:[/] {verbatim(path)}", soft_wrap=True)
