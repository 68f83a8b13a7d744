"""What the commands do, without the command line: each takes checked values and a console."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console

from rayflow.config import JobConfig, RunConfig
from rayflow.config.evaluate import EvaluateConfig
from rayflow.config.reward import RewardConfig
from rayflow.core.verbatim import verbatim
from rayflow.errors import ConfigError
from rayflow.pipeline.evaluation_plan import build_evaluation_plan
from rayflow.pipeline.execute import Pipeline
from rayflow.pipeline.parts import stages_of
from rayflow.pipeline.placement import check_this_machine
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.plan_table import print_plan, say_first_of, say_unchecked
from rayflow.pipeline.preflight import preflight
from rayflow.pipeline.renew import renew
from rayflow.pipeline.reselect import reselected
from rayflow.pipeline.reward_plan import build_reward_plan
from rayflow.pipeline.rounds import SELECTING, SHARED, checked_rounds, round_configs, write_summary
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.runner import LocalRunner, Runner
from rayflow.pipeline.stored import open_any, open_plan
from rayflow.pipeline.tracking import Tracking
from rayflow.pipeline.unread import unread_settings


def run(
    config: RunConfig,
    console: Console,
    force: Sequence[str] = (),
    dry_run: bool = False,
    only: str | None = None,
    until: str | None = None,
) -> None:
    """Run a plan and write its report, for every round.

    Args:
        config: what to do.
        console: for the person who waits.
        force: stages to redo, with everything that depends on them.
        dry_run: only check, and print the plan of the first round.
        only, until: the one part to run, or the last one (see `parts`); the whole run if neither is given.

    Raises:
        RayflowError: see the stages.
    """
    for told in unread_settings(config):
        console.print(f"[yellow]{verbatim(told)}[/]", soft_wrap=True)
    rounds = checked_rounds(config)
    for each in rounds[1:]:
        preflight(build_run_plan(each))
    if config.rounds.num == 1:
        plan = build_run_plan(rounds[0])
        _run_once(plan, console, force, dry_run, stages_of(plan, only, until))
    elif only or until:
        raise ConfigError(
            f"--only and --until work on one round, and this configuration has {config.rounds.num}. Run it whole, "
            "or set rounds.num=1."
        )
    elif dry_run:
        say_first_of(config.rounds.num, console)
        _run_once(build_run_plan(rounds[0]), console, force, dry_run=True)
    else:
        _run_rounds(config, console, force)


def train_reward(
    config: RewardConfig, console: Console, force: Sequence[str] = (), dry_run: bool = False
) -> None:
    """Train a reward model, measure it and write its report; `dry_run` only checks and prints the plan."""
    _run_once(build_reward_plan(config), console, force, dry_run)


def evaluate(
    config: EvaluateConfig, console: Console, force: Sequence[str] = (), dry_run: bool = False
) -> None:
    """Evaluate a policy and write the report; `dry_run` only checks and prints the plan."""
    _run_once(build_evaluation_plan(config), console, force, dry_run)


def _run_rounds(config: RunConfig, console: Console, force: Sequence[str]) -> None:
    first: Plan | None = None
    for current in round_configs(config):
        console.print(f"\n[bold]{config.name}, {current.name} of {config.rounds.num}[/]")
        plan = build_run_plan(current)
        if first is None:
            first = plan
            _run_once(plan, console, force)
        else:
            renew(plan, None if config.rounds.resample else first, force, console)
            _run_once(plan, console)
    rounds = write_summary(config)
    for each in rounds:
        rate = each["evaluation"]["win_rate"] if each["evaluation"] else None
        console.print(
            f"round {each['round']}: " + ("not evaluated" if rate is None else f"win rate {rate:.1%}")
        )


def _run_once(
    plan: Plan,
    console: Console,
    force: Sequence[str] = (),
    dry_run: bool = False,
    only: Collection[str] | None = None,
) -> None:
    if dry_run:
        preflight(plan)
        redo = plan.dependents(force)
        check_this_machine(plan, only, redo)
        print_plan(plan, console, redo, only)
        say_unchecked(plan, console)
        return
    _say_name(plan, console)
    tracking = Tracking(plan, console)
    Pipeline(plan, make_runner(plan.config), console, tracking.step).run(force, only)
    _report(plan, console)
    tracking.finish()


def _say_name(plan: Plan, console: Console) -> None:
    console.print(f"[bold]{plan.config.name}[/]  {verbatim(plan.config.root)}", soft_wrap=True)


def make_runner(config: JobConfig) -> Runner:
    """The runner that the configuration asks for."""
    if config.compute.runner == "local":
        return LocalRunner(config.compute)
    from rayflow.dist.runner import RayRunner

    return RayRunner(config.compute, config.root / "logs")


def write_report(folder: Path, console: Console) -> None:
    """Write the report of a run, a reward model's training or an evaluation, finished or not."""
    _report(open_any(folder), console)


