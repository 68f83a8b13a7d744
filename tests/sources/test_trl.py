"""TRL's preference format: both forms, prompt explicit and implicit."""

from __future__ import annotations

import numpy as np
import pytest

from rayflow.errors import DataError
from rayflow.sources.base import Layout, RowError
from rayflow.sources.trl import Trl
from rayflow.sources.ultrafeedback import UltraFeedback

TRL = Trl(Trl.Config())
SKY = {"role": "user", "content": "What colour is the sky?"}
BLUE, GREEN = ({"role": "assistant", "content": f"It is {colour}."} for colour in ("blue", "green"))
# The four examples of TRL's documentation of its formats, in its own forms, and the pair that each holds.
STRING = (("The sky is", None), (" blue.", " green."))
CHAT = ((None, (SKY,)), ("It is blue.", "It is green."))


def read(row: dict) -> tuple:
    made = TRL.example(row)
    assert [pair.tolist() for pair in made.pairs] == [[0, 1]]
    return (made.prompt, made.messages or None), made.responses


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}, STRING),
        ({"chosen": "The sky is blue.", "rejected": "The sky is green."}, STRING),
        ({"prompt": [SKY], "chosen": [BLUE], "rejected": [GREEN]}, CHAT),
        ({"chosen": [SKY, BLUE], "rejected": [SKY, GREEN]}, CHAT),
        ({"prompt": None, "chosen": [SKY, BLUE], "rejected": [SKY, GREEN]}, CHAT),
        ({"prompt": [SKY], "chosen": "It is blue.", "rejected": "It is green."}, CHAT),
        ({"messages": [SKY], "chosen": "It is blue.", "rejected": "It is green."}, CHAT),
        ({"messages": [SKY], "chosen": [BLUE], "rejected": [GREEN]}, CHAT),
        ({"messages": [SKY, BLUE], "chosen": [SKY, BLUE], "rejected": [SKY, GREEN]}, CHAT),
    ],
)
def test_every_form_gives_prompt_and_pair(row: dict, expected: tuple) -> None:
    assert read(row) == expected


def test_an_implicit_prompt_is_cut_by_characters_as_trl_cuts_it() -> None:
    """Without a space before the first difference the cut falls inside the word: TRL's rule, kept."""
    row = {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    assert read(row) == (("The sky is bl", None), ("ue.", "ack."))


def test_earlier_answers_of_a_longer_dialogue_belong_to_the_prompt() -> None:
    shared = [SKY, BLUE, {"role": "user", "content": "Sure?"}]
    yes, no = {"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "No."}
    made = TRL.example({"chosen": [*shared, yes], "rejected": [*shared, no]})
    assert made.messages == tuple(shared) and made.responses == ("Yes.", "No.")


def test_scores_become_rewards_and_missing_ones_nan() -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 4}
    np.testing.assert_array_equal(TRL.example(row).rewards, [4.0, np.nan])


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, ()),
        ({"finish_reason_chosen": None, "finish_reason_rejected": None}, ()),  # as a Parquet file leaves them
        ({"finish_reason_chosen": "length"}, ("length", "stop")),
        ({"finish_reason_chosen": "stop", "finish_reason_rejected": "length"}, ("stop", "length")),
    ],
)
@pytest.mark.parametrize(
    ("layout", "row"),
    [
        (TRL, {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}),
        (TRL, {"chosen": "The sky is blue.", "rejected": "The sky is green."}),
        (TRL, {"chosen": [SKY, BLUE], "rejected": [SKY, GREEN]}),
        (UltraFeedback(UltraFeedback.Config()), {"prompt": "Sky?", "chosen": [BLUE], "rejected": [GREEN]}),
    ],
)
def test_what_a_sampler_cut_is_told(layout: Layout, row: dict, told: dict, expected: tuple) -> None:
    made = layout.example({**row, **told})
    assert made.finish_reasons == expected
    assert made.cut.tolist() == [reason == "length" for reason in expected or ("stop", "stop")]
    assert made.prompt_id == layout.example(row).prompt_id


@pytest.mark.parametrize(
    ("row", "reason", "words"),
    [
        ({"chosen": "a"}, "missing key", "needs 'rejected', has chosen"),
        ({"chosen": "a", "rejectd": "b"}, "missing key", "is 'rejected' misspelt"),
        ({"chosen": "a", "rejected": [BLUE]}, "wrong type", "one of 'chosen' and 'rejected' is text"),
        ({"chosen": 1, "rejected": 2}, "wrong type", "is int"),
        ({"chosen": "one", "rejected": "two"}, "empty prompt", "do not begin alike"),
        ({"chosen": " one", "rejected": " two"}, "empty prompt", "do not begin alike"),
        ({"chosen": [BLUE], "rejected": [GREEN]}, "empty prompt", "do not begin alike"),
        ({"prompt": [], "chosen": [BLUE], "rejected": [GREEN]}, "empty prompt", "'prompt' is empty"),
        ({"prompt": "  ", "chosen": "a", "rejected": "b"}, "empty prompt", "'prompt' is empty"),
        (
            {"prompt": "Sky?", "chosen": [BLUE], "rejected": [GREEN]},
            "wrong type",
            "see layout 'ultrafeedback'",
        ),
        ({"chosen": "same", "rejected": "same"}, "identical responses", "are the same"),
        ({"chosen": "It is", "rejected": "It is blue"}, "identical responses", "one begins with all of"),
        ({"chosen": [SKY, BLUE], "rejected": [SKY, BLUE]}, "identical responses", "are the same"),
        ({"chosen": [SKY, BLUE, SKY, BLUE], "rejected": [SKY, GREEN]}, "a response of several turns", "is 3"),
        ({"chosen": [SKY, BLUE], "rejected": [SKY]}, "wrong type", "ends with nothing"),
        ({"chosen": [SKY, BLUE], "rejected": [SKY, SKY]}, "wrong type", "ends with user"),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": "9"},
            "wrong type",
            "must be a number",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "score_rejected": True}, "wrong type", "is bool"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 10**400}, "wrong type", "finite"),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c", "finish_reason_rejected": "eos"},
            "wrong type",
            "'finish_reason_rejected' must be stop or length, is 'eos'",
        ),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c", "finish_reason_chosen": ["stop"]},
            "wrong type",
            "'finish_reason_chosen' must be stop or length",
        ),
        ({"prompt": "a", "chosen": "\udc00", "rejected": "c"}, "not Unicode text", "'chosen'"),
    ],
)
def test_a_row_that_is_no_pair_says_why(row: dict, reason: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        TRL.example(row)
    assert isinstance(caught.value, RowError) and caught.value.reason == reason
