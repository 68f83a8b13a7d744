"""A study's tables: numbers beside the paper's, as values for the page and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayflow.config.study import StudyConfig, TableOptions
from rayflow.report import words
from rayflow.study.intervals import Estimate
from rayflow.study.pair_quality import PairQuality
from rayflow.study.results import RowSummary

MEASURED = (
    "proxy win rate",
    "gold win rate",
    "gold, by seed",
    "gold, equal length",
    "gold reward gain",
    "tokens",
    "cut",
    "KL (nats)",
)
LEARNED_FROM = ("pairs", "gold agrees")
HEADINGS = (*MEASURED, *LEARNED_FROM)


@dataclass(frozen=True)
class Table:
    """One table as text.

    Attributes:
        title, source: see `TableOptions`.
        headings: of our columns, then of the paper's.
        rows: (title, cells), a cell for each heading.
        num_own: how many headings are ours.
    """

    title: str
    source: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    num_own: int = len(HEADINGS)


def make_table(
    options: TableOptions,
    config: StudyConfig,
    rows: Mapping[str, RowSummary],
    pairs: Mapping[str, PairQuality],
) -> Table:
    """The rows of a table; those that are not measured yet show dashes."""
    titles = config.all_rows
    lines = []
    for name in options.rows:
        paper = [_paper(column.get(name)) for column in options.paper.values()]
        own = _own(rows[name]) if name in rows else [words.NONE] * len(MEASURED)
        lines.append((titles[name].title, (*own, *_learned_from(pairs.get(name)), *paper)))
    return Table(options.title, options.source, (*HEADINGS, *options.paper), tuple(lines))


def sweep_table(
    key: str, config: StudyConfig, rows: Mapping[str, RowSummary], pairs: Mapping[str, PairQuality]
) -> Table:
    """The values of a sweep as rows."""
    sweep = config.sweeps[key]
    options = TableOptions(title=sweep.title, rows=tuple(sweep.named(key).values()), source=sweep.source)
    return make_table(options, config, rows, pairs)


def _own(row: RowSummary) -> list[str]:
    return [
        _estimate(row.wins["proxy"]),
        _estimate(row.wins["gold"]),
        ", ".join(f"{100 * rate:.1f}" for rate in row.seed_wins["gold"]),
        words.percent(row.length_controlled["gold"]),
        words.fixed(row.gain["gold"], 3),
        f"{row.policy_tokens:.1f} / {row.baseline_tokens:.1f}",
        words.percent(row.cut, 0),
        words.fixed(row.kl, 2),
    ]


def _learned_from(pairs: PairQuality | None) -> list[str]:
    if pairs is None:
        return [words.NONE] * len(LEARNED_FROM)
    agreement = words.NONE if pairs.agreement is None else words.percent(pairs.agreement, 0)
    return [f"{pairs.count:,.0f}", agreement]


def _estimate(found: Estimate) -> str:
    mean, low, high = (f"{100 * value:.1f}" for value in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"


def _paper(value: float | None) -> str:
    return words.NONE if value is None else f"{value:.2f}"


def markdown(tables: Sequence[Table]) -> str:
    """The tables for a README or a review. Win rates in percent, against the SFT policy, 95% intervals."""
    parts = []
    for table in tables:
        headings = [
            *table.headings[: table.num_own],
            *(f"paper: {h}" for h in table.headings[table.num_own :]),
        ]
        lines = ["| method | " + " | ".join(headings) + " |", "|---" * (len(headings) + 1) + "|"]
        lines += ["| " + " | ".join((title, *cells)) + " |" for title, cells in table.rows]
        source = f"\n{table.source}\n" if table.source else ""
        parts.append(f"## {table.title}\n{source}\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)
