"""The columns that the report's sections on selection and pairing show, shard by shard, without a row object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from rayflow.core.rows import Accepted, Orders, PreferencePairs, Scores
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.distributions import Bins, distributions
from rayflow.pipeline.stage import read_table
from rayflow.report.data import PairingSection, PositionBias, SelectionSection


@dataclass(frozen=True, kw_only=True)
class AcceptedRewards(Scores, Accepted):
    """View: what the selection section shows."""


@dataclass(frozen=True, kw_only=True)
class AcceptedOfDrawn(Accepted):
    """View: the same where there are no rewards; the log-probabilities tell the number of candidates."""

    logprobs: np.ndarray


def selection_section(
    sources: Sequence[Artifact], target: int | None, scored: bool = True, num_resampled: int = 0
) -> SelectionSection:
    """What selection made of the candidates.

    Args:
        sources: the artifacts of the scores, or of the samples where nothing was scored, and of the selection.
        target: how many responses selection was asked for, per prompt; None if not fixed.
        scored: whether there are scores.
        num_resampled: prompts that were sampled again.
    """
    rewards = (
        {"candidate_rewards": Bins(), "accepted_rewards": Bins(like="candidate_rewards")} if scored else {}
    )
    found, sums = distributions(
        lambda: _selected(sources, target or 0, scored),
        {**rewards, "acceptance_rates": Bins(span=(0.0, 1.0)), "rounds": Bins(whole=True)},
        sums=("prompts", "candidates", "accepted", "short"),
    )
    return SelectionSection(
        **({"candidate_rewards": None, "accepted_rewards": None} | found),
        num_candidates=int(sums["candidates"]),
        num_resampled=num_resampled,
        num_prompts=int(sums["prompts"]),
        num_accepted=int(sums["accepted"]),
        target_per_prompt=target,
        num_short=int(sums["short"]),
    )


def _selected(sources: Sequence[Artifact], target: int, scored: bool) -> Iterator[dict[str, np.ndarray]]:
    for index in range(sources[-1].num_shards):
        table = read_table(sources, index, AcceptedRewards if scored else AcceptedOfDrawn)
        numbers, sizes = flat(table.column("rewards" if scored else "logprobs"))
        accepted, counts = flat(table.column("accepted"))
        starts = np.repeat(np.cumsum(sizes) - sizes, counts)
        yield {
            "candidate_rewards": numbers,
            "accepted_rewards": numbers[starts + accepted],
            "candidates": sizes,
            "acceptance_rates": table.column("acceptance_rate").to_numpy(),
            "rounds": table.column("num_rounds").to_numpy(),
            "prompts": np.ones(len(sizes)),
            "accepted": counts,
            "short": counts < target,
        }


def pairing_section(pairs: Artifact) -> PairingSection:
    """The preference pairs."""
    found, sums = distributions(
        lambda: _paired(pairs), {"margins": Bins()}, sums=("pairs", "prompts", "by_ranker")
    )
    return PairingSection(
        num_pairs=int(sums["pairs"]),
        num_prompts=int(sums["prompts"]),
        num_by_ranker=int(sums["by_ranker"]),
        margins=found["margins"],
    )


def _paired(pairs: Artifact) -> Iterator[dict[str, np.ndarray]]:
    for index in range(pairs.num_shards):
        table = read_table([pairs], index, PreferencePairs)
        margins, counts = flat(table.column("margins"))
        by_ranker = np.array(table.column("label_source").to_pylist()) == "ranker"
        yield {
            "margins": margins[np.isfinite(margins)],
            "pairs": counts,
            "prompts": counts > 0,
            "by_ranker": counts[by_ranker],
        }


def position_bias(judged: Artifact, source: str) -> PositionBias | None:
    """How far the verdicts of a stage depend on the order; None if it judged nothing.

    Args:
        judged: an artifact with the columns of `Orders`.
        source: what the verdicts were for.
    """
    _, sums = distributions(lambda: _orders(judged), {}, sums=("comparisons", "changed", "difference"))
    total = int(sums["comparisons"])
    if not total:
        return None
    return PositionBias(
        source=source,
        num_comparisons=total,
        changed=sums["changed"] / total,
        mean_difference=sums["difference"] / total,
    )


def _orders(judged: Artifact) -> Iterator[dict[str, np.ndarray]]:
    for index in range(judged.num_shards):
        table = read_table([judged], index, Orders)
        (first, counts), (second, _) = (flat(table.column(f.name)) for f in fields(Orders)[1:])
        yield {
            "comparisons": counts,
            "changed": (first > 0.5) != (second > 0.5),
            "difference": first.astype(np.float64) - second,
        }


def flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """A column of lists of numbers: all numbers [sum of lengths], and the lengths [rows]."""
    lists = column.combine_chunks()
    lengths = np.diff(lists.offsets.to_numpy()) if len(lists) else np.empty(0, np.int64)
    return lists.flatten().to_numpy(zero_copy_only=False), lengths
