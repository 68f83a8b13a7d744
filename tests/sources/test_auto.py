"""The layout that is found by itself, and what every layout must hold to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config import PromptSource
from rayflow.core.given_rows import Example
from rayflow.core.registry import FAMILIES, resolve
from rayflow.core.rows import Failure
from rayflow.sources.auto import detect
from rayflow.sources.base import RowError
from rayflow.sources.read import read
from tests.sources.test_groups import RANKED_ROW, ULTRA_ROW
from tests.sources.test_hh import ROW as HH_ROW
from tests.sources.test_pair_groups import ROW as GROUPS_ROW
from tests.sources.test_tldr import ROW as TLDR_ROW

ROWS = {
    "hh": HH_ROW,
    "tldr": TLDR_ROW,
    "ultrafeedback": ULTRA_ROW,
    "groups": GROUPS_ROW,
    "ranked": RANKED_ROW,
    "trl": {"prompt": "Sky?", "chosen": "blue", "rejected": "green"},
    "prompts": {"prompt": "Sky?", "target": "blue"},
}


def test_there_is_a_row_for_every_layout() -> None:
    assert {*ROWS, "auto"} == set(FAMILIES["layout"])


@pytest.mark.parametrize("kind", ROWS)
def test_the_keys_of_a_row_tell_its_layout(kind: str) -> None:
    assert type(detect(ROWS[kind])) is resolve("layout", kind)


@pytest.mark.parametrize("kind", ROWS)
def test_parquet_and_json_lines_give_the_same_example_found_or_named(kind: str, tmp_path: Path) -> None:
    lines, table = tmp_path / "a.jsonl", tmp_path / "a.parquet"
    lines.write_text(json.dumps(ROWS[kind]) + "\n")
    pq.write_table(pa.Table.from_pylist([ROWS[kind]]), table)
    found = [
        next(read(PromptSource(path=str(path), layout=layout)))
        for path in (lines, table)
        for layout in ("auto", kind)
    ]
    assert all(isinstance(row, Example) for row in found)
    assert len({(row.prompt_id, row.prompt, row.responses, row.target) for row in found}) == 1
    for row in found[1:]:
        np.testing.assert_array_equal(row.rewards, found[0].rewards)
        np.testing.assert_array_equal(row.pairs, found[0].pairs)


def test_a_layout_once_found_holds_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ({"id": 1}, ROWS["trl"], ROWS["prompts"])))
    first, pair, other = read(PromptSource(path=str(path)))
    assert first.reason == "unknown layout" and isinstance(pair, Example)
    assert isinstance(other, Failure) and "needs 'chosen'" in other.detail


def test_an_unknown_layout_says_what_each_one_wants() -> None:
    with pytest.raises(RowError) as caught:
        detect({"promt": "a", "id": 1})
    message = str(caught.value)
    assert message.startswith("has promt, id (is 'prompt' misspelt?), which fits no layout. They want hh: ")
    for kind in ROWS:
        assert f"{kind}: {resolve('layout', kind).wants}" in message


TURNS = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"question": "1 + 1?", "answer": "2"},
            "rename 'question' to 'prompt' and 'answer' to 'target', such as by ",
        ),
        ({"question": "1 + 1?", "answer": 2}, "rename 'question' to 'prompt', such as by rename_columns"),
        (
            {"instruction": "Add.", "input": "1, 1", "output": "2"},
            "rename 'instruction' to 'prompt' and 'output' to 'target', such as by rename_columns("
            '{"instruction": "prompt", "output": "target"}) of the package datasets; put the text of \'input\'',
        ),
        ({"conversations": TURNS}, "each turn's 'from' as 'role' (human is user, gpt is assistant)"),
        ({"conversations": [{"role": "user", "content": "Hi"}]}, "rename 'conversations' to 'messages'"),
        (
            {"text": "Once upon a time"},
            "cut each 'text' into 'prompt' and 'target', or rename 'text' to 'prompt'",
        ),
    ],
)
def test_a_well_known_form_is_told_what_to_rename(row: dict, said: str) -> None:
    with pytest.raises(RowError) as caught:
        detect(row)
    assert str(caught.value).startswith(f"has {', '.join(row)}, which fits no layout: ")
    assert said in str(caught.value) and "They want" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "text", "title", "post", "subreddit"]), inner)
    ),
    max_leaves=6,
)
KEYS = ["prompt", "messages", "target", "completion", "chosen", "rejected", "score_chosen", "responses"]
KEYS += ["scores", "info", "summaries", "choice"]


@pytest.mark.parametrize("kind", FAMILIES["layout"])
@given(row=st.dictionaries(st.sampled_from(KEYS), JSON), data=st.data())
def test_whatever_a_row_holds_it_is_an_example_or_a_reason(kind: str, row: dict, data: st.DataObject) -> None:
    """A good row with any of its values replaced by any JSON value."""
    base = data.draw(st.sampled_from([{}, ROWS.get(kind, ROWS["trl"])]))
    layout = resolve("layout", kind)
    try:
        made = layout(layout.Config()).example({**base, **row})
    except RowError as error:
        assert error.reason and str(error)
    else:
        json.dumps([made.prompt, made.messages, made.responses, made.target], ensure_ascii=False).encode()
        assert len(made.rewards) == len(made.responses)
        assert all(0 <= i < len(made.responses) for pair in made.pairs for i in pair)
