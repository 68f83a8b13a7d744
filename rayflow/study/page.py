"""A study's results as a page, as JSON and as Markdown, from the rows that are there."""

from __future__ import annotations

from pathlib import Path

from rayflow.report import words
from rayflow.report.render import Card, render_template, replace_file
from rayflow.study import drawings
from rayflow.study.comparison import Order
from rayflow.study.found import Found, as_json
from rayflow.study.tables import markdown
from rayflow.study.terms import terms

PAGE, NUMBERS, TABLES = "study.html", "study.json", "tables.md"
PROXY_RANGE = (0.65, 0.80)
"""Accuracies of a proxy on held-out preferences between which the paper's comparison is meant."""


def write(found: Found, folder: Path) -> tuple[Path, str]:
    """Write `study.html`, `study.json` and `tables.md`; returns the page's path and the result in a sentence."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / TABLES, markdown(found.tables))
    replace_file(folder / NUMBERS, as_json(found))
    replace_file(folder / PAGE, page(found))
    return folder / PAGE, lead(found)


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
        opinions=found.config.notes,
        terms=terms(row.title for row in found.config.all_rows.values()),
        sweeps=[drawings.sweep(found.config, key, found.rows) for key in found.config.sweeps],
        comparisons=[
            (heading, compared, [_compared(found, heading, each) for each in compared.by_certainty])
            for heading, compared in found.comparisons.items()
        ],
    )


def lead(found: Found) -> str:
    """The result in two sentences."""
    total = len(found.config.all_rows) * len(found.config.seeds)
    if not found.rows:
        return "No row has been measured yet."
    best = max(found.rows.values(), key=lambda row: row.wins["gold"].mean)
    won = best.wins["gold"]
    done = (
        ""
        if len(found.results) == total
        else f" {len(found.results)} of {total} rows and seeds are measured."
    )
    return (
        f"Of {words.count(len(found.rows), 'method')}, '{found.config.all_rows[best.row].title}' wins most often "
        f"against the SFT policy by the gold reward: {words.percent(won.mean)} ({words.percent(won.low)} to "
        f"{words.percent(won.high)}).{done}"
    )


def _facts(found: Found) -> list[tuple[str, str]]:
    config, first = found.config, next(iter(found.rows.values()), None)
    measured = {result.seed for result in found.results}
    seeds = ", ".join(str(seed) for seed in config.seeds if seed in measured) or "none yet"
    more = f" of {', '.join(map(str, config.seeds))}" if len(measured) < len(config.seeds) else ""
    facts = [("SFT policy", Path(config.model).name), ("Seeds", seeds + more)]
    if first is not None:
        facts.append(("Held-out prompts", str(len(first.shares["gold"]))))
    return facts


def _cards(found: Found) -> list[Card]:
    seconds = sum(result.seconds for result in found.results)
    time = words.duration(seconds) if seconds else None
    return [
        *(_best(found, reward) for reward in ("gold", "proxy")),
        _proxy_card(found.proxy),
        Card("Time of the rows", time, detail="without what they share"),
    ]


def _best(found: Found, reward: str) -> Card:
    heading = f"Best {reward} win rate"
    best = max(found.rows.values(), key=lambda row: row.wins[reward].mean, default=None)
    if best is None:
        return Card(heading)
    won, title = best.wins[reward], found.config.all_rows[best.row].title
    detail = f"{words.percent(won.low)} – {words.percent(won.high)}, 95% interval; '{title}'"
    return Card(heading, words.percent(won.mean), detail=detail, interval=(won.low, won.mean, won.high))


def _proxy_card(proxy: dict[str, float] | None) -> Card:
    heading = "Proxy's accuracy"
    if proxy is None:
        return Card(heading)
    accuracy, low, high = (proxy[key] for key in ("accuracy", "low", "high"))
    detail = f"{words.percent(low)} – {words.percent(high)}, 95% interval; on held-out pairs whose labels are drawn"
    return Card(heading, words.percent(accuracy), detail=detail, interval=(low, accuracy, high))


def notes(found: Found) -> list[str]:
    """What a reader must know before quoting."""
    single = [row for row in found.rows.values() if len(row.seeds) == 1]
    if len(found.config.seeds) == 1:
        seeds = "With one seed they cover the choice of prompts only."
    else:
        seeds = "They cover another choice of held-out prompts and another seed of selection, pairing and training."
    if single and len(found.config.seeds) > 1:
        seeds += f" Those of {words.count(len(single), 'row')} with one seed so far cover the choice of prompts only."
    remarks = [
        "Win rates are against samples of the SFT policy on held-out prompts, ties half. Intervals are 95%: the "
        f"variance over prompts plus that over seeds, with Student's t. {seeds} They do not cover another draw of "
        "what all rows share: the preferences, the proxy and the samples to learn from. Of many rows the best is "
        "also the luckiest: its interval is not adjusted for having been picked.",
        "All rows learn from the same samples and scores, unless their settings say otherwise, and are compared with "
        "the same answers. The proxy is the reward that most rows optimise, so its win rates are optimistic; gold is "
        "the reward behind the preferences.",
        "The paper's win rates are of other models on other tasks, and against the SFT data's targets: the order "
        "of the methods can be compared with it, the numbers cannot.",
    ]
    if found.pairs:
        remarks.append(
            "'Gold agrees' is the share of a row's pairs, all seeds together, whose chosen response has the higher "
            "gold reward, among pairs whose gold rewards differ. Half is chance: such pairs teach nothing of the "
            "gold reward."
        )
    return remarks + _proxy_note(found.proxy) + (_row_notes(found) if found.rows else [])


def _proxy_note(proxy: dict[str, float] | None) -> list[str]:
    low, high = PROXY_RANGE
    if proxy is None or low <= proxy["accuracy"] <= high:
        return []
    return [
        f"The proxy ranks {words.percent(proxy['accuracy'])} of held-out pairs as they are labelled, outside "
        f"{words.percent(low, 0)} to {words.percent(high, 0)}: a proxy near 50% has nothing to select by, and "
        "one above leaves no gap between proxy and gold. The annotator's temperature and the number of pairs move it."
    ]


def _row_notes(found: Found) -> list[str]:
    rows, titles = found.rows.values(), found.config.all_rows
    longest = max(rows, key=lambda row: abs(row.policy_tokens - row.baseline_tokens))
    remarks = [
        f"Length moves most with '{titles[longest.row].title}': {longest.policy_tokens:.1f} tokens "
        f"where the SFT policy has {longest.baseline_tokens:.1f}. The column 'equal length' says what "
        "is left of the gold win rate without that. 'Cut' is the share of the untempered responses behind "
        "the KL that the length limit ended."
    ]
    steps = {row.num_steps for row in rows}
    if len(steps) > 1:
        fewest = min(rows, key=lambda row: row.num_steps)
        remarks.append(
            f"The rows have taken {min(steps):g} to {max(steps):g} optimizer steps; fewest: "
            f"'{titles[fewest.row].title}'. A prompt without a pair makes no step."
        )
    if margins := [row.margin for row in rows if row.margin is not None]:
        remarks.append(
            "At the end of training gamma times D (D: how much more the chosen response has gained over the SFT "
            f"policy than the rejected one, in nats) is {words.fixed(min(margins), 2)} to "
            f"{words.fixed(max(margins), 2)}, a mean over pairs for each row. Far below 1, "
            "sigmoid-norm and hinge-norm have nearly the same gradient."
        )
    return remarks


def _compared(found: Found, heading: str, order: Order) -> tuple[str, str, str, str]:
    """A line of the paper's order: the pair, the paper's numbers, ours, and whether ours is clear."""
    titles, paper = found.config.all_rows, found.papers[heading].numbers
    mean, low, high = (
        words.fixed(100 * value, 1)
        for value in (order.difference.mean, order.difference.low, order.difference.high)
    )
    return (
        f"'{titles[order.better].title}' over '{titles[order.worse].title}'",
        f"{paper[order.better]:.2f}% > {paper[order.worse]:.2f}%",
        f"{mean} points ({low} to {high})",
        f"{'clearly' if order.is_sure else 'not clearly'} the {'same' if order.agrees else 'other'} way",
    )