def _report(plan: Plan, console: Console) -> None:
    if isinstance(plan.config, RewardConfig):
        from rayflow.pipeline.reward_report import report
    elif isinstance(plan.config, EvaluateConfig):
        from rayflow.pipeline.evaluation_report import report
    else:
        from rayflow.pipeline.report import report
    path, lead = report(plan)
    console.print(f"\n{verbatim(lead)}")
    console.print(f"[bold]Report:[/] {verbatim(path)}", soft_wrap=True)


def reselect(folder: Path, overrides: list[str], name: str | None, console: Console) -> None:
    """Select and pair anew from stored scores, in a run of its own that shares the earlier stages' files.

    Raises:
        ArtifactError: the scores are not finished.
        ConfigError: a setting does not fit, would change the sampling or the scores, or asks for new ones.
    """
    plan = reselected(open_plan(folder), overrides, name)
    _say_name(plan, console)
    first = [step for step in plan.steps if {s.name for s in step} <= {*SHARED, *SELECTING}]
    Pipeline(Plan(plan.config, tuple(first)), LocalRunner(plan.config.compute), console).run()
    _report(plan, console)
    console.print(f"[bold]Train with it:[/] rayflow run {verbatim(plan.config.root)}", soft_wrap=True)


def export(folder: Path, format: str, output: Path | None, console: Console) -> None:
    """Write the pairs of a run to one file.

    Raises:
        ConfigError: an unknown format or file type.
        ArtifactError: the pairs are not finished.
    """
    from rayflow.pipeline.export import write_trl

    if format != "trl":
        raise ConfigError(f"Unknown export format '{format}'. Known: trl.")
    plan = open_plan(folder)
    if "pair" not in plan.artifacts:
        raise ConfigError(
            f"{folder} makes no pairs: its responses are the data's own (source: {plan.config.source}), in "
            f"{plan.config.prompts.train.path}."
        )
    output = output or folder / "preferences.jsonl"
    total, cut = write_trl(plan.artifacts, output)
    console.print(f"{total:,} pairs -> {verbatim(output)}", soft_wrap=True)
    if cut:
        console.print(
            f"{cut:,} of them hold a response that was cut at max_tokens (finish_reason 'length'): a trainer that ends "
            "every response with EOS would teach to stop there."
        )


def diagnose(
    folder: Path,
    console: Console,
    betas: Sequence[float] = (),
    num_accepted: int | None = None,
    kl_budget: float | None = None,
    output: Path | None = None,
) -> None:
    """Estimate from stored scores what each beta would select, print it, and write a page and its numbers.

    Raises:
        ArtifactError: not a run's folder, or its scores are not finished.
        ConfigError, DataError: a setting or the rewards leave nothing to choose.
    """
    from rayflow.pipeline.diagnose import diagnose_run, subject
    from rayflow.report.diagnose import lead, write_diagnosis
    from rayflow.report.terminal import print_diagnosis

    plan = open_plan(folder)
    with console.status("Reading the scores"):
        found = diagnose_run(plan, betas, num_accepted, kl_budget)
    page = write_diagnosis(found, subject(plan, str(folder)), output or folder)
    console.print(f"{verbatim(lead(found))}\n")
    print_diagnosis(found, console, str(folder))
    console.print(f"[bold]Diagnosis:[/] {verbatim(page)}", soft_wrap=True)
