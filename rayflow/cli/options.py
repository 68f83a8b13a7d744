"""Arguments and options that several commands share, and the console they print to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(highlight=False)

Config = Annotated[Path, typer.Argument(help="The run's YAML configuration.", show_default=False)]
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
DryRun = Annotated[bool, typer.Option(help="Check everything and print the plan; start nothing.")]
Only = Annotated[
    str | None,
    typer.Option(
        metavar="PART", help="Run one part from what is stored: sample, score, select, train or evaluate."
    ),
]
Until = Annotated[str | None, typer.Option(metavar="PART", help="Run everything up to this part.")]
