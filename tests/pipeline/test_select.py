"""The select stage: rows of any size together, a bad row alone, texts read only where they matter."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from rayflow.config import PoolOptions, RunConfig
from rayflow.core.options import KindOptions
from rayflow.core.registry import resolve
from rayflow.core.rows import Accepted, Failure, Scores
from rayflow.core.seeds import derive
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.shards import Shards
from rayflow.pipeline.stages.select import ScoredTexts, SelectStage, text_keys
from rayflow.selection.base import PerRow
from tests.pipeline.helpers import run_data, tables
from tests.selection.helpers import select

HERE = "tests.pipeline.test_select"


class Picky(PerRow):
    """A user's rule: the best candidate; it cannot decide on a negative one, and takes none of zeros."""

    class Config(KindOptions):
        kind: str = f"{HERE}:Picky"

    def __init__(self, options: Config) -> None:
        self.options = options

    def select_one(self, rewards: np.ndarray, rng: np.random.Generator) -> list[int]:
        if rewards.min() < 0:
            raise ValueError("negative")
        return [int(rewards.argmax())] if rewards.any() else []


def stage(kind: str = "rejection", **settings: object) -> SelectStage:
    options = resolve("selection", kind).Config(kind=kind, **settings)
    return SelectStage("select", ("sample", "score"), options, 7, PoolOptions())


def run(made: SelectStage, rewards: list, texts: list | None = None) -> list[Accepted | Failure]:
    rows = [scored(i, row, texts and texts[i]) for i, row in enumerate(rewards)]
    return list(asyncio.run(made.process(rows)))


def scored(i: int, rewards: object, texts: list[str] | None = None) -> ScoredTexts:
    """Prompt i; its texts all differ unless they are given."""
    texts = texts or [f"text {j}" for j in range(len(rewards))]
    return ScoredTexts(prompt_id=f"p{i}", rewards=np.array(rewards, np.float64), responses=tuple(texts))


def accepted(outcomes: list) -> list[list[int]]:
    return [outcome.accepted.tolist() for outcome in outcomes]


def ragged(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=3 + 5 * (i % 3)) for i in range(count)]


def test_rows_of_any_size_are_decided_together_and_keep_their_order() -> None:
    rewards = ragged(20)
    outcomes = run(stage(num_accepted=4), rewards)
    assert [o.prompt_id for o in outcomes] == [f"p{i}" for i in range(20)]
    assert [len(o.accepted) for o in outcomes] == [min(4, len(r)) for r in rewards]
    for outcome, row in zip(outcomes, rewards, strict=True):
        assert set(outcome.accepted.tolist()) <= set(range(len(row)))
        assert 0 < outcome.acceptance_rate <= 1 and isinstance(outcome.num_rounds, int)


def test_a_row_does_not_depend_on_the_others() -> None:
    rewards = ragged(12)
    together = accepted(run(stage(num_accepted=2), rewards))
    rows = [scored(i, row) for i, row in enumerate(rewards)]
    for i in (11, 4, 0):
        (alone,) = asyncio.run(stage(num_accepted=2).process([rows[i]]))
        assert alone.accepted.tolist() == together[i]


def test_prompts_with_equal_rewards_draw_for_themselves() -> None:
    """One seed for a whole batch would give every prompt the same noise."""
    outcomes = run(stage(num_accepted=3), [np.zeros(16)] * 200)
    assert len({tuple(a) for a in accepted(outcomes)}) > 150
    firsts = Counter(a[0] for a in accepted(outcomes))
    assert len(firsts) == 16 and max(firsts.values()) < 40


def test_rows_draw_from_their_own_prompt_not_from_their_place() -> None:
    rows = [scored(i, np.zeros(16)) for i in range(6)]
    forward = asyncio.run(stage().process(rows))
    backward = asyncio.run(stage().process(rows[::-1]))
    assert accepted(forward) == accepted(backward)[::-1]


