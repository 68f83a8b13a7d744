"""The layouts of scored chats (UltraFeedback) and of ranked responses."""

from __future__ import annotations

import numpy as np
import pytest

from rayflow.sources.base import RowError
from rayflow.sources.ranked import Ranked
from rayflow.sources.ultrafeedback import UltraFeedback

ULTRA, RANKED = UltraFeedback(UltraFeedback.Config()), Ranked(Ranked.Config())
SKY = {"role": "user", "content": "What colour is the sky?"}
BLUE, GREEN = ({"role": "assistant", "content": f"It is {colour}."} for colour in ("blue", "green"))
ULTRA_ROW = {
    "prompt": SKY["content"],
    "prompt_id": "abc",
    "chosen": [SKY, BLUE],
    "rejected": [SKY, GREEN],
    "messages": [SKY, BLUE],
    "score_chosen": 8.5,
    "score_rejected": 3.0,
}
RANKED_ROW = {"prompt": "Sky?", "responses": ["blue", "grey", "green"], "scores": [1, 0.5, -2]}


def test_scored_conversations_become_a_pair_with_rewards() -> None:
    made = ULTRA.example(ULTRA_ROW)
    assert (made.prompt, made.messages, made.target) == (None, (SKY,), None)
    assert made.responses == ("It is blue.", "It is green.") and made.pairs[0].tolist() == [0, 1]
    np.testing.assert_array_equal(made.rewards, [8.5, 3.0])


def test_conversations_of_the_answer_alone_take_the_prompt_as_the_users_turn() -> None:
    made = ULTRA.example({**ULTRA_ROW, "chosen": [BLUE], "rejected": [GREEN]})
    assert made.messages == (SKY,) and made.responses == ("It is blue.", "It is green.")


def test_a_system_turn_and_earlier_answers_stay_in_the_prompt() -> None:
    before = [{"role": "system", "content": "Be brief."}, SKY, GREEN, {"role": "user", "content": "Sure?"}]
    made = ULTRA.example({**ULTRA_ROW, "chosen": [*before, BLUE], "rejected": [*before, GREEN]})
    assert made.messages == tuple(before)


def test_texts_in_place_of_conversations_are_told_their_layout() -> None:
    with pytest.raises(RowError, match="must be lists of messages, are text: set layout: trl"):
        ULTRA.example({"prompt": "Sky?", "chosen": "blue", "rejected": "green"})
    with pytest.raises(RowError, match="^'rejected' must be a list of messages, is text$"):
        ULTRA.example({**ULTRA_ROW, "rejected": "green"})


def test_ranked_responses_keep_their_order_and_have_no_pairs() -> None:
    made = RANKED.example(RANKED_ROW)
    assert (made.prompt, made.responses, made.pairs) == ("Sky?", ("blue", "grey", "green"), ())
    np.testing.assert_array_equal(made.rewards, [1.0, 0.5, -2.0])


def test_ranked_responses_to_a_chat_without_scores_have_nan() -> None:
    made = RANKED.example({"messages": [SKY], "responses": ["blue", [BLUE]]})
    assert made.messages == (SKY,) and made.responses == ("blue", "It is blue.")
    assert np.isnan(made.rewards).tolist() == [True, True]


@pytest.mark.parametrize(
    ("layout", "row", "reason", "words"),
    [
        (ULTRA, {**ULTRA_ROW, "rejected": [BLUE, GREEN]}, "wrong type", "turns before the answers .* differ"),
        (ULTRA, {**ULTRA_ROW, "chosen": []}, "wrong type", "turns before the answers .* differ"),
        (ULTRA, {**ULTRA_ROW, "chosen": [], "rejected": []}, "wrong type", "ends with nothing"),
        (ULTRA, {**ULTRA_ROW, "chosen": [SKY, SKY]}, "wrong type", "ends with user"),
        (ULTRA, {**ULTRA_ROW, "chosen": "It is blue."}, "wrong type", "a list of messages, is text"),
        (ULTRA, {**ULTRA_ROW, "rejected": None}, "missing key", "needs 'rejected'"),
        (ULTRA, {"chosen": [BLUE], "rejected": [GREEN]}, "missing key", "needs 'prompt'"),
        (ULTRA, {**ULTRA_ROW, "score_chosen": "8.5"}, "wrong type", "must be a number"),
        (RANKED, {"responses": ["a"]}, "missing key", "needs 'messages' or 'prompt'"),
        (RANKED, {"prompt": "Sky?"}, "missing key", "needs 'responses'"),
        (RANKED, {"prompt": "Sky?", "responses": "blue"}, "wrong type", "'responses' must be a list"),
        (RANKED, {"prompt": "Sky?", "responses": []}, "empty response", "'responses' is empty"),
        (RANKED, {"prompt": "Sky?", "responses": ["a", None]}, "wrong type", "responses.1.' must be text"),
        (RANKED, {**RANKED_ROW, "scores": [1.0, 2.0]}, "wrong type", "2 scores for 3 responses"),
        (RANKED, {**RANKED_ROW, "scores": [1, "a", 2]}, "wrong type", "scores.1.' must be a number"),
        (RANKED, {**RANKED_ROW, "scores": [1, 2, float("inf")]}, "wrong type", "must be finite"),
    ],
)
def test_a_row_of_another_form_says_why(layout: object, row: dict, reason: str, words: str) -> None:
    with pytest.raises(RowError, match=words) as caught:
        layout.example(row)
    assert caught.value.reason == reason
