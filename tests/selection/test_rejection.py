"""Statistical rejection sampling row by row: its limits, its invariances, and what it refuses."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rayflow.core import draws
from rayflow.selection.algorithm import acceptance_probability, merged, number
from rayflow.selection.rejection import RejectionSampling
from tests.selection.helpers import chosen, outcomes, row_seeds, select
from tests.selection.plain import plain_selection

VARIANTS = pytest.mark.parametrize("maximum", ["pass", "acceptance"])


def test_the_maximum_is_fixed_for_a_pass_and_fresh_for_the_next() -> None:
    """[10, 0, 0] with k=2: Algorithm 1 needs a second pass, whose maximum is 0; refreshed, one is enough."""
    settings = {"beta": 0.01, "num_accepted": 2, "shuffle": False}
    assert outcomes(select("rejection", [10.0, 0.0, 0.0], **settings)) == [(2, 3 + 1, 0, 1)]
    refreshed = select("rejection", [10.0, 0.0, 0.0], maximum="acceptance", **settings)
    assert outcomes(refreshed) == [(1, 2, 0, 1)]


def test_a_refreshed_maximum_goes_on_in_the_same_pass_and_begins_again_at_its_end() -> None:
    """At beta=0, by hand: 2 is rejected, 5 taken; 1 and 3 wait for 4; then 2 against 3, which is taken."""
    settings = {"beta": 0, "num_accepted": 3, "shuffle": False, "maximum": "acceptance"}
    assert outcomes(select("rejection", [2.0, 5.0, 1.0, 4.0, 3.0], **settings)) == [(1, 5, 1, 3, 4)]
    assert outcomes(select("rejection", [3.0, 1.0, 5.0, 2.0], **settings)) == [(2, 4 + 3, 2, 0, 3)]


def test_beta_zero_takes_the_highest_rewards_in_descending_order() -> None:
    """Of equal rewards the first visited; with a refreshed maximum that may be the next one in the pass."""
    rewards, settings = [0.3, 2.0, -1.0, 5.0, 2.0], {"beta": 0, "num_accepted": 4, "shuffle": False}
    assert chosen("rejection", rewards, **settings) == [3, 1, 4, 0]
    assert chosen("rejection", rewards, maximum="acceptance", **settings) == [3, 4, 1, 0]


@VARIANTS
def test_beta_zero_breaks_ties_by_the_shuffled_order(maximum: str) -> None:
    rows = np.ones((60, 4))
    first = select("rejection", rows, row_seeds(60), beta=0, num_accepted=1, maximum=maximum).accepted
    assert set(first.tolist()) == {0, 1, 2, 3}


@VARIANTS
def test_beta_zero_is_the_limit_of_small_beta(maximum: str) -> None:
    """Down to where every weight but the highest is too small for a float."""
    rewards = np.random.default_rng(1).normal(size=(50, 40))
    zero = select("rejection", rewards, row_seeds(50), beta=0, num_accepted=40, maximum=maximum)
    for beta in (1e-12, 1e-6):
        small = select("rejection", rewards, row_seeds(50), beta=beta, num_accepted=40, maximum=maximum)
        assert outcomes(small) == outcomes(zero)


@VARIANTS
def test_large_beta_takes_the_first_candidates_in_one_round(maximum: str) -> None:
    settings = {"beta": 1e15, "num_accepted": 3, "shuffle": False, "maximum": maximum}
    assert outcomes(select("rejection", [0.0, 5.0, 1.0, 9.0, 2.0], **settings)) == [(1, 3, 0, 1, 2)]


# Whole numbers: sums and products with powers of two are exact.
ROWS = st.integers(1, 40).flatmap(
    lambda n: st.lists(st.lists(st.integers(-40, 40), min_size=n, max_size=n), min_size=1, max_size=6)
)
SETTINGS = st.fixed_dictionaries(
    {
        "beta": st.sampled_from([0, 0.0625, 0.5, 4.0]),
        "num_accepted": st.integers(1, 12),
        "shuffle": st.booleans(),
        "maximum": st.sampled_from(["pass", "acceptance"]),
    }
)
FIRST_SEED = st.integers(0, 2**63)


def seeds_from(first: int, rows: list) -> np.ndarray:
    return np.arange(first, first + len(rows), dtype=np.uint64)


@given(ROWS, FIRST_SEED, SETTINGS)
def test_outputs_are_distinct_and_as_many_as_asked_or_there_are(
    rows: list, seed: int, settings: dict
) -> None:
    selection = select("rejection", rows, seeds_from(seed, rows), **settings)
    n, k = len(rows[0]), settings["num_accepted"]
    assert selection.accepted.dtype == np.int32
    assert selection.num_accepted.tolist() == [min(k, n)] * len(rows)
    for rounds, visits, *accepted in outcomes(selection):
        assert len(set(accepted)) == len(accepted) == min(k, n)
        assert set(accepted) <= set(range(n))
        assert 1 <= rounds <= len(accepted) <= visits <= rounds * n


@given(ROWS, FIRST_SEED, SETTINGS, st.integers(-1000, 1000))
def test_a_constant_added_to_all_rewards_changes_nothing(
    rows: list, seed: int, settings: dict, shift: int
) -> None:
    seeds = seeds_from(seed, rows)
    base = select("rejection", rows, seeds, **settings)
    assert outcomes(select("rejection", np.array(rows) + shift, seeds, **settings)) == outcomes(base)


@given(ROWS, FIRST_SEED, SETTINGS, st.sampled_from([0.25, 0.5, 2.0, 8.0, 1024.0]))
def test_scaling_rewards_and_beta_together_changes_nothing(
    rows: list, seed: int, settings: dict, scale: float
) -> None:
    seeds = seeds_from(seed, rows)
    base = select("rejection", rows, seeds, **settings)
    scaled = {**settings, "beta": settings["beta"] * scale}
    assert outcomes(select("rejection", np.array(rows) * scale, seeds, **scaled)) == outcomes(base)


@given(ROWS, FIRST_SEED, SETTINGS, st.data())
def test_texts_that_all_differ_are_candidates(rows: list, seed: int, settings: dict, data) -> None:
    keys = [data.draw(st.permutations(range(len(row)))) for row in rows]
    seeds = seeds_from(seed, rows)
    for text_keyed in (False, True):
        keyed = select("rejection", rows, seeds, keys=keys, text_keyed=text_keyed, **settings)
        assert outcomes(keyed) == outcomes(select("rejection", rows, seeds, **settings))


@VARIANTS
def test_the_copies_of_an_accepted_text_leave_with_it(maximum: str) -> None:
    """By hand: once 0 is accepted, its copies 1 and 4 are passed over; so is 5 after 3."""
    settings = {"beta": 0, "num_accepted": 3, "shuffle": False, "maximum": maximum}
    rewards, keys = [5.0, 5.0, 1.0, 2.0, 5.0, 2.0], [0, 0, 2, 3, 0, 3]
    # Visits: with the maximum fixed, 0 2 3 5, then 2 3, then 2; refreshed, 0 2 3 and then 2.
    visits = {"pass": (3, 4 + 2 + 1), "acceptance": (2, 3 + 1)}[maximum]
    assert outcomes(select("rejection", rewards, keys=keys, **settings)) == [(*visits, 0, 3, 2)]


@given(ROWS, FIRST_SEED, SETTINGS, st.data())
def test_of_equal_texts_one_is_accepted_at_most(rows: list, seed: int, settings: dict, data) -> None:
    keys = [data.draw(st.lists(st.integers(0, len(r) - 1), min_size=len(r), max_size=len(r))) for r in rows]
    text_keyed = data.draw(st.booleans())
    keyed = select("rejection", rows, seeds_from(seed, rows), keys=keys, text_keyed=text_keyed, **settings)
    for row, (rounds, visits, *accepted) in zip(keys, outcomes(keyed), strict=True):
        texts = [row[i] for i in accepted]
        assert len(set(texts)) == len(texts) == min(settings["num_accepted"], len(set(row)))
        assert 1 <= rounds <= len(accepted) <= visits <= rounds * (len(set(row)) if text_keyed else len(row))


def test_equal_texts_keep_the_first_place_and_the_last_reward() -> None:
    order, rewards = np.array([4, 1, 2, 3, 0]), np.array([1.0, 2, 3, 4, 5])
    left, values = merged(order, rewards, np.array([3, 0, 3, 0, 1]))
    assert left.tolist() == [4, 1, 2]
    assert values[left].tolist() == [5, 4, 1]
    assert rewards.tolist() == [1, 2, 3, 4, 5] and order.tolist() == [4, 1, 2, 3, 0]


def test_the_same_seed_gives_the_same_outcome_and_another_one_another() -> None:
    rows = np.tile(np.random.default_rng(0).normal(size=64), (8, 1))
    first, again = (outcomes(select("rejection", rows, row_seeds(8))) for _ in range(2))
    assert first == again and len(set(first)) == 8


def test_a_shortfall_returns_every_candidate() -> None:
    assert sorted(chosen("rejection", [1.0, 2.0, 3.0], num_accepted=8)) == [0, 1, 2]


@pytest.mark.filterwarnings("error")
@VARIANTS
def test_huge_rewards_do_not_overflow(maximum: str) -> None:
    settings = {"beta": 1e-3, "num_accepted": 3, "shuffle": False, "maximum": maximum}
    assert chosen("rejection", [1.7e308, -1.7e308, 0.0], **settings) == [0, 2, 1]


def test_acceptance_probabilities_are_those_of_the_paper() -> None:
    """METHODS: rewards 0, 1, 2 at beta 0.5."""
    found = [acceptance_probability(gap, 0.5) for gap in (-2.0, -1.0, 0.0)]
    assert found == pytest.approx([0.0183156, 0.1353353, 1.0], abs=1e-6)
    assert [acceptance_probability(gap, 0.0) for gap in (-np.inf, -1e-300, 0.0)] == [0, 0, 1]


class Stream(Random):
    """Python's interface on the numbers of one row, so that the plain loop draws what the rule draws."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._numbers = iter(draws.uniform(np.array([seed], np.uint64), 100_000)[0].tolist())

    def random(self) -> float:
        return next(self._numbers)

    def shuffle(self, order: list) -> None:
        for last in range(len(order) - 1, 0, -1):
            other = int(self.random() * (last + 1))
            order[last], order[other] = order[other], order[last]


