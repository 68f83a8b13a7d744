"""Distributions in bounded memory: what bins say is what the values would have said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.core.rows import Accepted, PreferencePairs, Row, Scores
from rayflow.core.schema import to_table
from rayflow.pipeline import distributions as module
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.distributions import Bins, count, distributions
from rayflow.pipeline.report_columns import pairing_section, selection_section
from rayflow.report import figures
from rayflow.report.values import Histogram, mean_of, size_of

BINS = {
    "rewards": Bins(),
    "best": Bins(like="rewards"),
    "rate": Bins(span=(0, 1)),
    "rounds": Bins(whole=True),
}


def batches(seed: int = 0, shards: int = 7) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    for _ in range(shards):
        rewards = rng.normal(size=200) * 3
        yield {
            "rewards": rewards,
            "best": rewards[rewards > 1],
            "rate": rng.random(50),
            "rounds": rng.integers(1, 60, 50),
            "short": rng.random(50) < 0.3,
        }


def test_few_values_are_kept() -> None:
    found, sums = distributions(batches, BINS, sums=["short"])
    whole = [np.concatenate([batch[name] for batch in batches()]) for name in BINS]
    assert all(np.array_equal(found[name], values) for name, values in zip(BINS, whole, strict=True))
    assert sums == {"short": sum(batch["short"].sum() for batch in batches())}


def test_many_values_are_counted_on_the_edges_they_would_be_drawn_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, _ = distributions(batches, BINS)
    monkeypatch.setattr(module, "MAX_VALUES", 40)
    binned, sums = distributions(batches, BINS, sums=["short"])
    for name in BINS:
        assert isinstance(binned[name], Histogram)
        assert size_of(binned[name]) == len(values[name])
        assert mean_of(binned[name]) == pytest.approx(values[name].mean(), rel=1e-12)
        expected = np.histogram(values[name], binned[name].edges)[0]
        assert binned[name].counts.tolist() == expected.tolist()
    assert np.array_equal(binned["best"].edges, binned["rewards"].edges)
    assert sums == distributions(batches, BINS, sums=["short"])[1]


def test_a_second_pass_is_made_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []

    def noted() -> Iterator[dict[str, np.ndarray]]:
        passes.append(1)
        return batches()

    distributions(noted, BINS)
    assert len(passes) == 1
    monkeypatch.setattr(module, "MAX_VALUES", 400)  # more than the accepted have, fewer than the rewards
    found, _ = distributions(noted, BINS)
    assert len(passes) == 3
    kinds = {name: isinstance(values, Histogram) for name, values in found.items()}
    assert kinds == {"rewards": True, "best": True, "rate": False, "rounds": False}


def test_no_values_are_an_empty_distribution() -> None:
    nothing = {name: np.empty(0) for name in BINS}
    found, sums = distributions(lambda: [nothing, nothing], BINS)
    assert all(size_of(values) == 0 for values in found.values()) and sums == {}


@given(st.lists(st.floats(-3, 3), max_size=30))
def test_every_value_falls_in_one_bin_and_the_outer_bins_take_the_rest(values: list[float]) -> None:
    edges = np.array([-1.0, 0.0, 0.5, 2.0])
    counts = count(np.array(values), edges)
    assert counts.sum() == len(values)
    inside = np.histogram(np.clip(values, -1, 2), edges)[0] if values else np.zeros(3)
    assert counts.tolist() == inside.tolist()


def store(artifact: Artifact, record: type, shards: list[list]) -> Artifact:
    artifact.begin({}, len(shards))
    for index, rows in enumerate(shards):
        artifact.shards.write(index, to_table(rows, record))
    return artifact


@dataclass(frozen=True, kw_only=True)
class Ends(Row):
    """Of a sample, what the report reads."""

    finish_reasons: tuple[str, ...]


@pytest.fixture
def stored(tmp_path) -> tuple[list[Artifact], Artifact, list]:
    """Samples, scores, selection and pairs of 30 prompts in three shards; selection has lost one row."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(30):
        rewards, k = rng.normal(size=5 + i % 4), 1 + i % 3
        accepted = rng.permutation(len(rewards))[:k].astype(np.int32)
        pairs = tuple(np.array([a, b], np.int32) for a, b in zip(accepted, accepted[1:], strict=False))
        ids = {"prompt_id": f"p{i}"}
        margins = np.array([rewards[a] - rewards[b] for a, b in pairs])
        rows.append(
            (
                Scores(**ids, rewards=rewards),
                Accepted(**ids, accepted=accepted, num_rounds=1 + i % 5, acceptance_rate=k / 9),
                PreferencePairs(
                    **ids, pairs=pairs, margins=margins, label_source=("reward", "ranker")[i % 2]
                ),
            )
        )
    shards = [rows[0:10], rows[10:20], rows[20:30]]
    kept = [[row for row in shard if row[0].prompt_id != "p4"] for shard in shards]
    scores = store(Artifact(tmp_path / "03-score"), Scores, [[r[0] for r in shard] for shard in shards])
    select = store(Artifact(tmp_path / "04-select"), Accepted, [[r[1] for r in shard] for shard in kept])
    pair = store(Artifact(tmp_path / "05-pair"), PreferencePairs, [[r[2] for r in shard] for shard in kept])
    ends = [[ends_of(r[0]) for r in shard] for shard in shards]
    sample = store(Artifact(tmp_path / "02-sample"), Ends, ends)
    return [sample, scores, select], pair, [row for shard in kept for row in shard]


