"""The command line: one file per group of commands, put together here.

Heavy imports happen inside the commands, so `--help` answers at once. A new group is one file with a
`register(app)` and one line in `GROUPS`.
"""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

from rayflow.cli import cluster, diagnostics, evaluate, human, jobs, runs
from rayflow.errors import RayflowError

GROUPS = (runs, evaluate, human, jobs, diagnostics, cluster)

app = typer.Typer(
    help="Prompts in, aligned language model out, as one resumable job on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _group in GROUPS:
    _group.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: an error of ours is a sentence, not a traceback.

    Args:
        arguments: of the command line; None takes the process's own.
    """
    try:
        if "RAYFLOW_SUBMITTED" in os.environ:  # `arrival.SUBMITTED`, whose module is not for every command
            from rayflow.pipeline.arrival import arrive

            arrive()
        app(arguments)
    except RayflowError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print("[bold red]Error:[/] ", end="")
        print(error, file=sys.stderr)
        if os.environ.get("RAYFLOW_TRACEBACK"):
            raise
        sys.exit(1)
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept; run the same command to go on.", file=sys.stderr)
        sys.exit(130)
