"""Arguments and options that several commands share, and the console they print to."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(highlight=False)

RUNS, LOOK, EVALUATION, JOBS, NIGHTLY = "Runs", "Look", "Evaluation", "Cluster jobs", "Nightly"
"""Headings of `rayflow --help`."""
Flag = functools.partial(typer.Option, metavar="")
"""An option that is given or not: without "<bool>" behind its name; named, so that it has no "--no-" form."""


def refuse_folder(job_id: str) -> str:
    """Tell somebody who asks after a job of a cluster by a run's folder what shows a run.

    Raises:
        JobError: it is a folder's path. A plain name is a job's, whatever lies here.
    """
    from rayflow.errors import JobError

    if "/" in job_id and Path(job_id).is_dir():
        raise JobError(
            f"{job_id} is a folder, and this command is for jobs of a cluster (`rayflow jobs` lists them). "
            f"`rayflow report {job_id}` shows a run."
        )
    return job_id


Config = Annotated[Path, typer.Argument(help="The run's YAML configuration.", show_default=False)]
Job = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG", help="A YAML configuration; or the folder of a job, to go on.", show_default=False
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(help="A run's folder, such as runs/quickstart.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=value", help="Override a setting, or @FILE's settings; repeatable."),
]
Force = Annotated[
    list[str] | None,
    typer.Option(metavar="STAGE", help="Redo this stage and what depends on it; repeatable."),
]
DryRun = Annotated[bool, Flag("--dry-run", help="Check everything and print the plan; start nothing.")]
Only = Annotated[
    str | None,
    typer.Option(
        metavar="PART", help="Run one part from what is stored: sample, score, select, train or evaluate."
    ),
]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="A submission id, or a run's name for its newest job.", callback=refuse_folder
    ),
]
Until = Annotated[str | None, typer.Option(metavar="PART", help="Run everything up to this part.")]

Name = Annotated[str | None, typer.Option(help="Name of the run, in place of the configuration's.")]
EntryPoint = Annotated[
    str | None,
    typer.Option(
        "--job",
        help="Entry point in jobs/: by default the configuration's, or a part of a run such as score.",
    ),
]
Env = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Send this variable of the shell, sealed with the cluster's token."),
]
ClusterEnv = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="A variable that the cluster's machines must have.")
]
Shared = Annotated[
    list[str] | None,
    typer.Option(metavar="FOLDER", help="The cluster sees this folder too: data in it is not sent."),
]
Date = Annotated[
    str | None, typer.Option(help="The day of a refresh, such as 2026-11-20; default: today in UTC.")
]
StopWait = Annotated[int, typer.Option(metavar="SECONDS", help="Time to end when cancelled.")]
Python = Annotated[str, typer.Option(help="The interpreter on the cluster.")]
Wait = Annotated[bool, Flag("--wait", help="Wait, and end with the job's exit code.")]
Follow = Annotated[bool, Flag("--follow", help="Wait, and show what the job prints.")]
AsJson = Annotated[bool, Flag("--json", help="For machines.")]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The cluster's dashboard; default: RAY_API_SERVER_ADDRESS, or port 8265 of this machine.",
    ),
]
