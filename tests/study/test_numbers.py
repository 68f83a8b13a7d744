"""A study's numbers against values worked out by hand: intervals, rows, differences, the paper's order, tables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rayflow.errors import DataError
from rayflow.study.comparison import Column, compare, difference
from rayflow.study.intervals import interval
from rayflow.study.page import page
from rayflow.study.results import summarise
from rayflow.study.tables import make_table, markdown, sweep_table
from tests.study import example

T2 = 4.302653  # Student's 97.5% quantile at 2 degrees of freedom


@pytest.mark.parametrize(
    "shares, mean, variance",
    [
        ([[0.0, 0.5, 1.0], [0.5, 0.5, 0.5]], 0.5, 0.0625 / 3),  # the seeds agree: prompts alone
        ([[0.2, 0.2], [0.4, 0.4], [0.6, 0.6]], 0.4, 0.04 / 3),  # the prompts agree: seeds alone
        ([[0.0, 0.2], [0.2, 0.4]], 0.2, 0.01 + 0.01),  # both, one degree of freedom each
        ([[0.0, 0.5, 1.0]], 0.5, 0.25 / 3),  # one seed: prompts alone
    ],
)
def test_an_interval_adds_the_variance_over_prompts_and_over_seeds(shares, mean, variance):
    found = interval(np.array(shares))
    half = T2 * math.sqrt(variance)
    assert found.freedom == pytest.approx(2)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half), abs=1e-6)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    generator, seeds, prompts, covered = np.random.default_rng(7), 3, 40, 0
    for _ in range(400):
        shares = 0.5 + generator.normal(0, 0.2, (1, prompts)) + generator.normal(0, 0.04, (seeds, 1))
        shares = shares + generator.normal(0, 0.1, (seeds, prompts))
        found = interval(shares)
        covered += found.low <= 0.5 <= found.high
    assert 0.93 <= covered / 400 <= 0.995


def test_values_that_are_all_equal_are_a_point_that_proves_nothing():
    found = interval(np.full((2, 3), 0.7))
    assert (found.low, found.high) == pytest.approx((0.7, 0.7)) and found.p_value == 1


def test_a_row_is_the_mean_over_its_seeds_and_the_prompts_that_all_of_them_have():
    one = example.result("rso", 1, [0.0, 0.5, 1.0, 0.9], kl=1.0, cut=0.1, policy_tokens=10.0, margin=0.2)
    other = example.result("rso", 2, [0.5, 0.5, 0.5], kl=3.0, cut=0.3, policy_tokens=20.0, margin=0.4)
    row = summarise([one, other])
    assert row.seeds == (1, 2)
    assert row.shares["gold"] == {"p0": (0.0, 0.5), "p1": (0.5, 0.5), "p2": (1.0, 0.5)}
    assert row.seed_wins["gold"] == pytest.approx((0.5, 0.5))
    won = row.wins["gold"]
    assert won.mean == pytest.approx(0.5) and won.error == pytest.approx(math.sqrt(0.0625 / 3))
    assert (won.low, won.high) == (0.0, 1.0)  # 0.5 -+ 0.62 is cut to what a win rate can be
    assert (row.kl, row.cut, row.policy_tokens, row.margin) == pytest.approx((2.0, 0.2, 15.0, 0.3))


def test_a_row_without_a_common_prompt_is_an_error_that_names_it():
    one, other = example.result("rso", 1, [0.5]), example.result("rso", 2, [])
    with pytest.raises(DataError, match="Row 'rso' has no prompt"):
        summarise([one, other])


def test_a_difference_is_paired_by_prompt_and_seed():
    first = summarise([example.result("a", 1, [0.2, 0.9, 0.4]), example.result("a", 2, [0.3, 0.8, 0.4])])
    second = summarise([example.result("b", 2, [0.1, 0.5, 0.3]), example.result("b", 3, [0.0, 0.0, 0.0])])
    found = difference(first, second, "gold")  # seed 2 alone: 0.2, 0.3, 0.1
    half = T2 * math.sqrt(0.01 / 3)
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.2 - half, 0.2 + half), abs=1e-6)
    assert difference(first, summarise([example.result("c", 3, [0.5])]), "gold") is None


def rows_of_three():
    """Rows a, b and c of one seed; differences b - a, b - c, c - a have means 0.2, 0.19 and 0.01."""
    base = np.full(5, 0.5)
    b, c = base + [0.1, 0.2, 0.3, 0.2, 0.2], base + [0.1, -0.1, 0.1, -0.1, 0.05]
    return {
        name: summarise([example.result(name, 1, shares)])
        for name, shares in zip("abc", (base, b, c), strict=True)
    }


def test_the_papers_order_is_compared_pair_by_pair_and_adjusted_for_all_of_them():
    paper = {"a": 90.0, "b": 80.0, "c": 70.0, "not measured": 60.0}
    found = compare(rows_of_three(), {name: Column(name, paper) for name in ("gold", "gold again")})
    # Two columns that ask the same three questions: adjusted for three, not for six.
    p_values = {(o.better, o.worse): o.p_value for o in found["gold again"].orders}
    # At 4 degrees of freedom P(|T| > t) = 1 - s (1 + (1 - s^2) / 2), s^2 = t^2 / (4 + t^2); t^2 = 40 and 11.645.
    assert p_values["a", "b"] == pytest.approx(3 * 0.0031982, abs=1e-6)
    assert p_values["b", "c"] == pytest.approx(2 * 0.026966, abs=1e-5)  # below 0.05 alone, not among three
    one = found["gold"]
    assert [(o.better, o.worse, o.is_sure) for o in one.disagreements] == [
        ("a", "b", True),
        ("a", "c", False),
    ]
    assert (len(one.orders), one.num_agreeing, one.num_sure) == (3, 1, 1)


def test_nothing_is_sure_of_one_seed_where_there_are_to_be_several():
    """The interval of one seed knows nothing of the variance over seeds."""
    rows, columns = rows_of_three(), {"gold": Column("gold", {"a": 90.0, "b": 80.0})}
    (order,) = compare(rows, columns)["gold"].orders
    assert order.is_sure
    (order,) = compare(rows, columns, num_seeds=3)["gold"].orders
    assert not order.is_sure and order.difference.mean == pytest.approx(-0.2)


def test_a_column_of_the_proxy_is_compared_with_the_proxy_and_equal_numbers_order_nothing():
    rows = {
        "a": summarise([example.result("a", 1, [0.9, 0.8], proxy=[0.1, 0.2])]),
        "b": summarise([example.result("b", 1, [0.5, 0.5])]),
    }
    columns = {"HH, proxy": {"a": 2.0, "b": 1.0}, "gold": {"a": 2.0, "b": 1.0}, "even": {"a": 1, "b": 1}}
    found = compare(rows, {name: Column(name, paper) for name, paper in columns.items()})
    assert [len(each.disagreements) for each in found.values()] == [1, 0]
    assert set(found) == {"HH, proxy", "gold"}


def test_the_column_alone_says_which_reward_it_is_and_no_table_hides_anothers():
    table = example.CONFIG["tables"]["table1"]
    both = table | {"title": "Gold and proxy", "paper": table["paper"]}
    tables = {"a": both, "b": both | {"paper": {"gold": {"direct": 1, "sft": 2}}}, "c": table}
    found = example.made_up(example.CONFIG | {"tables": tables})
    rewards = {
        heading: {order.reward for order in each.orders} for heading, each in found.comparisons.items()
    }
    assert rewards == {
        "Gold and proxy (a): gold": {"gold"},
        "Gold and proxy (a): proxy": {"proxy"},
        "Gold and proxy (b): gold": {"gold"},
        "Table 1: gold": {"gold"},
        "Table 1: proxy": {"proxy"},
    }
    assert "Gold and proxy (b): gold: of 1 pair" in page(found)


def test_a_table_shows_ours_beside_the_papers():
    found = example.made_up()
    table = make_table(found.config.tables["table1"], found.config, found.rows, found.pairs)
    assert table.paper is not None
    cells = [cell.in_line for cell in dict(table.measured.rows)["DPO, direct"]]
    # Prompts 0.0065104 with 3 degrees of freedom, seeds 0.0039063 with 1: error 0.10206, 3.69 together, t = 2.87.
    assert dict(zip(table.measured.headings, cells, strict=True)) == {
        "proxy win rate": "43.8% [14.5, 73.0]",
        "gold win rate": "43.8% [14.5, 73.0]",
        "gold, equal length": "50.0%",
        "gold reward gain": "0.250",
        "tokens, trained / SFT": "20.0 / 18.0",
        "cut": "12%",
        "KL (nats)": "1.50",
        "pairs": "–",
        "gold agrees": "–",
    }
    beside = [cell.in_line for cell in dict(table.paper.rows)["DPO, direct"]]
    assert dict(zip(table.paper.headings, beside, strict=True)) == {
        "paper: gold": "76.09%",
        "paper: proxy": "84.35%",
        "here: proxy": "43.8% [14.5, 73.0]",
        "here: gold": "43.8% [14.5, 73.0]",
    }
    assert [title for title, _ in table.paper.rows] == ["DPO, direct", "DPO, sft-sample-rank", "RSO"]
    agreement = {title: [cell.text for cell in cells[7:]] for title, cells in table.measured.rows}
    assert agreement["RSO"] == ["1,096", "58%"] and agreement["DPO, sft-sample-rank"] == ["96", "–"]
    assert {cell.in_line for cell in dict(table.measured.rows)["Not run yet"]} == {"–"}
    text = markdown([table])
    assert text.startswith("## Table 1\n\nMade up.\n") and text.count("\n| ") == 9
    assert "paper: gold" in text and "| DPO, direct | 43.8% [" in text


def test_a_sweeps_table_has_its_values_in_order_and_the_rows_own_among_them():
    found = example.made_up()
    table = sweep_table("gamma", found.config, found.rows, found.pairs)
    assert [title for title, _ in table.measured.rows] == ["RSO, gamma 0.05", "RSO", "RSO, gamma 5"]
    assert [cells[1].text for _, cells in table.measured.rows] == ["–", "59.4%", "56.2%"]
    assert table.paper is None
