"""The charts of a refresh's page: distributions beside the last promoted version's, and the table's history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rayflow.report import plane, words
from rayflow.report.figures import Figure, overlaid
from rayflow.report.plane import Mark
from rayflow.report.plots import Layer
from rayflow.report.svg import Frame, plain

if TYPE_CHECKING:
    from rayflow.report.refresh import PastVersion, RefreshReport

MAX_HISTORY = 30
"""Versions that the page shows."""


def distributions(data: RefreshReport) -> list[Figure]:
    """Rewards and lengths beside those of the last promoted version."""
    found: list[Figure] = []
    for values, title, axis, caption, options in (
        (
            data.rewards,
            "Rewards of the candidates",
            "reward",
            "Share of candidates in each reward bin. The gate compares the two distributions.",
            {},
        ),
        (
            data.tokens,
            "Lengths of the candidates",
            "tokens per response",
            "A peak at the right edge means responses cut at the token limit.",
            {"whole": True},
        ),
    ):
        if values is not None:
            layers = [Layer("after", f"version {data.version}", values[1])]
            if values[0] is not None:
                layers.insert(0, Layer("before", f"version {data.baseline}", values[0]))
            found += overlaid(title, layers, axis, caption, **options)
    return found


def history(versions: tuple[PastVersion, ...], latest: int | None) -> list[Figure]:
    """Mean reward and size of every version that is known."""
    shown = [each for each in versions if each.reward is not None][-MAX_HISTORY:]
    if len(shown) < 2:
        return []
    rewards = [(each.reward, each.reward_low, each.reward_high) for each in shown]
    rows = [(float(each.rows),) for each in shown]
    now = next((each for each in shown if each.version == latest), None)
    return [
        Figure(
            "Mean reward, version by version",
            _timeline(shown, rewards, "mean reward"),
            (
                ("after circle", "promoted", f"now {words.reward(now.reward)}" if now else words.NONE),
                ("rejected square", "held back", str(sum(not each.promoted for each in shown))),
            ),
            "The band is the mean's 95% interval over prompts. Squares were held back: readers never saw them.",
        ),
        Figure(
            "Prompts, version by version",
            _timeline(shown, rows, "prompts", from_zero=True),
            (
                ("after circle", "promoted", f"now {now.rows:,}" if now else words.NONE),
                ("rejected square", "held back", ""),
            ),
            "A sudden fall means that prompts vanished from the data, or failed.",
        ),
    ]


def _timeline(
    shown: list[PastVersion], values: list[tuple[float | None, ...]], name: str, *, from_zero: bool = False
) -> str:
    """Points over versions: promoted ones joined by a line, the others beside it."""
    known = [v for each in values for v in each if v is not None]
    low, high = (0.0, max(known)) if from_zero else (min(known), max(known))
    room = 0.08 * (high - low) or 0.5 * abs(high) or 0.5
    frame = Frame((-0.4, len(shown) - 0.6), (low if from_zero else low - room, high + room), 400.0, 226.0)
    step = max(1, len(shown) // 6)
    places = [float(i) for i in range(0, len(shown), step)]
    parts = [
        frame.axes(
            "version",
            x_ticks=places,
            x_words=lambda at: [str(shown[int(i)].version) for i in at],
            y_words=plain,
            y_label=name,
        )
    ]
    good = [(i, v) for i, v in enumerate(values) if shown[i].promoted and v[0] is not None]
    if len(good) > 1 and all(len(v) == 3 and None not in v for _, v in good):
        parts.append(
            plane.band(frame, [i for i, _ in good], [v[1] for _, v in good], [v[2] for _, v in good], "after")
        )
    parts.append(plane.line(frame, [(i, v[0]) for i, v in good], "after"))
    for promoted, style, shape in ((True, "after", "circle"), (False, "rejected", "square")):
        spots = [
            Mark(i, v[0], "", f"version {each.version}, {each.date}: {name} {words.number(v[0])}")
            for i, (each, v) in enumerate(zip(shown, values, strict=True))
            if each.promoted is promoted and v[0] is not None
        ]
        parts.append(plane.marks(frame, spots, style, shape))
    return frame.wrap("".join(parts), f"{name} of the table's versions")
