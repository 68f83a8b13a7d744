"""A study's results as a page, as JSON and as Markdown, from the rows that are there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from rayflow import __version__
from rayflow.config.study import StudyConfig
from rayflow.pipeline.reward_plan import build_reward_plan
from rayflow.report import words
from rayflow.report.render import Card, render_template, replace_file
from rayflow.report.summary import strict
from rayflow.study import drawings
from rayflow.study.comparison import Comparison, Disagreement, compare
from rayflow.study.parts import Study
from rayflow.study.results import RowResult, RowSummary, summarise
from rayflow.study.run import stored_results
from rayflow.study.tables import Table, make_table, markdown, sweep_table

PAGE, NUMBERS, TABLES = "study.html", "study.json", "tables.md"


@dataclass(frozen=True)
class Found:
    """A study's results, put together.

    Attributes:
        config: the study.
        results: each row with each seed.
        rows: each row over its seeds.
        proxy: the reward model's quality on held-out pairs, as its training reports it; None before.
    """

    config: StudyConfig
    results: tuple[RowResult, ...]
    rows: dict[str, RowSummary]
    proxy: dict[str, float] | None

    @property
    def tables(self) -> list[Table]:
        """Those of the configuration, then one for each sweep."""
        made = [make_table(self.config, table, self.rows) for table in self.config.tables.values()]
        return made + [sweep_table(self.config, key, self.rows) for key in self.config.sweeps]

    @property
    def comparisons(self) -> dict[str, Comparison]:
        """By heading of a paper's column; its words say which of our rewards it is compared with."""
        found = {}
        for table in self.config.tables.values():
            for column, paper in table.paper.items():
                reward = "proxy" if "proxy" in column.lower() else "gold"
                compared = compare(self.rows, column, paper, reward)
                if compared.num_pairs:
                    found[f"{table.title}: {column}"] = compared
        return found


def collect(study: Study) -> Found:
    """What a study has so far."""
    results = tuple(stored_results(study))
    ordered = groupby(results, key=lambda result: result.row)
    rows = {name: summarise(list(each)) for name, each in ordered}
    return Found(study.config, results, rows, _proxy(study))


def _proxy(study: Study) -> dict[str, float] | None:
    quality = build_reward_plan(study.proxy()).artifacts["evaluate"]
    return quality.manifest().extra["quality"] if quality.committed else None


