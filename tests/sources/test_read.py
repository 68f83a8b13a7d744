"""From raw rows to records: what names a row, what is dropped, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rayflow.config import PromptSource
from rayflow.core.given_rows import Example
from rayflow.core.ids import prompt_id
from rayflow.core.rows import Failure, Prompt
from rayflow.sources.read import read, read_answers

SKY, BLUE, GREEN = (
    {"role": role, "content": content}
    for role, content in (("user", "Sky?"), ("assistant", "blue"), ("assistant", "green"))
)
PAIR = {"prompt": "Sky?", "chosen": "blue", "rejected": "green"}


def source(path: Path, rows: list, **settings: object) -> PromptSource:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return PromptSource(path=str(path), **settings)


def test_a_prompt_that_came_before_is_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n\n{"messages": [{"role": "user", "content": "a"}]}\n{"prompt": "a"}\n')
    plain, chat, again = read(PromptSource(path=str(path)), Prompt)
    assert type(plain) is type(chat) is Prompt and plain.prompt_id != chat.prompt_id
    assert again == Failure(prompt_id=plain.prompt_id, reason="duplicate prompt", detail=f"{path}, row 3")


def test_every_pair_of_a_prompt_is_a_row_and_only_exact_repeats_are_dropped(tmp_path: Path) -> None:
    turned = {**PAIR, "chosen": "green", "rejected": "blue"}
    rows = [PAIR, turned, {**PAIR, "rejected": "red"}, PAIR]
    *kept, last = read(source(tmp_path / "p.jsonl", rows))
    assert [row.responses for row in kept] == [("blue", "green"), ("green", "blue"), ("blue", "red")]
    assert all(type(row) is Example and row.pairs[0].tolist() == [0, 1] for row in kept)
    assert last.reason == "duplicate example" and last.prompt_id == kept[0].prompt_id


GROUP = {"prompt": "Sky?", "responses": ["blue", "green", "grey"]}
SCORED = {**PAIR, "score_chosen": 2, "score_rejected": 1.0}


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ({**GROUP, "pairs": [[0, 1]]}, {**GROUP, "pairs": [[2, 1]]}),
        ({**GROUP, "pairs": [[2, 1], [0, 1]]}, {**GROUP, "pairs": [[2, 1]]}),
        ({**GROUP, "pairs": []}, {**GROUP, "pairs": [[0, 1]]}),
        ({**GROUP, "scores": [3, 2, 1]}, {**GROUP, "scores": [1, 2, 3]}),
        (GROUP, {**GROUP, "scores": [3, None, 1]}),
        (PAIR, SCORED),
        (SCORED, {**SCORED, "score_chosen": 3}),
    ],
)
def test_other_labels_of_the_same_responses_are_another_row(tmp_path: Path, first: dict, other: dict) -> None:
    """The first keeps the id that it has without them: stored runs know it by that."""
    one, two, *again = read(source(tmp_path / "p.jsonl", [first, other, first, other]))
    assert one.responses == two.responses and one.prompt_id != two.prompt_id
    assert one.prompt_id == prompt_id("Sky?", (), one.responses)
    assert [row.reason for row in again] == ["duplicate example"] * 2


def test_labels_that_say_the_same_are_repeats(tmp_path: Path) -> None:
    pairs = {**GROUP, "pairs": [[2, 1], [0, 1]], "scores": [1, 0, None]}
    turned = {**GROUP, "pairs": [[0, 1], [2, 1]], "scores": [1.0, -0.0, None]}
    one, again = read(source(tmp_path / "p.jsonl", [pairs, turned]))
    assert one.responses == ("blue", "green", "grey") and again.reason == "duplicate example"


def test_the_same_file_gives_its_prompts_once_where_only_they_are_wanted(tmp_path: Path) -> None:
    rows = [PAIR, {**PAIR, "rejected": "red"}, {**PAIR, "prompt": "Sea?", "rejected": "blue"}]
    first, again, unusable_pair = read(source(tmp_path / "p.jsonl", rows), Prompt)
    assert first == Prompt(prompt_id=prompt_id("Sky?", ()), prompt="Sky?", messages=(), target=None)
    assert again.reason == "duplicate prompt"
    assert unusable_pair.prompt == "Sea?"


def test_answers_are_taken_as_they_stand(tmp_path: Path) -> None:
    """They are to be judged: the second of two like ones counts as much as the first, and an empty one loses."""
    rows = [{"prompt": "Sky?", "completion": text} for text in ("blue", "blue", "")]
    found = read_answers(source(tmp_path / "p.jsonl", rows))
    assert [row.target for row in found] == ["blue", "blue", ""]
    group = {
        "prompt": "Sky?",
        "responses": ["blue", "", "blue"],
        "finish_reasons": ["stop", "stop", "length"],
    }
    (row,) = read_answers(source(tmp_path / "groups.jsonl", [group]))
    assert row.responses == ("blue", "", "blue") and row.cut.tolist() == [False, False, True]
    (refused,) = read_answers(source(tmp_path / "pairs.jsonl", [PAIR]))
    assert refused.reason == "no answer" and "no answers of one policy" in refused.detail


def test_two_targets_of_one_prompt_are_two_examples_and_one_prompt(tmp_path: Path) -> None:
    rows = [{"prompt": "Sky?", "target": "blue"}, {"prompt": "Sky?", "target": "grey"}, {"prompt": "Sky?"}]
    there = source(tmp_path / "p.jsonl", rows)
    assert [row.target for row in read(there)] == ["blue", "grey", None]
    assert [type(row) for row in read(there, Prompt)] == [Prompt, Failure, Failure]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Sky?", "chosen": "blue", "rejected": "green"},
        {"chosen": "Sky? blue", "rejected": "Sky? green"},
        {"prompt": [SKY], "chosen": [BLUE], "rejected": [GREEN]},
        {"chosen": [SKY, BLUE], "rejected": [SKY, GREEN]},
        {"prompt": "Sky?", "chosen": [SKY, BLUE], "rejected": [SKY, GREEN]},
        {"prompt": "Sky?", "responses": ["blue", "green"], "pairs": [[0, 1]]},
        {"prompt": "Sky?", "responses": ["blue", "green"]},
    ],
    ids=["text", "implicit", "chat", "implicit-chat", "ultrafeedback", "groups", "ranked"],
)
def test_a_target_beside_responses_is_kept_and_is_part_of_the_example(tmp_path: Path, row: dict) -> None:
    rows = [row, row | {"target": "azure"}, row | {"target": [BLUE]}, row | {"target": "azure"}]
    *found, repeated = read(source(tmp_path / "p.jsonl", rows))
    assert [each.target for each in found] == [None, "azure", "blue"]
    assert len({each.prompt_id for each in found}) == 3 and isinstance(repeated, Failure)
    assert {each.responses for each in found} in ({("blue", "green")}, {(" blue", " green")})


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({**PAIR, "chosen": " "}, "empty response", "response 0 of 2 is empty"),
        ({**PAIR, "rejected": ""}, "empty response", "response 1 of 2 is empty"),
        ({**PAIR, "rejected": " blue\n"}, "identical responses", "the same text"),
        ({"prompt": "Sky?", "responses": ["a", ""]}, "empty response", "response 1 of 2"),
        ({"prompt": "Sky?", "target": "\n"}, "empty response", "the target is empty"),
        ({**PAIR, "target": ""}, "empty response", "the target is empty"),
        ({**PAIR, "target": 3}, "wrong type", "'target' must be text or a list of messages, is int"),
    ],
)
def test_responses_that_teach_nothing_are_refused(
    tmp_path: Path, row: dict, reason: str, detail: str
) -> None:
    (failure,) = read(source(tmp_path / "p.jsonl", [row]))
    assert (failure.prompt_id, failure.reason) == ("row-1", reason)
    assert failure.detail.startswith(f"{tmp_path}/p.jsonl, row 1: ") and detail in failure.detail


def test_a_refused_row_of_a_folder_names_its_own_file_and_row(tmp_path: Path) -> None:
    source(tmp_path / "a.jsonl", [PAIR])
    source(tmp_path / "b.jsonl", [{**PAIR, "chosen": "sea"}, {**PAIR, "chosen": 7}])
    *_, failure = read(PromptSource(path=str(tmp_path)))
    assert failure.prompt_id == "row-3" and "b.jsonl, row 2: " in failure.detail


def test_the_limit_counts_rows_of_the_file_not_what_became_of_them(tmp_path: Path) -> None:
    found = list(read(source(tmp_path / "p.jsonl", [PAIR, {**PAIR, "chosen": 1}, PAIR, PAIR], limit=3)))
    assert [isinstance(row, Failure) for row in found] == [False, True, True]


def test_a_layout_of_ones_own_plugs_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_layout.py").write_text(
        "from rayflow.core.options import KindOptions\n"
        "from rayflow.errors import DataError\n"
        "from rayflow.sources.fields import group\n"
        "class Votes:\n"
        "    class Config(KindOptions):\n"
        "        question: str = 'question'\n"
        "    def __init__(self, options):\n        self.options = options\n"
        "    def example(self, row):\n"
        "        if not row['votes']:\n            raise DataError('nobody voted')\n"
        "        return group(row[self.options.question], tuple(row['votes']), list(row['votes'].values()))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rows = [{"q": "Sky?", "votes": {"blue": 3, "grey": 1}}, {"q": "Sea?", "votes": {}}]
    layout = {"kind": "their_layout:Votes", "question": "q"}
    row, failure = read(source(tmp_path / "p.jsonl", rows, layout=layout))
    assert row.responses == ("blue", "grey") and row.rewards.tolist() == [3, 1]
    assert failure.reason == "malformed row" and "row 2: nobody voted" in failure.detail


def test_given_scores_are_float64_and_missing_ones_are_nan(tmp_path: Path) -> None:
    rows = [{"prompt": "Sky?", "responses": ["a", "b", "c"], "scores": [1, None, -0.5]}]
    (row,) = read(source(tmp_path / "p.jsonl", rows))
    assert row.rewards.dtype == np.float64
    np.testing.assert_array_equal(row.rewards, [1.0, np.nan, -0.5])
