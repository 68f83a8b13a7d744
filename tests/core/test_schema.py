"""Records to Arrow and back: nothing lost, whatever the slice, the chunks or the missing rows."""

from __future__ import annotations

import io
from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayflow.core import evaluation_rows, given_rows, rows
from rayflow.core.schema import amend, from_table, join, schema_of, to_table

RECORDS = [
    value
    for module in (rows, given_rows, evaluation_rows)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, rows.Row) and value.__module__ == module.__name__
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)  # surrogates are not text in UTF-8
FLOATS = st.floats(width=32, allow_nan=False)


def arrays(dtype, elements):
    return st.lists(elements, max_size=4).map(lambda values: np.array(values, dtype=dtype))


INTS = arrays(np.int32, st.integers(-(2**31), 2**31 - 1))
SINGLE = arrays(np.float32, FLOATS)
DOUBLE = arrays(np.float64, st.floats(allow_nan=False))
MESSAGE = st.fixed_dictionaries({"role": TEXT, "content": TEXT})
VALUES = {
    "prompt_id": TEXT,
    "prompt": st.none() | TEXT,
    "target": st.none() | TEXT,
    "messages": st.lists(MESSAGE, max_size=2).map(tuple),
    "prompt_token_ids": INTS,
    "target_token_ids": INTS,
    "responses": st.lists(TEXT, max_size=3).map(tuple),
    "token_ids": st.lists(INTS, max_size=3).map(tuple),
    "logprobs": SINGLE,
    "finish_reasons": st.lists(st.sampled_from(["stop", "length"]), max_size=3).map(tuple),
    "seed": st.integers(0, 2**62),
    "rewards": DOUBLE,
    "accepted": INTS,
    "num_rounds": st.integers(0, 9),
    "pairs": st.lists(INTS, max_size=3).map(tuple),
    "margins": DOUBLE,
    "label_source": st.sampled_from(["reward", "ranker"]),
    "component_rewards": st.lists(DOUBLE, max_size=3).map(tuple),
    "variances": DOUBLE,
    "policy_rewards": DOUBLE,
    "baseline_rewards": DOUBLE,
    "preferred": DOUBLE,
    "ref_logprobs": SINGLE,
    "sampler_differences": SINGLE,
    "letters": INTS,
    "shown_first": SINGLE,
    "shown_second": SINGLE,
    "exact_logprobs": SINGLE,
    "num_items": st.integers(0, 9),
    "judge_answers": st.lists(TEXT, max_size=3).map(tuple),
    "judge_swapped": INTS,
    "judge_verdicts": DOUBLE,
    "comparison_token_ids": st.lists(INTS, max_size=3).map(tuple),
    "scores": DOUBLE,
    "num_tokens": INTS,
}


def records_of(record):
    drawn = {f.name: VALUES.get(f.name, st.floats(allow_nan=False)) for f in fields(record)}
    return st.lists(st.builds(record, **drawn), max_size=5)


def assert_equal(left, right):
    assert type(left) is type(right)
    for field in fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.tolist()) == (b.dtype, b.tolist()), field.name
        elif isinstance(a, tuple) and any(isinstance(item, np.ndarray) for item in a):
            assert [(x.dtype, x.tolist()) for x in a] == [(x.dtype, x.tolist()) for x in b], field.name
        else:
            assert (type(a), a) == (type(b), b), field.name


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_every_record_and_view_comes_back_as_it_went(record, data):
    written = data.draw(records_of(record))
    table = to_table(written, record)
    assert table.schema == schema_of(record)
    cut = data.draw(st.integers(0, len(written)))
    stored = io.BytesIO()
    pq.write_table(table, stored)
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    for read in (table, chunked, pq.read_table(stored)):
        for before, after in zip(written, from_table(read, record), strict=True):
            assert_equal(before, after)
    for before, after in zip(written[cut:], from_table(table.slice(cut), record), strict=True):
        assert_equal(before, after)


def candidates(prompt_id="a", **changes):
    return replace(
        rows.Candidates(
            prompt_id=prompt_id,
            prompt_token_ids=np.array([1, 2], np.int32),
            responses=("x", "yy"),
            token_ids=(np.array([5], np.int32), np.array([6, 7], np.int32)),
            logprobs=np.array([-1.5, -2.5], np.float32),
            finish_reasons=("stop", "length"),
            seed=1,
        ),
        **changes,
    )


