"""A study's tables: what was measured, and the paper's numbers beside it, as values for the page and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rayflow.config.study import StudyConfig, TableOptions
from rayflow.report import words
from rayflow.study.intervals import Estimate
from rayflow.study.pair_quality import PairQuality
from rayflow.study.results import RowSummary

MEASURED = (
    "proxy win rate",
    "gold win rate",
    "gold, equal length",
    "gold reward gain",
    "tokens, trained / SFT",
    "cut",
    "KL (nats)",
)
LEARNED_FROM = ("pairs", "gold agrees")
HEADINGS = (*MEASURED, *LEARNED_FROM)
HERE = ("here: proxy", "here: gold")


class Cell(NamedTuple):
    """A number as text, with the ends of its interval where it has one."""

    text: str
    low: str = ""
    high: str = ""

    @property
    def in_line(self) -> str:
        """On one line, for Markdown."""
        return f"{self.text} [{self.low}, {self.high}]" if self.low else self.text


@dataclass(frozen=True)
class Grid:
    """Rows under headings: `rows` holds (title, cells), a cell for each heading."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Table:
    """One table of a study.

    Attributes:
        title, source: see `TableOptions`.
        measured: what was measured here.
        paper: the paper's numbers of the rows that it has, with our win rates; None where it has none.
    """

    title: str
    source: str
    measured: Grid
    paper: Grid | None = None


def make_table(
    options: TableOptions,
    config: StudyConfig,
    rows: Mapping[str, RowSummary],
    pairs: Mapping[str, PairQuality],
) -> Table:
    """The rows of a table; those that are not measured yet show dashes."""
    titles, lines = config.all_rows, []
    for name in options.rows:
        own = _own(rows[name]) if name in rows else [Cell(words.NONE)] * len(MEASURED)
        lines.append((titles[name].title, (*own, *_learned_from(pairs.get(name)))))
    return Table(options.title, options.source, Grid(HEADINGS, tuple(lines)), _beside(options, config, rows))


def sweep_table(
    key: str, config: StudyConfig, rows: Mapping[str, RowSummary], pairs: Mapping[str, PairQuality]
) -> Table:
    """The values of a sweep as rows."""
    sweep = config.sweeps[key]
    options = TableOptions(title=sweep.title, rows=tuple(sweep.named(key).values()), source=sweep.source)
    return make_table(options, config, rows, pairs)


def _beside(options: TableOptions, config: StudyConfig, rows: Mapping[str, RowSummary]) -> Grid | None:
    known = [name for name in options.rows if any(name in column for column in options.paper.values())]
    lines = []
    for name in known:
        paper = [Cell(_paper(column.get(name))) for column in options.paper.values()]
        here = [
            _estimate(rows[name].wins[reward]) if name in rows else Cell(words.NONE)
            for reward in ("proxy", "gold")
        ]
        lines.append((config.all_rows[name].title, (*paper, *here)))
    headings = (*(f"paper: {heading}" for heading in options.paper), *HERE)
    return Grid(headings, tuple(lines)) if lines else None


def _own(row: RowSummary) -> list[Cell]:
    said = (
        words.percent(row.length_controlled["gold"]),
        words.fixed(row.gain["gold"], 3),
        f"{row.policy_tokens:.1f} / {row.baseline_tokens:.1f}",
        words.percent(row.cut, 0),
        words.fixed(row.kl, 2),
    )
    return [_estimate(row.wins["proxy"]), _estimate(row.wins["gold"]), *map(Cell, said)]


def _learned_from(pairs: PairQuality | None) -> list[Cell]:
    if pairs is None:
        return [Cell(words.NONE)] * len(LEARNED_FROM)
    agreement = words.NONE if pairs.agreement is None else words.percent(pairs.agreement, 0)
    return [Cell(f"{pairs.count:,.0f}"), Cell(agreement)]


def _estimate(found: Estimate) -> Cell:
    low, high = (f"{100 * value:.1f}" for value in (found.low, found.high))
    return Cell(words.percent(found.mean), low, high)


def _paper(value: float | None) -> str:
    return words.NONE if value is None else f"{value:.2f}%"


def markdown(tables: Sequence[Table]) -> str:
    """The tables for a README or a review. Win rates against the SFT policy, with 95% intervals in percent."""
    parts = []
    for table in tables:
        grids = [_markdown(grid) for grid in (table.measured, table.paper) if grid is not None]
        source = f"\n{table.source}\n" if table.source else ""
        parts.append(f"## {table.title}\n{source}\n" + "\n".join(grids))
    return "\n".join(parts)


def _markdown(grid: Grid) -> str:
    lines = ["| method | " + " | ".join(grid.headings) + " |", "|---" * (len(grid.headings) + 1) + "|"]
    lines += [
        "| " + " | ".join((title, *(cell.in_line for cell in cells))) + " |" for title, cells in grid.rows
    ]
    return "\n".join(lines) + "\n"