@pytest.mark.parametrize("kind", ["rejection", "top_k", "all", "threshold", "gumbel", "first_k"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_no_number_fails_its_row_only(kind: str, bad: float) -> None:
    """The algorithm as printed would always accept it: u >= NaN is false."""
    rewards = [[0.0, 1.0, 2.0], [0.5, bad, 0.1], [2.0, 1.0, 0.0]]
    outcomes = run(stage(kind), rewards)
    assert isinstance(outcomes[1], Failure) and outcomes[1].prompt_id == "p1"
    assert outcomes[1].reason == "reward is not finite" and "for candidate 1 (1 of 3" in outcomes[1].detail
    good = run(stage(kind), [rewards[0], [0.0, 0.0, 0.0], rewards[2]])
    assert accepted([outcomes[0], outcomes[2]]) == accepted([good[0], good[2]])


def test_a_rule_that_cannot_decide_a_row_fails_that_row_only() -> None:
    outcomes = run(stage(f"{HERE}:Picky"), [[1.0, 3.0], [-1.0, 2.0], [0.0, 0.0], [4.0, 1.0]])
    assert accepted([outcomes[0], outcomes[3]]) == [[1], [0]]
    assert (outcomes[1].reason, outcomes[1].detail) == ("selection failed", "ValueError: negative")
    assert (outcomes[2].reason, outcomes[2].detail) == ("nothing accepted", "of 2 candidates")


def test_nothing_to_choose_from_is_a_failure() -> None:
    (outcome, other) = run(stage(), [[], [1.0]])
    assert outcome.reason == "nothing accepted" and other.accepted.tolist() == [0]
    (outcome,) = run(stage("threshold", scale="none", threshold=5), [[1.0, 2.0]])
    assert outcome.reason == "nothing accepted"


@pytest.mark.parametrize("kind", ["rejection", "top_k", "first_k", "gumbel"])
def test_a_shortfall_is_kept_or_skipped_as_configured(kind: str) -> None:
    rewards = [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]]
    short, whole = run(stage(kind, num_accepted=4), rewards)
    assert (len(short.accepted), len(whole.accepted)) == (3, 4)
    short, whole = run(stage(kind, num_accepted=4, shortfall="skip"), rewards)
    assert (short.reason, short.detail) == ("fewer accepted than asked for", "3 of 4, from 3 candidates")
    assert len(whole.accepted) == 4


def test_equal_texts_get_equal_numbers() -> None:
    assert text_keys(("b", "a", "b", "c", "a")) == [0, 1, 0, 3, 1]


def test_of_copies_one_is_accepted_and_a_text_keyed_rule_takes_the_last_reward() -> None:
    rewards = [[0.0, 1.0, 2.0, 0.5], [0.0, 1.0, 2.0, 0.5]]
    texts = [["a", "b", "a", "c"], ["a", "b", "c", "d"]]
    settings = {"beta": 0, "num_accepted": 4, "shuffle": False}
    first, second = run(stage(**settings), rewards, texts)
    assert first.accepted.tolist() == [2, 1, 3]
    assert second.accepted.tolist() == [2, 1, 3, 0]
    settings["text_keyed"] = True
    first, second = run(stage(**settings), rewards, texts)
    assert first.accepted.tolist() == [0, 1, 3]  # "a" has the last copy's reward at the first one's place
    assert second.accepted.tolist() == [2, 1, 3, 0]
    first, second = run(stage(**settings, shortfall="skip"), rewards, texts)
    assert first.reason == "fewer accepted than asked for" and len(second.accepted) == 4


def test_only_a_rule_that_needs_them_depends_on_texts() -> None:
    assert stage("top_k").inputs == ("score",) and stage("top_k").reads is Scores
    keyed = stage()
    assert keyed.inputs == ("sample", "score") and keyed.reads is ScoredTexts


def test_a_whole_run_reads_texts_only_where_they_matter(
    settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, frozenset]] = []
    real = Shards.read

    def noted(self: Shards, index: int, columns: object = None):
        read.append((Artifact(self.folder.parent).name, frozenset(columns or ())))
        return real(self, index, columns)

    monkeypatch.setattr(Shards, "read", noted)
    rule = {"kind": "top_k", "num_accepted": 4}
    plain, _ = run_data(RunConfig.model_validate({**settings, "select": rule}))
    assert ("sample", frozenset({"prompt_id", "rewards", "responses"})) not in read
    keyed, _ = run_data(RunConfig.model_validate({**settings, "name": "keyed"}))
    assert ("sample", frozenset({"prompt_id", "rewards", "responses"})) in read
    for sampled, chosen in zip(tables(keyed)["sample"], tables(keyed)["select"], strict=True):
        texts = [sampled["responses"][i] for i in chosen["accepted"]]
        assert len(set(texts)) == len(texts)
    assert [row["prompt_id"] for row in tables(plain)["select"]] == [
        row["prompt_id"] for row in tables(keyed)["select"]
    ]


def test_the_stage_gives_what_the_rule_gives_for_the_derived_seeds() -> None:
    """Golden: a change of the draws would silently redraw every stored run."""
    rewards = np.linspace(0, 2, 12)
    (outcome,) = run(stage(), [rewards])
    direct = select("rejection", rewards, derive(7, "select", "p0"))
    assert outcome.accepted.tolist() == direct.accepted.tolist()
    assert outcome.accepted.tolist() == [11, 10, 9, 6, 7, 8, 4, 5]


@pytest.mark.parametrize("kind", ["all", "first_k", "threshold", "top_k", "gumbel", "rejection"])
def test_the_seed_counts_exactly_for_rules_that_draw(kind: str) -> None:
    one, rewards = stage(kind), [[0.5] * 12 + [1.0] * 12]
    outcomes = [accepted(run(replace(one, seed=seed), rewards)) for seed in range(5)]
    draws = any(outcome != outcomes[0] for outcome in outcomes)
    assert (replace(one, seed=8).identity() != one.identity()) == draws
