"""A study's drawings: every method on the plane of reward and divergence, and the sweeps."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rayflow.config.study import StudyConfig
from rayflow.report import plane as draw
from rayflow.report import words
from rayflow.report.figures import Figure
from rayflow.report.labels import labels
from rayflow.report.plane import Mark
from rayflow.report.svg import Frame, percents
from rayflow.study.results import RowSummary

GROUPS = {
    "direct": ("before", "triangle", "pairs of the annotator, no proxy"),
    "sft": ("chosen", "square", "samples of the SFT policy"),
    "rso": ("after", "circle", "rejection sampling"),
    "other": ("neutral", "diamond", "other methods"),
}
"""Style, shape and legend of each group of rows."""


def plane(config: StudyConfig, rows: Mapping[str, RowSummary], reward: str) -> Figure:
    """Gain in mean reward against KL from the SFT policy: up and to the left is better."""
    points = {name: (row.kl, row.gain[reward]) for name, row in rows.items()}
    xs, ys = [0.0, *(x for x, _ in points.values())], [0.0, *(y for _, y in points.values())]
    frame = Frame(_room(min(xs), max(xs)), _room(min(ys), max(ys)), 820.0, 440.0)
    parts = [
        frame.axes(
            "KL from the SFT policy (nats per response)", num_rows=7, y_label=f"gain in mean {reward} reward"
        )
    ]
    titles, swept, spots = config.all_rows, _swept(config), [Mark(0.0, 0.0, "SFT policy", "SFT policy")]
    for group, (style, shape, _) in GROUPS.items():
        members = [name for name in points if titles[name].group == group]
        named = [swept.get(name, titles[name].title) for name in members]
        tips = [_tip(titles[name].title, rows[name], reward) for name in members]
        found = [Mark(*points[name], *said) for name, *said in zip(members, named, tips, strict=True)]
        parts.append(draw.marks(frame, found, style, shape))
        spots += found
    parts += [draw.marks(frame, spots[:1], "before", "circle"), labels(frame, spots)]
    groups = {titles[name].group for name in points}
    legend = tuple(
        (f"{style} {shape}", label, "") for key, (style, shape, label) in GROUPS.items() if key in groups
    )
    return Figure(
        f"Gain in {reward} reward against KL",
        frame.wrap("".join(parts), _description(config, rows, reward)),
        legend,
        "Each point is a method, the mean over its seeds. Up is more reward, right is further from the SFT policy. "
        f"Points have tooltips.{_sweeps_caption(config)}",
    )


def _swept(config: StudyConfig) -> dict[str, str]:
    """What the points of a sweep are called: the row that is swept has its own name."""
    return {
        name: f"{key} {value:g}"
        for key, options in config.sweeps.items()
        for value, name in options.named(key).items()
        if name not in config.rows
    }


def _sweeps_caption(config: StudyConfig) -> str:
    swept: dict[str, list[str]] = {}
    for key, sweep in config.sweeps.items():
        swept.setdefault(config.rows[sweep.row].title, []).append(key)
    return "".join(f" Another {' or '.join(keys)} is that of '{title}'." for title, keys in swept.items())


def _description(config: StudyConfig, rows: Mapping[str, RowSummary], reward: str) -> str:
    said = "; ".join(
        f"{config.all_rows[name].title} {words.fixed(row.gain[reward], 2)} at {words.fixed(row.kl, 1)}"
        for name, row in rows.items()
    )
    return f"Gain in {reward} reward against KL from the SFT policy in nats: {said}"


def sweep(config: StudyConfig, key: str, rows: Mapping[str, RowSummary]) -> Figure:
    """Both win rates against a setting, on a log scale where every value is positive."""
    options = config.sweeps[key]
    names = options.named(key)
    there = {value: rows[name] for value, name in names.items() if name in rows}
    is_log = min(names) > 0
    places = {value: math.log10(value) if is_log else float(i) for i, value in enumerate(names)}
    frame = Frame(_room(min(places.values()), max(places.values())), (0.0, 1.0))
    body = [
        frame.axes(
            f"{options.setting}" + (" (log scale)" if is_log else ""),
            x_ticks=list(places.values()),
            x_words=lambda _: [f"{value:g}" for value in places],
            y_words=percents,
            y_label="win rate against the SFT policy",
        ),
        draw.level(frame, 0.5, "even"),
    ]
    legend, said = [], []
    for reward, style, shape in (("gold", "after", "circle"), ("proxy", "before", "square")):
        estimates = [row.wins[reward] for row in there.values()]
        xs = [places[value] for value in there]
        spots = [
            Mark(x, found.mean, "", f"{key} {value:g}: {reward} win rate {words.percent(found.mean)}")
            for x, found, value in zip(xs, estimates, there, strict=True)
        ]
        body.append(draw.band(frame, xs, [e.low for e in estimates], [e.high for e in estimates], style))
        body.append(draw.line(frame, [(spot.x, spot.y) for spot in spots], style))
        body.append(draw.marks(frame, spots, style, shape))
        legend.append((f"{style} {shape}", f"{reward} win rate", ""))
        said += [spot.tip for spot in spots]
    return Figure(
        options.title,
        frame.wrap("".join(body), f"{options.title}: {'; '.join(said)}"),
        tuple(legend),
        f"'{config.rows[options.row].title}' against the SFT policy, means over seeds with their intervals.",
    )


def _room(low: float, high: float) -> tuple[float, float]:
    margin = 0.07 * (high - low) or 0.5
    return low - margin, high + margin


def _tip(title: str, row: RowSummary, reward: str) -> str:
    found = row.wins[reward]
    return (
        f"{title}: {reward} win rate {words.percent(found.mean)} ({words.percent(found.low)} to "
        f"{words.percent(found.high)}), "
        f"gain {words.fixed(row.gain[reward], 3)}, KL {words.fixed(row.kl, 2)}"
    )
