"""The command line: one file per group of commands, put together here.

Heavy imports happen inside the commands, so `--help` answers at once. A new group is one file with a
`register(app)` and one line in `GROUPS`.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from rayflow import __version__
from rayflow.cli import (
    cluster,
    diagnostics,
    evaluate,
    human,
    jobs,
    refresh,
    runs,
    schedule,
    show,
    study,
    verify,
)
from rayflow.cli.mistakes import sentence_of
from rayflow.cli.options import Flag
from rayflow.core.signals import exit_code
from rayflow.errors import RayflowError

GROUPS = (runs, evaluate, human, study, refresh, schedule, jobs, show, diagnostics, verify, cluster)


class Commands(TyperGroup):
    """The commands, with an end by Ctrl-C or SIGTERM that says what becomes of the work."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Exit codes 130 and 143, as a shell expects them; Typer knows only the first."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            print("Stopped. What was finished is kept; run the same command to go on.", file=sys.stderr)
            raise typer.Exit(exit_code(stop)) from stop


app = typer.Typer(
    cls=Commands,
    help="Prompts in, aligned language model out, as one resumable job on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, Flag("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


for _group in GROUPS:
    _group.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: an error of ours is a sentence, not a traceback.

    Args:
        arguments: of the command line; None takes the process's own.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a sign that the terminal does not know ends no command
    if (folder := os.getcwd()) not in sys.path:
        # Where a reward or loss of the user's may lie; last, so that it stands in for nothing else.
        sys.path.append(folder)
    try:
        if "RAYFLOW_SUBMITTED" in os.environ:  # `arrival.SUBMITTED`, whose module is not for every command
            from rayflow.pipeline.arrival import arrive

            arrive()
        app(arguments)
    except RayflowError as error:
        _tell(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        told = sentence_of(error)
        if told is None:
            raise
        _tell(told)
        sys.exit(1)


def _tell(sentence: str) -> None:
    """Print an error; in the middle of handling it, so that whoever looks for its cause gets the traceback too."""
    Console(stderr=True, highlight=False, soft_wrap=True).print("[bold red]Error:[/] ", end="")
    print(sentence, file=sys.stderr)
    if os.environ.get("RAYFLOW_TRACEBACK"):
        raise
