"""The columns that the report's sections on the data show, shard by shard, without a row object."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayflow.core.rows import Accepted, Orders, PreferencePairs, Prompt, Responses, Row, Scores
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.distributions import Bins, distributions
from rayflow.pipeline.stage import Stage, read_rows, read_table
from rayflow.pipeline.stages.preferences import name_of
from rayflow.report.data import PairingSection, PositionBias, ReferenceSection, SelectionSection
from rayflow.report.overlap import CONSEQUENCES, Overlap

_PROMPTS = {"train": "prompts", "validation": "valid-prompts", "evaluation": "eval-prompts"}
"""The stage that stores each part of `prompts`."""


@dataclass(frozen=True, kw_only=True)
class AcceptedOfDrawn(Accepted):
    """View: what the selection section shows where there are no rewards."""

    finish_reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AcceptedRewards(Scores, AcceptedOfDrawn):
    """View: the same with rewards."""


@dataclass(frozen=True, kw_only=True)
class Endings(Row):
    """View: how responses ended."""

    finish_reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SamplerDifferences(Row):
    """View: what the section on the reference shows."""

    sampler_differences: np.ndarray


def selection_section(
    sources: Sequence[Artifact], target: int | None, scored: bool = True, num_resampled: int = 0
) -> SelectionSection:
    """What selection made of the candidates.

    Args:
        sources: the artifacts of the samples, of the scores if there are any, and of the selection.
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
        sums=("prompts", "candidates", "accepted", "short", "cut", "cut_accepted"),
    )
    return SelectionSection(
        **({"candidate_rewards": None, "accepted_rewards": None} | found),
        num_candidates=int(sums["candidates"]),
        num_resampled=num_resampled,
        num_prompts=int(sums["prompts"]),
        num_accepted=int(sums["accepted"]),
        target_per_prompt=target,
        num_short=int(sums["short"]),
        num_cut=int(sums["cut"]),
        num_cut_accepted=int(sums["cut_accepted"]),
    )


def _selected(sources: Sequence[Artifact], target: int, scored: bool) -> Iterator[dict[str, np.ndarray]]:
    for index in range(sources[-1].num_shards):
        table = read_table(sources, index, AcceptedRewards if scored else AcceptedOfDrawn)
        cut, drawn = flat(table.column("finish_reasons"), equal_to="length")
        rewards, sizes = flat(table.column("rewards")) if scored else (np.empty(len(cut)), drawn)
        # Where scoring a further draw has failed, candidates behind the scored ones had no part in selection.
        cut = cut[place_in_list(drawn) < np.repeat(sizes, drawn)]
        accepted, counts = flat(table.column("accepted"))
        chosen = np.repeat(np.cumsum(sizes) - sizes, counts) + accepted
        yield {
            "candidate_rewards": rewards,
            "accepted_rewards": rewards[chosen],
            "cut": cut,
            "cut_accepted": cut[chosen],
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


def reference_section(reference: Artifact, source: str, threshold: float) -> ReferenceSection:
    """How far the sampler's log-probabilities are from the reference's.

    Args:
        reference: the artifact of the stage of this name.
        source: which of the two training uses.
        threshold: mean difference from which on it is warned of.
    """
    count, total, largest = 0, 0.0, 0.0
    for index in range(reference.num_shards):
        table = read_table([reference], index, SamplerDifferences)
        values = np.abs(flat(table.column("sampler_differences"))[0])
        known = values[np.isfinite(values)]
        count += len(known)
        total += float(known.sum(dtype=np.float64))
        largest = max(largest, float(known.max(initial=0.0)))
    return ReferenceSection(
        source=source,
        num_compared=count,
        mean_difference=total / count if count else None,
        max_difference=largest if count else None,
        threshold=threshold,
    )


def cut_share(sources: Sequence[Artifact]) -> float | None:
    """The share of responses that a sampler cut at max_tokens; None where it is not told how they ended.

    Args:
        sources: artifacts of the responses, and last that of the rows that count.
    """
    cut = total = 0
    for index in range(sources[-1].num_shards):
        table = read_table(sources, index, Endings)
        if "finish_reasons" not in table.column_names:
            return None
        ended, _ = flat(table.column("finish_reasons"), equal_to="length")
        cut, total = cut + int(ended.sum()), total + len(ended)
    return cut / total if total else None


def overlaps(done: Mapping[str, Artifact], stages: Mapping[str, Stage]) -> tuple[Overlap, ...]:
    """Where prompts that are held out from training, or from choosing the checkpoint, are among those all the same.

    Args:
        done: the run's finished artifacts, by name.
        stages: what wrote them.
    """
    there = {part: name for part, name in _PROMPTS.items() if name in done}
    if len(there) < 2:
        return ()
    names = {part: _names(done[name], stages[name].writes) for part, name in there.items()}
    return tuple(
        Overlap(part=part, other=other, num_shared=shared, num_prompts=len(names[part]))
        for part, other in CONSEQUENCES
        if part in there and other in there and (shared := int(np.isin(names[part], names[other]).sum()))
    )


def _names(prompts: Artifact, writes: type[Row]) -> np.ndarray:
    """[n] uint64, the content hash of each prompt alone: the id of a `Prompt`, but not that of an `Example`."""
    names = array("Q")  # eight bytes for a prompt, also where there are very many
    for index in range(prompts.num_shards):
        if issubclass(writes, Responses):
            names.extend(int(name_of(row), 16) for row in read_rows([prompts], index, Prompt))
        else:
            ids = read_table([prompts], index, Row).column("prompt_id").to_pylist()
            names.extend(int(each, 16) for each in ids)
    return np.frombuffer(names, np.uint64) if names else np.empty(0, np.uint64)


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


def place_in_list(lengths: np.ndarray) -> np.ndarray:
    """Of lists that lie one behind the other, each element's place in its own: [sum of lengths]."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def flat(column: pa.ChunkedArray, equal_to: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A column of lists of numbers: all numbers [sum of lengths], and the lengths [rows].

    Of lists of words, with `equal_to`, instead of the numbers bool: which of the words are that one.
    """
    lists = column.combine_chunks()
    lengths = np.diff(lists.offsets.to_numpy()) if len(lists) else np.empty(0, np.int64)
    values = lists.flatten()
    values = values if equal_to is None else pc.equal(values, equal_to)
    return values.to_numpy(zero_copy_only=False), lengths
