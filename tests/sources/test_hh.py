"""Anthropic's pairs of dialogues: invented ones, and the real file where it is at hand."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from rayflow.config import PromptSource
from rayflow.core.given_rows import Example
from rayflow.core.rows import Failure, Prompt
from rayflow.sources.base import RowError
from rayflow.sources.hh import HelpfulHarmless
from rayflow.sources.read import read

CHAT = HelpfulHarmless(HelpfulHarmless.Config())
PLAIN = HelpfulHarmless(HelpfulHarmless.Config(chat=False))
SHARED = "\n\nHuman: Hello\n\nAssistant: Hi. How are you?\n\nHuman: Tired.\n\nSo tired."
ROW = {"chosen": f"{SHARED}\n\nAssistant: Sleep.", "rejected": f"{SHARED}\n\nAssistant: So what?"}


def test_the_dialogue_becomes_messages_and_a_pair() -> None:
    made = CHAT.example(ROW)
    assert [(m["role"], m["content"]) for m in made.messages] == [
        ("user", "Hello"),
        ("assistant", "Hi. How are you?"),
        ("user", "Tired.\n\nSo tired."),
    ]
    assert made.responses == ("Sleep.", "So what?") and made.pairs[0].tolist() == [0, 1]


def test_plain_text_stays_as_the_file_has_it() -> None:
    made = PLAIN.example(ROW)
    assert made.prompt == f"{SHARED}\n\nAssistant:"
    assert made.prompt + made.responses[0] == ROW["chosen"]
    assert made.prompt + made.responses[1] == ROW["rejected"]


def test_answers_that_begin_alike_are_cut_at_the_turn_not_at_the_difference() -> None:
    row = {"chosen": f"{SHARED}\n\nAssistant: Go to bed.", "rejected": f"{SHARED}\n\nAssistant: Go away."}
    assert CHAT.example(row).responses == ("Go to bed.", "Go away.")


def test_two_turns_of_one_speaker_are_joined_since_templates_want_them_to_alternate() -> None:
    start = "\n\nHuman: Hello\n\nHuman: Are you there?\n\nAssistant:"
    made = CHAT.example({"chosen": f"{start} Yes.", "rejected": f"{start} No."})
    assert made.messages == ({"role": "user", "content": "Hello\n\nAre you there?"},)


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (
            f"{SHARED}\n\nAssistant: a\n\nHuman: b\n\nAssistant: c",
            ROW["rejected"],
            "a response of several turns",
        ),
        ("\n\nHuman: Hello\n\nAssistant: a", "\n\nHuman: Hallo\n\nAssistant: b", "not a dialogue"),
        ("Hello\n\nAssistant: a", "Hello\n\nAssistant: b", "not a dialogue"),
        ("\n\nAssistant: a", "\n\nAssistant: b", "not a dialogue"),
        ("", "", "not a dialogue"),
        (None, ROW["rejected"], "missing key"),
        ([ROW["chosen"]], ROW["rejected"], "wrong type"),
    ],
)
def test_a_row_that_is_no_pair_of_answers_is_refused(chosen: object, rejected: object, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        CHAT.example({"chosen": chosen, "rejected": rejected})
    assert caught.value.reason == reason


FOLDER_VARIABLE = "RAYFLOW_TEST_DATA"


@pytest.fixture
def real() -> Path:
    """The test split of harmless-base, 2,312 rows: in the variable's folder, or in `shared/data` beside this one."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    path = Path(os.environ.get(FOLDER_VARIABLE, beside)) / "hh-harmless-test.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} does not exist: set {FOLDER_VARIABLE} to the folder with that file")
    return path


@pytest.mark.parametrize("layout", ["auto", {"kind": "hh", "chat": False}])
def test_all_rows_of_the_real_file_are_understood(real: Path, layout: object) -> None:
    """Counted by hand in the file: four chosen answers are blank, five dialogues part before the last turn."""
    found = list(read(PromptSource(path=str(real), layout=layout)))
    examples = [row for row in found if isinstance(row, Example)]
    reasons = Counter(row.reason for row in found if isinstance(row, Failure))
    assert len(found) == 2312 and len(examples) == 2303
    assert reasons == {"empty response": 4, "a response of several turns": 5}
    for row in examples:
        assert len(row.responses) == 2
        if row.prompt is None:
            roles = [turn["role"] for turn in row.messages]
            assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        else:
            assert row.prompt.startswith("\n\nHuman:") and row.prompt.endswith("\n\nAssistant:")


def test_the_real_files_prompts_are_found_once(real: Path) -> None:
    found = list(read(PromptSource(path=str(real)), Prompt))
    reasons = Counter(row.reason for row in found if isinstance(row, Failure))
    assert reasons == {"a response of several turns": 5, "duplicate prompt": 2}
