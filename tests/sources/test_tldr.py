"""The published comparisons of Reddit summaries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayflow.config import PromptSource
from rayflow.core.rows import Failure
from rayflow.sources.base import RowError
from rayflow.sources.read import read
from rayflow.sources.tldr import Tldr

ROW = {
    "info": {"id": "t3_1", "post": "It rained.\n\nAll day.", "title": "A day out", "subreddit": "weather"},
    "summaries": [
        {"text": " Rain, all day. ", "policy": "sup4", "note": "Was it wet?"},
        {"text": "It was fine.", "policy": "ref", "note": None},
    ],
    "choice": 0,
    "worker": "w",
    "batch": "batch3",
    "split": "train",
    "extra": {"confidence": 8},
}
PROMPT = "SUBREDDIT: r/weather\n\nTITLE: A day out\n\nPOST: It rained.\n\nAll day.\n\nTL;DR:"


def layout(**settings: object) -> Tldr:
    return Tldr(Tldr.Config(**settings))


@pytest.mark.parametrize(
    ("choice", "responses"),
    [(0, (" Rain, all day.", " It was fine.")), (1, (" It was fine.", " Rain, all day."))],
)
def test_the_choice_names_the_chosen_summary(choice: int, responses: tuple[str, str]) -> None:
    made = layout().example({**ROW, "choice": choice})
    assert (made.prompt, made.responses) == (PROMPT, responses)
    assert made.pairs[0].tolist() == [0, 1]


def test_opposite_choices_of_two_workers_are_two_rows() -> None:
    first, second = (layout().example({**ROW, "choice": choice}) for choice in (0, 1))
    assert first.prompt_id != second.prompt_id


def test_for_a_chat_model_the_post_is_a_users_turn() -> None:
    made = layout(chat=True).example(ROW)
    assert made.messages == ({"role": "user", "content": PROMPT},)
    assert made.responses == ("Rain, all day.", "It was fine.")


def test_rows_of_another_split_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "batch3.json"
    path.write_text("".join(json.dumps({**ROW, "split": split}) + "\n" for split in ("valid1", "train")))
    out, row = read(PromptSource(path=str(path), layout={"kind": "tldr", "split": "train"}))
    assert isinstance(out, Failure) and out.reason == "another split" and "'valid1'" in out.detail
    assert row.prompt == PROMPT


NEWS = {"id": "1", "site": "cnn", "title": "News", "article": "It happened."}


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"info": NEWS}, "missing key", "needs 'subreddit', has id, site, title, article"),
        ({"info": "text"}, "wrong type", "'info' must be an object"),
        ({"info": {**ROW["info"], "post": 3}}, "wrong type", "'info.post' must be text"),
        ({"summaries": ROW["summaries"][:1]}, "wrong type", "a list of two"),
        ({"summaries": ["a", "b"]}, "wrong type", "an object with a 'text'"),
        ({"summaries": [{"text": "a"}, {"policy": "ref"}]}, "missing key", "needs 'text'"),
        ({"choice": 2}, "wrong type", "0 or 1, is 2"),
        ({"choice": True}, "wrong type", "0 or 1, is True"),
        ({"choice": None}, "missing key", "needs 'choice'"),
    ],
)
def test_a_row_that_is_no_comparison_says_why(change: dict, reason: str, words: str) -> None:
    with pytest.raises(RowError, match=words) as caught:
        layout().example({**ROW, **change})
    assert caught.value.reason == reason