def test_another_numpy_dtype_is_stored_as_the_columns_own():
    loose = candidates(
        prompt_token_ids=np.array([1, 2], np.int64),
        token_ids=(np.array([5], np.int64), np.array([6, 7], np.uint16)),
        logprobs=np.array([-1.5, -2.5], np.float64),
        seed=np.int64(1),
    )
    (back,) = from_table(to_table([loose], rows.Candidates), rows.Candidates)
    assert_equal(back, candidates())


def test_arrays_come_back_as_views_not_copies():
    table = to_table([candidates("a"), candidates("b")], rows.Candidates)
    first, second = from_table(table, rows.Candidates)
    assert first.token_ids[0].base is not None
    assert np.shares_memory(first.logprobs.base, second.logprobs.base)


def test_a_record_reads_its_columns_from_a_wider_table():
    table = to_table([candidates()], rows.Candidates).append_column("extra", pa.array([1]))
    assert_equal(from_table(table, rows.Candidates)[0], candidates())
    with pytest.raises(KeyError, match="rewards"):
        from_table(table, rows.Scores)


def test_scores_that_the_data_lacks_are_stored_as_nan():
    given = given_rows.Example(
        prompt_id="a",
        prompt="x",
        messages=(),
        target=None,
        responses=("y", "z"),
        pairs=(np.array([1, 0], np.int32),),
        rewards=np.array([np.nan, 2.0]),
    )
    (back,) = from_table(to_table([given], given_rows.Example), given_rows.Example)
    np.testing.assert_array_equal(back.rewards, given.rewards)
    assert back.pairs[0].tolist() == [1, 0]


def scores(*ids):
    return to_table([rows.Scores(prompt_id=i, rewards=np.array([float(ord(i))])) for i in ids], rows.Scores)


def references(*ids):
    def one(name):
        return np.array([float(ord(name))], np.float32)

    made = [rows.Reference(prompt_id=i, ref_logprobs=-one(i), sampler_differences=one(i)) for i in ids]
    return to_table(made, rows.Reference)


def joined(*tables):
    table = join(tables)
    read = zip(from_table(table, rows.Scores), from_table(table, rows.Reference), strict=True)
    for score, reference in read:  # every row is made of its own parts
        assert score.rewards[0] == -reference.ref_logprobs[0] == ord(score.prompt_id)
    return "".join(table.column("prompt_id").to_pylist())


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("abcd", "abcd", "abcd"),
        ("abcd", "bd", "bd"),
        ("bd", "abcd", "bd"),
        ("abc", "bcd", "bc"),
        ("abcd", "dbca", "dbca"),
        ("ab", "cd", ""),
        ("", "", ""),
        ("ab", "", ""),
    ],
)
def test_a_join_keeps_the_rows_that_all_have_in_the_order_of_the_last(first, last, expected):
    assert joined(scores(*first), references(*last)) == expected


def test_a_join_of_identical_rows_copies_no_column():
    table = scores("a", "b", "c")
    merged = join([table, references("a", "b", "c")])
    assert merged.column("rewards").chunk(0).values.buffers()[1].address == (
        table.column("rewards").chunk(0).values.buffers()[1].address
    )


def test_one_table_joins_to_itself():
    assert join([scores("a", "b")]).equals(scores("a", "b"))


@given(st.permutations("abcdef"), st.permutations("abcdef"), st.integers(0, 6), st.integers(0, 6))
def test_a_join_of_any_two_orders_and_losses_never_mixes_rows(first, last, m, n):
    expected = "".join(key for key in last[:n] if key in first[:m])
    assert joined(scores(*first[:m]), references(*last[:n])) == expected


def test_an_empty_list_of_another_dtype_changes_nothing_about_the_others():
    empty = candidates("b", token_ids=(), responses=(), logprobs=np.empty(0), finish_reasons=())
    both = from_table(to_table([candidates(), empty], rows.Candidates), rows.Candidates)
    assert_equal(both[0], candidates())
    assert both[1].logprobs.dtype == np.float32 and both[1].token_ids == ()
    with pytest.raises(pa.ArrowInvalid):  # never wrapped around in silence
        to_table([candidates(prompt_token_ids=np.array([2**40]))], rows.Candidates)


def test_newer_rows_take_the_place_of_those_with_their_id():
    def table(*pairs):
        return pa.table({"prompt_id": [key for key, _ in pairs], "rewards": [[value] for _, value in pairs]})

    old, new = table(("a", 1.0), ("b", 2.0), ("c", 3.0)), table(("c", 30.0), ("a", 10.0))
    assert amend(old, new).to_pydict() == table(("a", 10.0), ("b", 2.0), ("c", 30.0)).to_pydict()
    assert amend(old, table().cast(old.schema)) is old
