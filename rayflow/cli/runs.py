"""The commands that make and read a run: run, train-reward, report, select, diagnose, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rayflow.cli.options import LOOK, RUNS, DryRun, Force, Job, Only, Overrides, RunFolder, Until, console


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (run, train_reward, select, export):
        app.command(rich_help_panel=RUNS)(command)
    for command in (report, diagnose):
        app.command(rich_help_panel=LOOK)(command)


def run(
    config: Job,
    set_: Overrides = None,
    force_stage: Force = None,
    dry_run: DryRun = False,
    only: Only = None,
    until: Until = None,
) -> None:
    """Run the job: sample, score, select, pair, train, evaluate, report. Run again to go on or to skip."""
    from rayflow.config import RunConfig
    from rayflow.pipeline import commands
    from rayflow.pipeline.folders import config_of

    commands.run(config_of(config, set_ or (), RunConfig), console, force_stage or (), dry_run, only, until)


def train_reward(
    config: Job,
    set_: Overrides = None,
    force_stage: Force = None,
    dry_run: DryRun = False,
) -> None:
    """Train a reward model on preferences, and measure it on held-out pairs. Run again to go on or to skip."""
    from rayflow.config.reward import RewardConfig
    from rayflow.pipeline import commands
    from rayflow.pipeline.folders import config_of

    settings = config_of(config, set_ or (), RewardConfig)
    commands.train_reward(settings, console, force_stage or (), dry_run)


def report(run_folder: RunFolder) -> None:
    """Write report.html and summary.json anew, from what the run has so far."""
    from rayflow.pipeline import commands

    commands.write_report(run_folder, console)


def select(
    run_folder: RunFolder,
    name: Annotated[str | None, typer.Option(help="Name of the new run; default: from the settings.")] = None,
    beta: Annotated[float | None, typer.Option(help="Rejection sampling's temperature.")] = None,
    num_accepted: Annotated[int | None, typer.Option(help="Responses to accept per prompt.")] = None,
    pairing: Annotated[str | None, typer.Option(help="Pairing rule, such as tournament.")] = None,
    set_: Overrides = None,
) -> None:
    """Try other settings on stored samples and scores, in a new run: selection, pairing, loss or training.

    Selects and pairs at once, without a model or a GPU unless a ranker labels the pairs; `rayflow run` on the new
    folder then trains. What changes prompts, sampling or scores needs `rayflow run` from the start.
    """
    from rayflow.pipeline import commands

    given = {"select.beta": beta, "select.num_accepted": num_accepted, "pair.kind": pairing}
    overrides = [f"{key}={value}" for key, value in given.items() if value is not None] + (set_ or [])
    commands.reselect(run_folder, overrides, name, console)


def diagnose(
    run_folder: RunFolder,
    beta: Annotated[
        list[float] | None, typer.Option(help="A beta to show, instead of a grid that fits; repeatable.")
    ] = None,
    num_accepted: Annotated[
        int | None, typer.Option(min=1, help="Responses to accept per prompt; default: the run's.")
    ] = None,
    kl_budget: Annotated[
        float | None,
        typer.Option(help="Nats that the target may be away from the SFT policy; default: half of log(n/k)."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write to; default: the run's.")] = None,
) -> None:
    """Choose beta from stored scores, without training: reward, KL and acceptance of each. Loads no model."""
    from rayflow.pipeline import commands

    commands.diagnose(run_folder, console, beta or (), num_accepted, kl_budget, output)


def export(
    run_folder: RunFolder,
    format: Annotated[str, typer.Option(help="trl: prompt, chosen, rejected.")] = "trl",
    output: Annotated[Path | None, typer.Option(help="A .jsonl or .parquet file.")] = None,
) -> None:
    """Write the preference pairs for other trainers."""
    from rayflow.pipeline import commands

    commands.export(run_folder, format, output, console)
