"""Rejection sampling's law: against closed forms, and against the plain loop, with the pitfalls in view.

All seeds are fixed. `LIMIT` standard deviations separate what is right from what is wrong here by far: the
last tests show that the same comparison finds the faults that published implementations have.
"""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from numpy.polynomial import Polynomial

from tests.selection.chi_square import LIMIT, difference, surprise
from tests.selection.helpers import outcomes, row_seeds, select
from tests.selection.plain import plain_selection, plain_text_keyed

NUM_ROWS = 50_000
REWARDS = np.array([0.0, 1.0, 2.0])
SFT = np.array([0.5, 0.3, 0.2])


def first_in_order(weights: np.ndarray) -> np.ndarray:
    """Law of the first accepted in the given order: w_i times the product of 1 - w_j over the earlier j."""
    return weights * np.cumprod(np.append(1, 1 - weights[:-1]))


def first_in_random_order(weights: np.ndarray) -> np.ndarray:
    """Law in a uniformly random order: w_i times the integral of prod_j (1 - t w_j) over t in [0, 1]."""
    law = []
    for i, weight in enumerate(weights):
        others = [Polynomial([1, -w]) for w in np.delete(weights, i)]
        law.append(weight * np.prod([Polynomial([1.0]), *others]).integ()(1))
    return np.array(law)


def first_accepted(rewards: np.ndarray, **settings: object) -> np.ndarray:
    """Counts [n] of the first accepted candidate over NUM_ROWS prompts with the same rewards."""
    rows = np.tile(rewards, (NUM_ROWS, 1))
    accepted = select("rejection", rows, row_seeds(NUM_ROWS), num_accepted=1, **settings).accepted
    return np.bincount(accepted, minlength=len(rewards))


def test_the_closed_forms_have_the_worked_values() -> None:
    weights = np.exp(REWARDS - 2)
    assert first_in_order(weights) == pytest.approx((0.135335, 0.318092, 0.546572), abs=1e-6)
    assert first_in_order(weights[::-1]) == pytest.approx((1, 0, 0))
    assert first_in_random_order(weights) == pytest.approx((0.059370, 0.175642, 0.764988), abs=1e-6)


def visited(seeds: np.ndarray, n: int) -> np.ndarray:
    """The order of visits [p, n]: of equal rewards every visit accepts."""
    return select("rejection", np.zeros((len(seeds), n)), seeds, num_accepted=n).accepted.reshape(-1, n)


def test_orders_of_visits_are_equally_likely() -> None:
    orders = visited(row_seeds(60_000), 4)
    index = {order: i for i, order in enumerate(itertools.permutations(range(4)))}
    counts = np.bincount([index[tuple(order)] for order in orders.tolist()], minlength=24)
    assert surprise(counts, np.full(24, 1 / 24)) < LIMIT


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 1000])
def test_an_order_holds_every_candidate_once(n: int) -> None:
    assert np.array_equal(np.sort(visited(row_seeds(50), n), axis=1), np.tile(np.arange(n), (50, 1)))