def write(study: Study, folder: Path | None = None) -> tuple[Path, str]:
    """Write `study.html`, `study.json` and `tables.md`; returns the page's path and the result in a sentence."""
    found, folder = collect(study), folder or study.config.root
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / TABLES, markdown(found.tables))
    numbers = json.dumps(content(found), indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(folder / NUMBERS, numbers + "\n")
    replace_file(folder / PAGE, page(found))
    return folder / PAGE, lead(found)


def content(found: Found) -> dict[str, object]:
    """The content of `study.json`: the resolved study, the proxy's quality, every row with every seed."""
    return strict(
        {
            "rayflow_version": __version__,
            "config": found.config.model_dump(mode="json", exclude={"runs_dir"}),
            "proxy": found.proxy,
            "rows": {
                name: {k: v for k, v in asdict(row).items() if k != "by_prompt"}
                for name, row in found.rows.items()
            },
            "comparisons": {name: asdict(c) for name, c in found.comparisons.items()},
            "results": [result.to_json() for result in found.results],
        }
    )


def page(found: Found) -> str:
    """The page as text: inline style and drawings, no script, nothing fetched from anywhere."""
    return render_template(
        "study.html.j2",
        study=found.config.name,
        lead=lead(found),
        facts=_facts(found),
        cards=_cards(found),
        notes=notes(found),
        tables=found.tables,
        figures=[drawings.plane(found.config, found.rows, reward) for reward in ("gold", "proxy")]
        if found.rows
        else [],
        sweeps=[drawings.sweep(found.config, key, found.rows) for key in found.config.sweeps],
        comparisons=[
            (name, compared, sentences(found, compared)) for name, compared in found.comparisons.items()
        ],
    )


def lead(found: Found) -> str:
    """The result in two sentences."""
    total = len(found.config.all_rows) * len(found.config.seeds)
    if not found.rows:
        return "No row has been measured yet."
    best = max(found.rows.values(), key=lambda row: row.wins["gold"][0])
    mean, low, high = best.wins["gold"]
    done = (
        ""
        if len(found.results) == total
        else f" {len(found.results)} of {total} rows and seeds are measured."
    )
    return (
        f"Of {words.count(len(found.rows), 'method')}, {found.config.all_rows[best.row].title} wins most often "
        f"against the SFT policy by the gold reward: {words.percent(mean)} ({words.percent(low)} to "
        f"{words.percent(high)}).{done}"
    )


def _facts(found: Found) -> list[tuple[str, str]]:
    config, first = found.config, next(iter(found.rows.values()), None)
    facts = [("SFT policy", Path(config.model).name), ("Seeds", ", ".join(map(str, config.seeds)))]
    if first is not None:
        facts.append(("Held-out prompts", str(len(first.by_prompt["gold"]))))
    return facts


def _cards(found: Found) -> list[Card]:
    cards = []
    for reward in ("gold", "proxy"):
        best = max(found.rows.values(), key=lambda row: row.wins[reward][0], default=None)
        if best is None:
            cards.append(Card(f"Best {reward} win rate"))
            continue
        mean, low, high = best.wins[reward]
        title = found.config.all_rows[best.row].title
        cards.append(
            Card(f"Best {reward} win rate", words.percent(mean), detail=title, interval=(low, mean, high))
        )
    accuracy = found.proxy and found.proxy["accuracy"]
    detail = "on held-out pairs whose labels are drawn"
    cards.append(Card("Proxy's accuracy", words.percent(accuracy) if accuracy else None, detail=detail))
    seconds = sum(result.seconds for result in found.results)
    cards.append(
        Card(
            "Time of the rows", words.duration(seconds) if seconds else None, detail="without what they share"
        )
    )
    return cards


def notes(found: Found) -> list[str]:
    """What a reader must know before quoting."""
    remarks = [
        "Win rates are against samples of the SFT policy on held-out prompts, ties half. Intervals are 95% "
        "bootstrap intervals over prompts of the mean over seeds: they cover the choice of prompts, not another "
        "draw of seeds, which stand beside them.",
        "All rows learn from the same samples and scores and are compared with the same answers. The proxy is the "
        "reward that most rows optimise, so its win rates are optimistic; gold is the reward behind the "
        "preferences.",
        "The paper's win rates are of other models on other tasks, and against the SFT data's targets: the order "
        "of the methods can be compared with it, the numbers cannot.",
    ]
    if found.rows:
        longest = max(found.rows.values(), key=lambda row: abs(row.policy_tokens - row.baseline_tokens))
        remarks.append(
            f"Length moves most with {found.config.all_rows[longest.row].title}: {longest.policy_tokens:.1f} tokens "
            f"where the SFT policy has {longest.baseline_tokens:.1f}. The column 'equal length' says what "
            "is left of the gold win rate without that."
        )
    return remarks


def sentences(found: Found, compared: Comparison) -> list[str]:
    """The disagreements with the paper's order, the surest first."""
    ordered = sorted(compared.disagreements, key=lambda d: d.difference[2])
    return [_sentence(found.config, d) for d in ordered]


def _sentence(config: StudyConfig, found: Disagreement) -> str:
    titles, sure = config.all_rows, "surely" if found.is_sure else "not surely"
    mean, low, high = (words.fixed(100 * value, 1) for value in found.difference)
    return (
        f"{titles[found.better].title} should win more often than {titles[found.worse].title}; here the "
        f"difference is {mean} points ({low} to {high}), {sure} the other way."
    )
