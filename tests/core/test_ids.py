"""Ids say what a prompt is, and which of its pairs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rayflow.core.ids import labelled_id, pair_id, prompt_id

HELLO = ({"role": "user", "content": "Hello"},)


def test_an_id_is_the_same_on_every_machine_and_in_every_version():
    """SHA-256 of the canonical JSON: '"Hello"' and '[["user","Hello"]]'."""
    assert prompt_id("Hello", ()) == "c25bf945aaff8fe1"
    assert prompt_id(None, HELLO) == "b0ae8b0f316e2f14"


def test_an_id_does_not_depend_on_the_order_of_keys_or_on_extra_keys():
    turned = [{"content": "Hello", "role": "user", "name": "Ada"}]
    assert prompt_id(None, turned) == prompt_id(None, HELLO)


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=5)), unique=True, min_size=2)
)
def test_the_order_and_the_roles_of_turns_are_part_of_the_id(turns):
    messages = [{"role": role, "content": content} for role, content in turns]
    assert prompt_id(None, messages) != prompt_id(None, messages[::-1])
    assert len(prompt_id(None, messages)) == 16


def test_a_text_that_looks_like_messages_is_another_prompt():
    assert prompt_id('[["user","Hello"]]', ()) != prompt_id(None, HELLO)


def test_given_responses_and_their_order_are_part_of_the_id():
    """SHA-256 of '{"prompt":"Hello","responses":["a","b"]}'."""
    assert prompt_id("Hello", (), ("a", "b")) == "ffdaf90364df9f72"
    ids = [prompt_id("Hello", (), given) for given in ((), ("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",))]
    assert len(set(ids)) == len(ids)
    assert prompt_id(None, HELLO, ("a",)) != prompt_id("Hello", (), ("a",))


def test_labels_name_an_example_in_every_version():
    """SHA-256 of '{"example":"p17","pairs":[[0,1],[2,1]],"scores":[1.0,0.0,null]}'."""
    assert labelled_id("p17", [(2, 1), (0, 1)], [1, -0.0, float("nan")]) == "49b559679240d241"
    assert labelled_id("p17", [(1, 2), (0, 1)], [1, 0, float("nan")]) != "49b559679240d241"


def test_a_pair_is_named_by_its_path():
    assert pair_id("p17", 3, 5) == "p17/3>5"
