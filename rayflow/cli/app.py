"""The command line: one file per group of commands, put together here.

Heavy imports happen inside the commands, so `--help` answers at once. A new group is one file with a
`register(app)` and one line in `GROUPS`.
"""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

from rayflow.cli import runs, schedule
from rayflow.errors import RayflowError

GROUPS = (runs, schedule)

app = typer.Typer(
    help="Prompts in, aligned language model out, as one resumable job on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _group in GROUPS:
    _group.register(app)


def main() -> None:
    """Entry point: an error of ours is a sentence, not a traceback."""
    try:
        app()
    except RayflowError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print("[bold red]Error:[/] ", end="")
        print(error, file=sys.stderr)
        if os.environ.get("RAYFLOW_TRACEBACK"):
            raise
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept; run the same command to go on.", file=sys.stderr)
        sys.exit(130)
