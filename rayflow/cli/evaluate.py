"""The command that measures a trained policy: evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rayflow.cli.options import EVALUATION, DryRun, Force, Overrides, console

Subject = Annotated[
    Path,
    typer.Argument(help="An evaluation's YAML configuration, or a run's folder or YAML.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=EVALUATION)(evaluate)


def evaluate(
    config_or_run: Subject,
    set_: Overrides = None,
    force_stage: Force = None,
    dry_run: DryRun = False,
) -> None:
    """Measure a policy beside another: win rates, length control, diversity, KL, an LLM judge. Run again to go on.

    Of a run's YAML configuration it is the last part, as `rayflow run --only evaluate`.
    """
    from rayflow.config import RunConfig, load_config, schema_of
    from rayflow.pipeline import commands
    from rayflow.pipeline.evaluation_config import evaluation_config

    if not config_or_run.is_dir() and schema_of(config_or_run) is RunConfig:
        run = load_config(config_or_run, set_)
        commands.run(run, console, force_stage or (), dry_run, only="evaluate")
        return
    config = evaluation_config(config_or_run, set_ or [])
    commands.evaluate(config, console, force=force_stage or [], dry_run=dry_run)