def test_of_64_each_is_visited_first_and_last_equally_often() -> None:
    orders = visited(row_seeds(20_000), 64)
    cells = np.bincount(orders[:, 0] // 4 * 16 + orders[:, -1] // 4, minlength=256)
    inside, across = (
        4 * 3,
        4 * 4,
    )  # of the 64 * 63 pairs, those of two candidates in one group of four or in two
    law = np.where(np.eye(16, dtype=bool), inside, across).ravel() / (64 * 63)
    assert surprise(cells, law) < LIMIT


@pytest.mark.parametrize("maximum", ["pass", "acceptance"])
@pytest.mark.parametrize("beta", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("rewards", [REWARDS, REWARDS[::-1], np.array([0.3, -1.2, 0.9, 0.9, 0.1, 0.5])])
def test_the_first_accepted_follows_the_finite_set_law(
    rewards: np.ndarray, beta: float, maximum: str
) -> None:
    weights = np.exp((rewards - rewards.max()) / beta)
    in_order = first_accepted(rewards, beta=beta, shuffle=False, maximum=maximum)
    assert surprise(in_order, first_in_order(weights)) < LIMIT
    shuffled = first_accepted(rewards, beta=beta, maximum=maximum)
    assert surprise(shuffled, first_in_random_order(weights)) < LIMIT
    # The law depends on the order, and the comparison sees that.
    assert surprise(shuffled, first_in_order(weights)) > 2 * LIMIT


def drawn_texts() -> np.ndarray:
    """64 candidates per prompt, each one of three texts, drawn from the SFT policy."""
    return np.random.default_rng(11).choice(3, size=(NUM_ROWS, 64), p=SFT)


PI_R = SFT * np.exp(REWARDS) / (SFT * np.exp(REWARDS)).sum()


def test_with_64_draws_the_first_accepted_follows_pi_r() -> None:
    """Exactly, wherever the highest reward is among the draws: each visit then accepts y with pi_r(y) Z."""
    assert pytest.approx((0.179000, 0.291944, 0.529056), abs=1e-6) == PI_R
    texts = drawn_texts()
    for shuffle in (False, True):
        rule = {"beta": 1.0, "num_accepted": 1, "shuffle": shuffle}
        first = select("rejection", REWARDS[texts], row_seeds(NUM_ROWS), **rule).accepted
        assert surprise(np.bincount(texts[np.arange(NUM_ROWS), first], minlength=3), PI_R) < LIMIT


def test_keyed_by_text_the_first_accepted_does_not() -> None:
    """Then each text is one candidate, in the order in which they were first drawn: (.086,.206,.708)."""
    law = np.zeros(3)
    for order in itertools.permutations(range(3)):
        chance = SFT[order[0]] * SFT[order[1]] / (1 - SFT[order[0]])
        law[list(order)] += chance * first_in_order(np.exp(REWARDS[list(order)] - 2))
    assert law == pytest.approx((0.0860, 0.2058, 0.7082), abs=1e-4)
    texts = drawn_texts()
    rule = {"beta": 1.0, "num_accepted": 1, "text_keyed": True}
    for shuffle in (False, True):  # independent draws are in a random order already
        first = select("rejection", REWARDS[texts], row_seeds(NUM_ROWS), keys=texts, shuffle=shuffle, **rule)
        counts = np.bincount(texts[np.arange(NUM_ROWS), first.accepted], minlength=3)
        assert surprise(counts, law) < LIMIT


def test_the_acceptance_rate_is_that_of_theorem_1() -> None:
    """E_sft[exp((r - r_max)/beta)] = .378031, so the first acceptance takes 1 / .378031 visits on average."""
    rewards = REWARDS[drawn_texts()]
    visits = select("rejection", rewards, row_seeds(NUM_ROWS), beta=1.0, num_accepted=1).num_visits
    assert 1 / visits.mean() == pytest.approx(0.378031, abs=0.005)


def test_a_rejected_candidate_stays_and_is_retried() -> None:
    """r=(0,1), beta=1, k=2: the first pass takes both with probability 1/e, else the second takes the rest."""
    rows = np.tile([0.0, 1.0], (NUM_ROWS, 1))
    found = outcomes(select("rejection", rows, row_seeds(NUM_ROWS), beta=1.0, num_accepted=2, shuffle=False))
    assert set(found) == {(1, 2, 0, 1), (2, 3, 1, 0)}
    once = found.count((1, 2, 0, 1))
    assert surprise([once, NUM_ROWS - once], [np.exp(-1), 1 - np.exp(-1)]) < LIMIT


SIX = np.random.default_rng(4).normal(size=6)


@pytest.mark.parametrize("maximum", ["pass", "acceptance"])
@pytest.mark.parametrize("beta", [0, 0.05, 0.5, 5.0])
@pytest.mark.parametrize("num_accepted", [1, 3, 6])
@pytest.mark.parametrize("rewards", [SIX, np.array([0.0, 1.0, 1.0, 0.0, 2.0])], ids=["distinct", "ties"])
def test_accepted_rounds_and_visits_together_have_the_law_of_the_plain_loop(
    rewards: np.ndarray, beta: float, num_accepted: int, maximum: str
) -> None:
    settings = {"beta": beta, "num_accepted": num_accepted, "maximum": maximum}
    random = Random(7)
    loop = [plain_selection(rewards.tolist(), random, **settings) for _ in range(4_000)]
    rows = np.tile(rewards, (NUM_ROWS, 1))
    ours = outcomes(select("rejection", rows, row_seeds(NUM_ROWS), **settings))
    assert difference(ours, [(c.num_rounds, c.num_visits, *c.accepted) for c in loop]) < LIMIT


@pytest.mark.parametrize("maximum", ["pass", "acceptance"])
@pytest.mark.parametrize("beta", [0.05, 0.5, 5.0])
def test_eight_of_64_have_the_law_of_the_plain_loop(beta: float, maximum: str) -> None:
    """At the paper's size, where outcomes are too many to count: their ranks, rounds and visits."""
    rewards = np.random.default_rng(2).normal(size=64)
    ranks = np.argsort(np.argsort(-rewards))
    settings = {"beta": beta, "num_accepted": 8, "maximum": maximum}
    random = Random(3)
    loop = [plain_selection(rewards.tolist(), random, **settings) for _ in range(4_000)]
    ours = select("rejection", np.tile(rewards, (NUM_ROWS, 1)), row_seeds(NUM_ROWS), **settings)
    accepted = ours.accepted.reshape(NUM_ROWS, 8)
    for place in (0, 3, 7):
        plain = [ranks[c.accepted[place]] for c in loop]
        assert difference(ranks[accepted[:, place]].tolist(), plain) < LIMIT
    assert difference(ours.num_rounds.tolist(), [c.num_rounds for c in loop]) < LIMIT
    assert difference((ours.num_visits // 10).tolist(), [c.num_visits // 10 for c in loop]) < LIMIT


@pytest.mark.parametrize("maximum", ["pass", "acceptance"])
def test_keyed_by_text_the_law_is_that_of_the_printed_dictionary(maximum: str) -> None:
    """Copies of a text with other rewards: the place is the first's, the reward the last's."""
    texts, rewards = np.array([0, 1, 0, 2, 1, 3, 0]), np.array([5.0, -1.0, 0.2, 0.9, 0.5, 1.1, 0.0])
    settings = {"beta": 0.7, "num_accepted": 3, "maximum": maximum}
    random = Random(1)
    loop = [tuple(plain_text_keyed(texts, rewards, random, **settings)) for _ in range(10_000)]
    keys = np.tile(texts, (NUM_ROWS, 1))
    rows = np.tile(rewards, (NUM_ROWS, 1))
    ours = select(
        "rejection", rows, row_seeds(NUM_ROWS), keys=keys, text_keyed=True, shuffle=False, **settings
    )
    assert set(ours.accepted.tolist()) == {0, 1, 3, 5}  # each text by its first copy
    assert difference(map(tuple, texts[ours.accepted].reshape(-1, 3).tolist()), loop) < LIMIT


@pytest.mark.parametrize("maximum", ["pass", "acceptance"])
@pytest.mark.parametrize("beta", [0, 0.3, 5.0])
def test_with_copies_accepted_rounds_and_visits_have_the_law_of_the_plain_loop(
    beta: float, maximum: str
) -> None:
    texts, rewards = np.array([0, 1, 0, 2, 1, 0, 3]), np.array([0.5, -1.0, 0.5, 0.9, -1.0, 0.5, 0.2])
    settings = {"beta": beta, "num_accepted": 3, "maximum": maximum}
    random = Random(5)
    loop = [plain_selection(rewards.tolist(), random, texts=texts.tolist(), **settings) for _ in range(6_000)]
    rows, keys = np.tile(rewards, (NUM_ROWS, 1)), np.tile(texts, (NUM_ROWS, 1))
    ours = outcomes(select("rejection", rows, row_seeds(NUM_ROWS), keys=keys, **settings))
    assert difference(ours, [(c.num_rounds, c.num_visits, *c.accepted) for c in loop]) < LIMIT


def test_the_second_accepted_text_follows_pi_r_without_the_first() -> None:
    """Theorem 1's later samples, pi_r(y) / (1 - pi_r(A)), from 64 draws of three texts in which copies count."""
    texts = drawn_texts()
    found = select("rejection", REWARDS[texts], row_seeds(NUM_ROWS), keys=texts, beta=1.0, num_accepted=2)
    first, second = texts[np.arange(NUM_ROWS)[:, None], found.accepted.reshape(-1, 2)].T
    assert (first != second).all()
    for given in range(3):
        others = [text for text in range(3) if text != given]
        counts = np.bincount(second[first == given], minlength=3)
        expected = PI_R[others] / (1 - PI_R[given])
        assert counts[given] == 0
        assert counts[others] / counts.sum() == pytest.approx(expected, abs=0.03)


def removes_the_rejected(rewards: list[float], random: Random, num_accepted: int) -> tuple[int, ...]:
    """Faulty: after a pass those accepted are visited again, those rejected are gone."""
    remaining, accepted = list(range(len(rewards))), []
    while len(accepted) < num_accepted:
        random.shuffle(remaining)
        best = max(rewards[i] for i in remaining)
        remaining = [i for i in remaining if random.random() < np.exp(rewards[i] - best)]
        accepted += remaining
    return tuple(accepted[:num_accepted])


def test_the_comparison_finds_that_the_rejected_were_removed() -> None:
    random, rewards = Random(0), SIX.tolist()
    faulty = [removes_the_rejected(rewards, random, 3) for _ in range(4_000)]
    right = [tuple(plain_selection(rewards, random, beta=1.0, num_accepted=3)[0]) for _ in range(4_000)]
    assert difference(faulty, right) > 2 * LIMIT
    assert any(len(set(accepted)) < 3 for accepted in faulty)


def test_the_comparison_finds_the_other_maximum() -> None:
    random, rewards = Random(0), SIX.tolist()
    by_pass, by_acceptance = (
        [plain_selection(rewards, random, beta=0.3, num_accepted=3, maximum=maximum) for _ in range(4_000)]
        for maximum in ("pass", "acceptance")
    )
    assert difference([c.num_rounds for c in by_pass], [c.num_rounds for c in by_acceptance]) > 5 * LIMIT


def test_the_comparison_finds_one_seed_for_all_prompts() -> None:
    rows = np.tile(REWARDS, (NUM_ROWS, 1))
    law = first_in_random_order(np.exp(REWARDS - 2))
    same = select("rejection", rows, np.full(NUM_ROWS, 5), beta=1.0, num_accepted=1).accepted
    assert surprise(np.bincount(same, minlength=3), law) > 2 * LIMIT


def test_the_comparison_finds_candidates_keyed_by_text() -> None:
    """Where copies are kept, pi_r; the dictionary's law is far from it."""
    texts = drawn_texts()
    rule = {"beta": 1.0, "num_accepted": 1, "text_keyed": True}
    first = select("rejection", REWARDS[texts], row_seeds(NUM_ROWS), keys=texts, **rule).accepted
    counts = np.bincount(texts[np.arange(NUM_ROWS), first], minlength=3)
    assert surprise(counts, PI_R) > 2 * LIMIT
