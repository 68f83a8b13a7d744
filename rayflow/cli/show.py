"""The command that shows a configuration as a job would read it: show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rayflow.cli.options import LOOK, Overrides

Subject = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG", help="A YAML configuration of any job, or a job's folder.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=LOOK)(show)


def show(config: Subject, set_: Overrides = None) -> None:
    """Print a configuration as YAML: `extends` and --set resolved, every default written out. Starts nothing.

    After a study come the configurations that it is made of, each as a document of its own.
    """
    from rayflow.config import load_config, schema_of
    from rayflow.config.study import StudyConfig
    from rayflow.pipeline.folders import job_of, stored_config

    overrides = set_ or []
    if config.is_dir():
        typer.echo(stored_config(config, job_of(config), overrides).to_yaml(), nl=False)
    elif schema_of(config) is StudyConfig:
        _show_study(config, overrides)
    else:
        typer.echo(load_config(config, overrides, schema_of(config)).to_yaml(), nl=False)


def _show_study(config: Path, overrides: list[str]) -> None:
    from rayflow.study.parts import load_study

    study = load_study(config, overrides)
    typer.echo(study.config.to_yaml(), nl=False)
    for name, part in study.parts().items():
        typer.echo(f"---\n# parts.{name}\n{part.to_yaml()}", nl=False)
