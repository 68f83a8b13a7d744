"""What a study would do: its parts checked, as far as they can be before its reward model exists, and its rows."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rayflow.core.verbatim import verbatim
from rayflow.pipeline.preflight import preflight
from rayflow.pipeline.reward_plan import build_reward_plan
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.study.parts import Study
from rayflow.study.results import result_path
from rayflow.study.run import check_results


def dry_run(study: Study, console: Console) -> None:
    """Check a study, and print its rows with their seeds and whether each is measured. Starts nothing.

    Args:
        study: whose configurations are checked already (see `load_study`).
        console: to print to.

    Raises:
        RayflowError: see `preflight`; also for a row that was measured with another configuration.
    """
    preflight(build_run_plan(study.preferences()))
    proxy = build_reward_plan(study.proxy()).artifacts["train"]
    config, made = study.config, proxy.committed and study.preferences_file.exists()
    check_results(study)
    table = Table(box=None, pad_edge=False)
    for heading in ("row", "title", *(f"seed {seed}" for seed in config.seeds)):
        table.add_column(heading)
    measured = 0
    for name, row in config.all_rows.items():
        done = [result_path(config.root, name, seed).exists() for seed in config.seeds]
        measured += sum(done)
        table.add_row(Text(name), Text(row.title), *("done" if there else "to do" for there in done))
    console.print(f"[bold]{config.name}[/]  {verbatim(config.root)}", soft_wrap=True)
    console.print(f"preferences  {_state(study.preferences_file.exists())}")
    console.print(f"proxy        {_state(proxy.committed)}\n")
    console.print(table)
    console.print(f"\n{measured} of {len(config.all_rows) * len(config.seeds)} rows done.")
    if not made:
        told = "What reads the preferences or the proxy can be checked in full once those are made."
        console.print(told, soft_wrap=True)


def _state(done: bool) -> str:
    return "done" if done else "to do"
