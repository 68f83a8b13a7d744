"""The charts of an evaluation: rewards and lengths of both sides, and the policy's distance from the SFT policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rayflow.report.figures import Figure, overlaid
from rayflow.report.plots import Layer

if TYPE_CHECKING:
    from rayflow.report.evaluation import EvaluationReport


def responses(data: EvaluationReport) -> list[Figure]:
    """Each reward's distribution on both sides, then the lengths."""
    found = []
    for name, sides in data.values.items():
        found += overlaid(
            f"Rewards: {name}",
            [Layer("before", data.baseline, sides.baseline), Layer("after", data.policy, sides.policy)],
            f"{name}",
            "Share of responses in each bin. The triangles and dashed lines mark the means.",
        )
    if data.lengths is not None:
        found += overlaid(
            "Response lengths",
            [
                Layer("before", data.baseline, data.lengths.baseline),
                Layer("after", data.policy, data.lengths.policy),
            ],
            "tokens per response",
            "A gain in reward should be read next to this chart. A peak at the right edge means responses cut at "
            "the token limit.",
            whole=True,
        )
    return found


def divergence(data: EvaluationReport) -> list[Figure]:
    """The log-ratio of each of the policy's own samples, whose mean is the divergence."""
    if data.log_ratios is None:
        return []
    return overlaid(
        "Log-ratio of the policy's own samples",
        [Layer("after", data.policy, data.log_ratios)],
        "log(policy / SFT), nats per response",
        "The mean is the estimate of the divergence. Single responses may lie below zero; the mean does not, but for "
        "chance.",
    )
