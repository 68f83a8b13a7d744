"""Human ratings as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from rayflow.report import words

if TYPE_CHECKING:
    from rayflow.evaluation.human import HumanResult


def print_human(result: HumanResult, console: Console) -> None:
    """Every system, what raters preferred, and how far they agree."""
    table = Table(box=None, pad_edge=False)
    table.add_column("system")
    for heading in ("quality", f"{words.percent(result.confidence, 0)} interval", "votes", "majority"):
        table.add_column(heading, justify="right")
    for each in result.systems:
        quality = each.quality
        span = f"{words.fixed(quality.low, 2)} – {words.fixed(quality.high, 2)}"
        shares = words.percent(each.votes), words.percent(each.majority)
        table.add_row(each.name, words.fixed(quality.mean, 2), span, *shares)
    shares = words.percent(result.no_preference_votes), words.percent(result.no_preference)
    table.add_row("no preference", "", "", *shares)
    table.add_row("no majority", "", "", "", words.percent(result.no_majority))
    console.print(table)
    console.print(
        f"\n{result.num_ratings:,} ratings by {words.count(result.num_raters, 'rater')} on "
        f"{words.count(result.num_tasks, 'task')}. Krippendorff's alpha: quality (ordinal) "
        f"{words.fixed(result.quality_agreement, 2)}, best (nominal) {words.fixed(result.best_agreement, 2)}"
    )
