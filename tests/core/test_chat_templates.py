"""Chat templates as they are found: what each writes for a given answer, and those that cannot place one."""

from __future__ import annotations

import pytest

from rayflow.core.chat import response_token_ids
from rayflow.errors import DataError, ModelError
from tests.core.tokenizers import CHAT, byte_level, decoded, encoded, sentence_piece


def with_template(assistant: str, generation: str, specials: tuple[str, ...] = ()):
    """A tokenizer whose template writes answers and the generation prompt in these ways."""
    tokenizer = byte_level(specials=specials)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}" + assistant + "{% else %}"
        "[{{ m.role }}]{{ m.content }}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}" + generation + "{% endif %}"
    )
    return tokenizer


@pytest.mark.parametrize(
    ("assistant", "generation", "written"),
    [
        # trimmed, as Llama 3 does
        ("[a]\n{{ m.content | trim }}<|im_end|>", "[a]\n", "fun<|im_end|>"),
        # spaces of the template's own on both sides, as in Llama 2
        ("[a] {{ m.content | trim }} <|im_end|>", "[a]", " fun <|im_end|>"),
        # another token than the tokenizer's EOS ends the turn, as in Gemma
        ("[a]\n{{ m.content }}<end_of_turn>\n", "[a]\n", " fun <end_of_turn>"),
        # the turn's end, a line break, then EOS, as in Phi 3: sampling stops at the first
        ("[a]\n{{ m.content }}<end_of_turn>\n<|im_end|>", "[a]\n", " fun <end_of_turn>"),
        # an empty passage of thought before the answer, as in Qwen 3
        (
            "[a]\n<think>\n\n</think>\n\n{{ m.content }}<|im_end|>\n",
            "[a]\n",
            "<think>\n\n</think>\n\n fun <|im_end|>",
        ),
        # no token that ends the turn: EOS does
        ("[a]\n{{ m.content }}\n", "[a]\n", " fun <|im_end|>"),
    ],
)
def test_templates_are_followed_in_what_they_write_for_an_answer(assistant, generation, written):
    tokenizer = with_template(assistant, generation, specials=("<end_of_turn>",))
    before, after = encoded(tokenizer, CHAT, " fun ")
    assert decoded(tokenizer, after) == written
    assert decoded(tokenizer, before) == f"[system]Be brief.\n[user]Review a film.\n{generation}"


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_templates_and_such_tokenizers_go_together(scheme):
    """As in Llama 2 and Mistral: no token stands between the question and the answer."""
    tokenizer = sentence_piece(scheme)
    tokenizer.chat_template = (
        "<s>{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}</s>"
        "{% else %}[{{ m.content }}]{% endif %}{% endfor %}"
    )
    before, after = encoded(tokenizer, CHAT, "the film was a joy")
    assert decoded(tokenizer, before + after) == f"{decoded(tokenizer, before)}the film was a joy</s>"


def test_a_template_that_answers_elsewhere_than_it_asks_is_refused():
    """Reasoning models: sampled behind an opened thought that stored answers do not have."""
    tokenizer = with_template("[a]{{ m.content }}<|im_end|>", "[a]<think>\n")
    with pytest.raises(ModelError, match="another beginning of an answer"):
        response_token_ids(tokenizer, CHAT, "fun")


def test_a_template_that_refuses_the_turns_is_the_datas_fault():
    tokenizer = with_template("{{ raise_exception('no answers') }}", "[a]")
    with pytest.raises(DataError, match="refuses these turns: no answers"):
        response_token_ids(tokenizer, CHAT, "fun")
