"""Counter-based random numbers: the published ones, uniform, and independent of anything but seed and counter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.core import draws
from rayflow.core.seeds import derive
from tests.selection.chi_square import LIMIT, surprise

SEEDS = np.array([derive(1, "select", f"p{i}") for i in range(20_000)], np.uint64)
KINDS = {
    "bits": draws.bits,
    "uniform": draws.uniform,
    "gumbel": draws.gumbel,
}


@pytest.mark.parametrize(
    ("seed", "published"),
    [
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]),
        (
            1234567,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821,
            ],
        ),
    ],
)
def test_a_row_is_splitmix64(seed: int, published: list[int]) -> None:
    """The outputs that implementations of SplitMix64 are checked against."""
    assert draws.bits(np.array([seed], np.uint64), len(published))[0].tolist() == published


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8), st.integers(1, 20), st.data())
def test_a_row_is_the_same_alone_and_in_any_batch(kind: str, seeds: list[int], count: int, data) -> None:
    order = data.draw(st.permutations(range(len(seeds))))
    batch = np.array(seeds, np.uint64)
    together = KINDS[kind](batch, count)
    assert np.array_equal(together[order], KINDS[kind](batch[order], count))
    for row, seed in zip(together, batch, strict=True):
        assert np.array_equal(row, KINDS[kind](np.array([seed]), count)[0])


def test_fewer_numbers_are_the_first_ones() -> None:
    assert np.array_equal(draws.bits(SEEDS[:3], 5), draws.bits(SEEDS[:3], 12)[:, :5])


def test_numbers_are_uniform_inside_the_open_interval() -> None:
    numbers = draws.uniform(SEEDS, 20)
    assert numbers.min() > 0 and numbers.max() < 1
    counts = np.bincount((numbers * 1000).astype(int).ravel(), minlength=1000)
    assert surprise(counts, np.full(1000, 1e-3)) < LIMIT


def test_every_bit_is_fair() -> None:
    numbers = draws.bits(SEEDS, 5).ravel()
    ones = [int((numbers >> np.uint64(i) & np.uint64(1)).sum()) for i in range(64)]
    spread = (len(numbers) / 4) ** 0.5
    assert max(abs(count - len(numbers) / 2) for count in ones) < LIMIT * spread


def cells(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Counts of pairs of numbers in [0, 1) on a 32 x 32 grid."""
    return np.bincount((first * 32).astype(int) * 32 + (second * 32).astype(int), minlength=1024)


@pytest.mark.parametrize("gap", [1, 2, 64])
def test_counters_of_a_row_are_independent(gap: int) -> None:
    numbers = draws.uniform(SEEDS, 66)
    assert surprise(cells(numbers[:, 0], numbers[:, gap]), np.full(1024, 1 / 1024)) < LIMIT


@pytest.mark.parametrize("seeds", [SEEDS, np.arange(20_000, dtype=np.uint64)], ids=["derived", "adjacent"])
def test_rows_are_independent(seeds: np.ndarray) -> None:
    numbers = draws.uniform(seeds, 1)[:, 0]
    assert surprise(cells(numbers[:-1], numbers[1:]), np.full(1024, 1 / 1024)) < LIMIT


def test_gumbel_numbers_have_their_law() -> None:
    """P(G <= x) = exp(-exp(-x)), so exp(-exp(-G)) is uniform."""
    numbers = draws.gumbel(SEEDS, 10).ravel()
    counts = np.bincount((np.exp(-np.exp(-numbers)) * 500).astype(int), minlength=500)
    assert np.isfinite(numbers).all()
    assert surprise(counts, np.full(500, 1 / 500)) < LIMIT