def ends_of(row: Scores) -> Ends:
    """Those of a positive reward were cut."""
    reasons = tuple("length" if reward > 0 else "stop" for reward in row.rewards)
    return Ends(prompt_id=row.prompt_id, finish_reasons=reasons)


def test_the_sections_are_those_of_the_rows(stored: tuple) -> None:
    sources, pair, rows = stored
    section = selection_section(sources, target=2)
    assert section.candidate_rewards.tolist() == [r for s, _, _ in rows for r in s.rewards]
    assert section.accepted_rewards.tolist() == [s.rewards[i] for s, a, _ in rows for i in a.accepted]
    assert section.acceptance_rates.tolist() == [a.acceptance_rate for _, a, _ in rows]
    assert section.rounds.tolist() == [a.num_rounds for _, a, _ in rows]
    assert (section.num_prompts, section.num_accepted) == (29, sum(len(a.accepted) for _, a, _ in rows))
    assert section.num_short == sum(len(a.accepted) < 2 for _, a, _ in rows) > 0
    assert section.num_cut == sum(r > 0 for s, _, _ in rows for r in s.rewards)
    assert section.num_cut_accepted == sum(s.rewards[i] > 0 for s, a, _ in rows for i in a.accepted)
    assert section.cut_accepted == section.num_cut_accepted / section.num_accepted > 0
    assert selection_section(sources, target=None).num_short == 0
    unscored = selection_section([sources[0], sources[2]], 2, scored=False)
    assert (unscored.num_cut, unscored.num_candidates) == (section.num_cut, section.num_candidates)
    pairing = pairing_section(pair)
    assert pairing.num_pairs == sum(len(p.pairs) for _, _, p in rows)
    assert pairing.num_prompts == sum(bool(p.pairs) for _, _, p in rows)
    assert pairing.num_by_ranker == sum(len(p.pairs) for _, _, p in rows if p.label_source == "ranker")
    assert pairing.margins.tolist() == [m for _, _, p in rows for m in p.margins]


def test_the_charts_of_bins_are_those_of_the_values(stored: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, pair, _ = stored
    values = selection_section(sources, 2), pairing_section(pair)
    monkeypatch.setattr(module, "MAX_VALUES", 3)
    bins = selection_section(sources, 2), pairing_section(pair)
    assert isinstance(bins[0].candidate_rewards, Histogram) and isinstance(bins[1].margins, Histogram)
    drawn = [figures.selection(section) + figures.pairing(pairing) for section, pairing in (values, bins)]
    assert [figure.svg for figure in drawn[0]] == [figure.svg for figure in drawn[1]]
    assert len(drawn[0]) == 4
