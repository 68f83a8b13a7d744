"""The columns that the report's sections on selection and pairing show, shard by shard, without a row object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rayflow.core.rows import Accepted, PreferencePairs, Scores
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.distributions import Bins, distributions
from rayflow.pipeline.stage import read_table
from rayflow.report.data import PairingSection, SelectionSection


@dataclass(frozen=True, kw_only=True)
class AcceptedRewards(Scores, Accepted):
    """View: what the selection section shows."""


def selection_section(sources: Sequence[Artifact], target: int | None) -> SelectionSection:
    """What selection made of the candidates.

    Args:
        sources: the artifacts of the scores and of the selection.
        target: how many responses selection was asked for, per prompt; None if not fixed.
    """
    found, sums = distributions(
        lambda: _selected(sources, target or 0),
        {
            "candidate_rewards": Bins(),
            "accepted_rewards": Bins(like="candidate_rewards"),
            "acceptance_rates": Bins(span=(0.0, 1.0)),
            "rounds": Bins(whole=True),
        },
        sums=("prompts", "accepted", "short"),
    )
    return SelectionSection(
        **found,
        num_prompts=int(sums["prompts"]),
        num_accepted=int(sums["accepted"]),
        target_per_prompt=target,
        num_short=int(sums["short"]),
    )


def _selected(sources: Sequence[Artifact], target: int) -> Iterator[dict[str, np.ndarray]]:
    for index in range(sources[-1].num_shards):
        table = read_table(sources, index, AcceptedRewards)
        rewards, sizes = flat(table.column("rewards"))
        accepted, counts = flat(table.column("accepted"))
        starts = np.repeat(np.cumsum(sizes) - sizes, counts)
        yield {
            "candidate_rewards": rewards,
            "accepted_rewards": rewards[starts + accepted],
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
            "margins": margins,
            "pairs": counts,
            "prompts": counts > 0,
            "by_ranker": counts[by_ranker],
        }


def flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """A column of lists of numbers: all numbers [sum of lengths], and the lengths [rows]."""
    lists = column.combine_chunks()
    lengths = np.diff(lists.offsets.to_numpy()) if len(lists) else np.empty(0, np.int64)
    return lists.flatten().to_numpy(zero_copy_only=False), lengths