@given(ROWS, FIRST_SEED, SETTINGS, st.data())
def test_it_is_the_plain_loop_number_by_number(rows: list, seed: int, settings: dict, data) -> None:
    """Given the same random numbers, the same candidates in the same order, passes and visits."""
    keys = [data.draw(st.lists(st.integers(0, len(r) - 1), min_size=len(r), max_size=len(r))) for r in rows]
    seeds = seeds_from(seed, rows)
    found = outcomes(select("rejection", rows, seeds, keys=keys, **settings))
    for row, texts, one, (rounds, visits, *accepted) in zip(rows, keys, seeds, found, strict=True):
        plain = plain_selection(row, Stream(one), texts=texts, **settings)
        assert (rounds, visits, accepted) == (plain.num_rounds, plain.num_visits, plain.accepted)


@given(st.integers(0, 2**64 - 1), st.integers(0, 300))
def test_a_number_computed_alone_is_that_of_the_batch(seed: int, index: int) -> None:
    batch = draws.uniform(np.array([seed], np.uint64), index + 1)
    assert number(np.uint64(seed), index) == batch[0, index]


@pytest.mark.parametrize(
    "options",
    [{"beta": -0.1}, {"beta": float("nan")}, {"num_accepted": 0}, {"k": 8}, {"maximum": "never"}],
)
def test_impossible_settings_are_refused(options: dict) -> None:
    with pytest.raises(ValidationError):
        RejectionSampling.Config(**options)
