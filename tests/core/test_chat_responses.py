"""Given responses as token ids: the boundary, the end, and what cannot be encoded exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from rayflow.core.chat import fit, prompt_token_ids, response_token_ids
from rayflow.engines.fake import ByteTokenizer
from rayflow.errors import DataError, ModelError
from tests.core.tokenizers import CHAT, TURNS, byte_level, decoded, encoded, plain, sentence_piece

SMOL = Path("~/.cache/rayflow/models/SmolLM2-135M-Instruct").expanduser()
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
SENTENCE_PIECES = {scheme: sentence_piece(scheme) for scheme in ("first", "always")}


@pytest.fixture(scope="module")
def gpt():
    return byte_level()


@pytest.fixture(scope="module")
def smol():
    if not SMOL.is_dir():
        pytest.skip(f"{SMOL} is not there")
    return AutoTokenizer.from_pretrained(SMOL)


def check_chat(tokenizer, response: str, end: str = "<|im_end|>") -> None:
    """Prompt and response together are the template's own text, cut behind the token that ends the turn."""
    before, after = encoded(tokenizer, CHAT, response)
    whole = tokenizer.apply_chat_template(
        [*TURNS, {"role": "assistant", "content": response}], tokenize=False
    )
    assert whole.endswith(f"{end}\n")
    assert decoded(tokenizer, before + after) == whole[:-1]
    assert after[-1] == tokenizer.convert_tokens_to_ids(end) and after[-1] not in after[:-1]


@given(response=TEXT)
def test_a_chat_answer_is_the_templates_own_text_up_to_its_end(gpt, response):
    check_chat(gpt, response)


@settings(max_examples=30)
@given(response=TEXT)
def test_the_same_holds_for_the_demonstrations_model(smol, response):
    assume(decoded(smol, smol(response)["input_ids"]) == response)  # its vocabulary lacks a few rare bytes
    check_chat(smol, response)


def test_the_line_break_behind_the_end_is_not_part_of_the_answer(smol):
    _, ids = encoded(smol, CHAT, "Great fun.")
    assert decoded(smol, ids) == "Great fun.<|im_end|>"


@given(prompt=TEXT.filter(bool), response=TEXT)
def test_a_plain_answer_continues_the_text_and_ends(gpt, prompt, response):
    before, after = encoded(gpt, plain(prompt), response)
    assert decoded(gpt, before + after) == f"{prompt}{response}<|im_end|>"
    assert after.count(gpt.eos_token_id) == 1 and after[-1] == gpt.eos_token_id


def test_tokens_never_merge_across_the_boundary(gpt):
    """Together "the film" has a token for " film"; the policy that was asked "the fi" never saw it."""
    together = gpt("the film")["input_ids"]
    before, after = encoded(gpt, plain("the fi"), "lm")
    assert before == prompt_token_ids(gpt, plain("the fi")).tolist() != together[: len(before)]
    assert decoded(gpt, before + after[:-1]) == "the film" and before + after[:-1] != together


def test_an_answer_gets_no_bos_of_its_own(smol):
    for prompt in (CHAT, plain("The film was")):
        assert smol.bos_token_id not in encoded(smol, prompt, " fun")[1]


@pytest.mark.parametrize("prompt", [CHAT, plain("The film was")], ids=["chat", "plain"])
def test_an_end_that_the_text_brings_is_not_doubled(gpt, prompt):
    assert encoded(gpt, prompt, "fun<|im_end|>") == encoded(gpt, prompt, "fun")


@pytest.mark.parametrize("prompt", [CHAT, plain("The film was")], ids=["chat", "plain"])
def test_a_cut_answer_has_no_end(gpt, prompt):
    whole = response_token_ids(gpt, prompt, "Great fun")
    assert response_token_ids(gpt, prompt, "Great fun", ended=False).tolist() == whole[:-1].tolist()
    assert response_token_ids(gpt, prompt, "", ended=False).tolist() == []


@pytest.mark.parametrize("prompt", [CHAT, plain("The film was")], ids=["chat", "plain"])
@pytest.mark.parametrize("response", ["fun<|im_end|> and more", "fun<|im_end|><|im_end|>"])
def test_an_end_in_the_middle_is_refused_since_no_policy_goes_on_there(gpt, prompt, response):
    with pytest.raises(DataError, match="before its end"):
        response_token_ids(gpt, prompt, response)


def test_a_response_as_long_as_it_likes_keeps_its_end(gpt):
    gpt_ids = encoded(gpt, plain("the film "), "joy " * 2000)[1]
    assert len(gpt_ids) > 2000 and gpt_ids[-1] == gpt.eos_token_id


@pytest.mark.parametrize("scheme", ["first", "always"])
@settings(max_examples=50)
@given(response=st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=12))
def test_a_tokenizer_that_begins_every_text_with_a_space_begins_no_answer_with_one(scheme, response):
    tokenizer = SENTENCE_PIECES[scheme]
    before, after = encoded(tokenizer, plain("the film:"), response)
    assert decoded(tokenizer, before + after) == f"the film:{response}</s>"


def test_a_byte_level_tokenizer_that_adds_a_space_adds_none_to_an_answer():
    tokenizer = byte_level(add_prefix_space=True)
    before, after = encoded(tokenizer, plain("the film"), "makers met")
    assert decoded(tokenizer, before + after) == " the filmmakers met<|im_end|>"  # the prompt's own space


def test_a_tokenizer_that_changes_what_follows_is_refused(gpt):
    class Shouting(ByteTokenizer):
        name_or_path = "shouting"

        def __call__(self, text, add_special_tokens=True):
            return super().__call__(text.upper())

    with pytest.raises(ModelError, match="shouting cannot continue a text exactly"):
        response_token_ids(Shouting(), plain("a"), "b")


def test_without_a_template_or_an_eos_there_is_no_answer():
    tokenizer = byte_level()
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        response_token_ids(tokenizer, CHAT, "fun")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no EOS"):
        response_token_ids(tokenizer, plain("a"), "fun")


def test_bytes_are_a_tokenizer_too():
    tokenizer = ByteTokenizer()
    before, after = encoded(tokenizer, CHAT, "fün")
    assert bytes(before).decode().endswith("assistant: ") and after == [*"fün".encode(), 256]
    assert encoded(tokenizer, plain("a"), "b")[1] == [ord("b"), 256]


def test_a_group_fits_where_its_longest_response_does():
    prompt, responses = np.arange(6, dtype=np.int32), [np.arange(2), np.arange(4)]
    assert fit(prompt, responses, 10)
    assert fit(prompt, [], 6)
    too_long = fit(prompt, responses, 9)
    assert not too_long
    assert too_long.detail == "6 prompt tokens + 4 of the longest response exceed the context of 9"
