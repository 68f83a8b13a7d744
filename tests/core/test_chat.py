"""From a prompt to token ids: one place, one BOS, an exact boundary."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from rayflow.core.chat import conversation_text, prompt_token_ids
from rayflow.core.rows import Prompt
from rayflow.errors import DataError, ModelError

TURNS = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Review a film."})
CHAT = Prompt(prompt_id="a", prompt=None, messages=TURNS, target=None)


def plain(text):
    return Prompt(prompt_id="b", prompt=text, messages=(), target=None)


@pytest.fixture(scope="module")
def chat_tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def chat_tokenizer_copy(tiny_model):
    """One to change."""
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def framing_tokenizer(tiny_model):
    """Writes BOS before every text and EOS behind it; its chat template writes a BOS too."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.bos_token} $A {tokenizer.eos_token}",
        special_tokens=[
            (t, tokenizer.convert_tokens_to_ids(t)) for t in (tokenizer.bos_token, tokenizer.eos_token)
        ],
    )
    return tokenizer


def test_a_chat_prompt_ends_where_the_answer_begins(chat_tokenizer):
    ids = prompt_token_ids(chat_tokenizer, CHAT)
    assert ids.dtype == np.int32
    assert chat_tokenizer.decode(ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nReview a film.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@given(answer=st.text(st.characters(codec="utf-8"), max_size=20))
def test_the_judged_conversation_is_the_prompt_with_the_answer_behind_it(chat_tokenizer, answer):
    prompt = chat_tokenizer.decode(prompt_token_ids(chat_tokenizer, CHAT))
    assert conversation_text(chat_tokenizer, CHAT, answer) == f"{prompt}{answer}<|im_end|>\n"


def test_a_template_that_writes_bos_gets_no_second_one(framing_tokenizer):
    ids = prompt_token_ids(framing_tokenizer, CHAT).tolist()
    assert ids[0] == framing_tokenizer.bos_token_id != ids[1]
    assert ids[-1] != framing_tokenizer.eos_token_id


def test_plain_text_is_tokenised_as_it_is(chat_tokenizer):
    ids = prompt_token_ids(chat_tokenizer, plain("the film was "))
    assert chat_tokenizer.decode(ids) == "the film was "
    assert chat_tokenizer.bos_token_id not in ids


def test_plain_text_gets_the_tokenizers_bos_but_no_eos(framing_tokenizer):
    ids = prompt_token_ids(framing_tokenizer, plain("the film")).tolist()
    assert ids == [
        framing_tokenizer.bos_token_id,
        *framing_tokenizer("the film", add_special_tokens=False).input_ids,
    ]


def test_plain_text_that_brings_its_own_bos_gets_no_second_one(framing_tokenizer):
    text = f"{framing_tokenizer.bos_token}user\nthe film"
    ids = prompt_token_ids(framing_tokenizer, plain(text)).tolist()
    assert ids.count(framing_tokenizer.bos_token_id) == 1
    assert framing_tokenizer.decode(ids) == text


@pytest.mark.parametrize("fixture", ["chat_tokenizer", "framing_tokenizer"])
def test_an_end_of_turn_that_the_person_wrote_stays(fixture, request):
    tokenizer = request.getfixturevalue(fixture)
    ids = prompt_token_ids(
        tokenizer, plain(f"{tokenizer.bos_token}user\nhello{tokenizer.eos_token}")
    ).tolist()
    assert ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.eos_token_id) == 1


def test_a_tokenizer_that_adds_only_bos_keeps_the_written_end_too(framing_tokenizer):
    bos, eos = framing_tokenizer.bos_token, framing_tokenizer.eos_token
    framing_tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, framing_tokenizer.bos_token_id)]
    )
    ids = prompt_token_ids(framing_tokenizer, plain(f"hello{eos}"))
    assert framing_tokenizer.decode(ids) == f"{bos}hello{eos}"


def test_a_prompt_is_never_without_tokens_where_the_tokenizer_has_some_to_give(framing_tokenizer):
    assert prompt_token_ids(framing_tokenizer, plain("")).tolist() == [framing_tokenizer.bos_token_id]


def test_a_chat_prompt_needs_a_template_to_be_answered_but_not_to_be_judged(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        prompt_token_ids(tokenizer, CHAT)
    expected = "system: Be brief.\nuser: Review a film.\nassistant: Fine."
    assert conversation_text(tokenizer, CHAT, "Fine.") == expected


def test_turns_that_the_template_refuses_are_the_datas_fault_not_a_crash(chat_tokenizer_copy):
    chat_tokenizer_copy.chat_template = "{{ raise_exception('roles must alternate') }}"
    for encode in (prompt_token_ids, partial(conversation_text, response="Fine.")):
        with pytest.raises(DataError, match="refuses these turns: roles must alternate"):
            encode(chat_tokenizer_copy, CHAT)


def test_plain_text_is_judged_with_the_answer_behind_it(chat_tokenizer):
    assert conversation_text(chat_tokenizer, plain("2 + 2 = "), "4") == "2 + 2 = 4"
