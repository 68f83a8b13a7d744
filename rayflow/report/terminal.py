"""A diagnosis as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from rayflow.report import words
from rayflow.report.diagnose import command, digits

if TYPE_CHECKING:
    from rayflow.evaluation.diagnosis import BetaPoint, Diagnosis


def print_diagnosis(found: Diagnosis, console: Console, run: str = "RUN") -> None:
    """Every beta, best-of-N and top-k beside each other, the correlation with length, and what to do.

    Args:
        found: what was found.
        console: where to.
        run: the run's folder, as a command names it.
    """
    console.print(beta_table(found))
    console.print(f"[dim]→ recommended; distinct: of {found.num_accepted} accepted, in so many passes[/]")
    if not all(point.trusted for point in found.points):
        console.print(
            f"[dim]* effective sample size below {words.number(found.trusted_ess)}: KL and reward are too low "
            f"(KL cannot exceed log {found.num_candidates} = {found.max_kl:.2f})[/]"
        )
    console.print()
    console.print(count_table(found))
    length = found.length
    console.print(
        "\nReward and length in tokens, Pearson and Spearman correlation: within prompts "
        f"{words.fixed(length.pearson_within.mean, 2)} and {words.fixed(length.spearman_within.mean, 2)}, "
        f"over all responses {words.fixed(length.pearson, 2)} and {words.fixed(length.spearman, 2)}"
    )
    console.print(
        f"\nTo select with it: {command(found, run)}", soft_wrap=True, markup=False, highlight=False
    )


def beta_table(found: Diagnosis) -> Table:
    """One row per beta, from no selection down to the highest rewards; fits a line of 80 characters."""
    table, places = Table(box=None, pad_edge=False), digits(found)
    interval = f"{words.percent(found.confidence, 0)} interval"
    for heading in ("beta", "reward", "gain", interval, "KL", "ESS", "accept", "passes", "distinct"):
        table.add_column(heading, justify="right")
    table.add_row("SFT", *_cells(found.sft, places))
    for point in found.points:
        picked = point.beta == found.recommended
        name = "→ " * picked + f"{point.beta:g}" + " (run)" * (point.beta == found.own_beta)
        table.add_row(
            name, *_cells(point, places), style="bold" if picked else "" if point.trusted else "dim"
        )
    return table


def _cells(point: BetaPoint, places: int) -> list[str]:
    outcome, gain = point.outcome, point.gain
    return [
        words.fixed(point.reward.mean, places),
        words.fixed(gain.mean, places),
        f"{words.fixed(gain.low, places)} – {words.fixed(gain.high, places)}",
        f"{point.kl.mean:.2f}",
        f"{point.ess.mean:.1f}{' ' if point.trusted else '*'}",
        words.percent(point.acceptance.mean),
        f"{outcome.rounds.mean:.1f}",
        f"{outcome.distinct.mean:.1f}",
    ]


def count_table(found: Diagnosis) -> Table:
    """Best-of-N on the left, top-k on the right."""
    table = Table(box=None, pad_edge=False)
    for heading in ("best of", "reward", "KL at most", "   top", "reward", "KL at most"):
        table.add_column(heading, justify="right")
    columns = [
        [(str(p.count), words.fixed(p.reward.mean, digits(found)), f"{p.kl_bound:.2f}") for p in points]
        for points in (found.best_of, found.top_k)
    ]
    for i in range(max(map(len, columns))):
        table.add_row(*(cell for side in columns for cell in (side[i] if i < len(side) else ("", "", ""))))
    return table
