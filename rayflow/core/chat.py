"""The one place where text becomes token ids, so that sampling, scoring and training agree on them.

A sampled response's ids come from the engine and are appended to the prompt's, never re-tokenised. A given
response is tokenised apart from its prompt, at the character where the prompt's text ends: the prompt's ids
are the same whatever follows, as they are when a policy samples. Tokenised together, the tokens at the
boundary could merge, and the policy would be trained on a prompt that it never sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jinja2 import TemplateError

from rayflow.core.rows import Message, Prompt
from rayflow.errors import DataError, ModelError

_PROBE = "probe"

POLICY_ENCODING = ("rayflow_encoding", "policy")
"""Entry in the configuration of a reward model that reads what a policy reads and emits: `prompt_token_ids`,
then `response_token_ids`, and is judged at the last of them."""


def prompt_token_ids(tokenizer: Any, prompt: Prompt) -> np.ndarray:
    """Token ids of a prompt, ready for generation: [P] int32.

    Chat messages go through the tokenizer's chat template with the generation prompt; the template writes
    its own special tokens, so none are added (no double BOS). Plain text is tokenised as it is; the
    tokenizer adds its BOS unless the text brings one, and never an EOS, which would end the answer before it
    began.

    Raises:
        ModelError: a chat prompt, and the tokenizer has no chat template.
        DataError: the chat template refuses these turns.
    """
    if prompt.prompt is not None:
        ids = written = tokenizer(prompt.prompt, add_special_tokens=False)["input_ids"]
        if not brings_bos(tokenizer, prompt.prompt):
            ids = tokenizer(prompt.prompt)["input_ids"]
            # An EOS that the person wrote stays; one that the tokenizer put behind the text goes.
            closed = ids[-1:] == [tokenizer.eos_token_id] and ids[-len(written) - 1 : -1] == written
            if closed and len(ids) > 1:
                ids = ids[:-1]
    else:
        text = _templated(tokenizer, prompt.messages, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return np.asarray(ids, dtype=np.int32)


def response_token_ids(tokenizer: Any, prompt: Prompt, response: str, ended: bool = True) -> np.ndarray:
    """Token ids of a given response, as a policy would emit them behind the prompt's: [R] int32, EOS last.

    Chat: what the chat template writes for the answer behind its generation prompt, up to and including the
    token that ends the turn; what the template writes behind that (a line break, say) is dropped. Plain: the
    text as the prompt's continuation, then EOS. An EOS that the text itself ends with is not doubled. A response
    that has not `ended` was cut by the sampler: the policy emitted no ending token, so it is left out.

    Raises:
        ModelError: no chat template for a chat prompt, no EOS, or a tokenizer or template that cannot
            continue a text exactly.
        DataError: the response holds the ending token before its end, where no policy could go on; or the
            chat template refuses these turns.
    """
    eos, eos_id = tokenizer.eos_token or "", tokenizer.eos_token_id
    text, end = response.removesuffix(eos), ""
    if prompt.prompt is None:
        text, end = _answer_text(tokenizer, prompt, text)
    ids = _continuation(tokenizer, _anchor(tokenizer), text + end)
    if not end:
        if eos_id is None:
            raise ModelError(f"The tokenizer of {tokenizer.name_or_path} has no EOS to end a response with.")
        ids = [*ids, eos_id]
    if {ids[-1], eos_id}.intersection(ids[:-1]):
        raise DataError("The response holds the token that ends a response before its end.")
    return np.asarray(ids if ended else ids[:-1], dtype=np.int32)


def _answer_text(tokenizer: Any, prompt: Prompt, response: str) -> tuple[str, str]:
    """What a chat template writes for an answer: its text, and the special token that ends the turn ("": none).

    A template may trim the answer, or write something before it, such as an empty passage of thought. What it
    writes behind every answer is learnt from a known one.
    """
    before = _templated(tokenizer, prompt.messages, add_generation_prompt=True)

    def behind(answer: str) -> str:
        whole = _templated(tokenizer, (*prompt.messages, {"role": "assistant", "content": answer}))
        if not whole.startswith(before):
            raise ModelError(
                f"The chat template of {tokenizer.name_or_path} writes another beginning of an answer than "
                "the one from which the model is sampled, so a given response has no place behind it."
            )
        return whole[len(before) :]

    _, found, tail = behind(_PROBE).partition(_PROBE)
    written = behind(response)
    if not found or not written.endswith(tail):
        raise DataError("The chat template does not close this response as it closes others.")
    specials = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    ends = [(tail.index(token), -len(token), token) for token in specials if token in tail]
    text = written[: len(written) - len(tail)]
    if not ends:
        return text, ""
    at, _, token = min(ends)
    return text + tail[:at], token


@lru_cache(maxsize=16)
def _anchor(tokenizer: Any) -> str:
    """What to put before a text so that it is tokenised as a continuation: mostly nothing.

    Tokenizers of the SentencePiece kind put a space before the first word of every text; behind another
    token they do not.

    Raises:
        ModelError: whatever stands before, the tokens do not continue a text exactly.
    """
    ids = list(tokenizer("a:", add_special_tokens=False)["input_ids"])
    start = _decode(tokenizer, ids)
    for anchor in ("", tokenizer.eos_token or "", "\n"):
        if all(
            _decode(tokenizer, [*ids, *_continuation(tokenizer, anchor, text)]) == start + text
            for text in ("b c", " b", "\nb", ".")
        ):
            return anchor
    raise ModelError(
        f"The tokenizer of {tokenizer.name_or_path} cannot continue a text exactly: it changes what follows."
    )


def _continuation(tokenizer: Any, anchor: str, text: str) -> list[int]:
    """Ids of `text` behind `anchor`, whose own ids are cut off."""
    ids = list(tokenizer(anchor + text, add_special_tokens=False)["input_ids"])
    return ids[len(tokenizer(anchor, add_special_tokens=False)["input_ids"]) :] if anchor else ids


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@dataclass(frozen=True)
class Fit:
    """Whether a group's longest sequence fits a model's context; true where it does.

    Attributes:
        num_prompt_tokens: the prompt's.
        longest_response: tokens of the longest response, EOS included.
        max_model_len: the context, prompt and response together.
    """

    num_prompt_tokens: int
    longest_response: int
    max_model_len: int

    def __bool__(self) -> bool:
        return self.num_prompt_tokens + self.longest_response <= self.max_model_len

    @property
    def detail(self) -> str:
        """The lengths in words, for a `Failure`."""
        verdict = "fit into" if self else "exceed"
        return (
            f"{self.num_prompt_tokens} prompt tokens + {self.longest_response} of the longest response "
            f"{verdict} the context of {self.max_model_len}"
        )


def fit(prompt_ids: np.ndarray, responses_ids: Sequence[np.ndarray], max_model_len: int) -> Fit:
    """Whether a prompt with each of its responses fits. Nothing is cut: a cut response would lose its EOS.

    Args:
        prompt_ids: [P] int32.
        responses_ids: n arrays [R_i] int32.
        max_model_len: in tokens.
    """
    return Fit(len(prompt_ids), max((len(ids) for ids in responses_ids), default=0), max_model_len)


def brings_bos(tokenizer: Any, text: str) -> bool:
    """Whether a text begins with the tokenizer's BOS, so that the tokenizer must not write another."""
    return bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)


def conversation_text(tokenizer: Any, prompt: Prompt, response: str) -> str:
    """The whole exchange as a reward model reads it: chat template where there is one, else prompt + response.

    Raises:
        DataError: the chat template refuses these turns.
    """
    if prompt.prompt is not None:
        return prompt.prompt + response
    if tokenizer.chat_template is None:
        return f"{prompt.text}\nassistant: {response}"
    return _templated(tokenizer, (*prompt.messages, {"role": "assistant", "content": response}))


def _templated(tokenizer: Any, turns: tuple[Message, ...], add_generation_prompt: bool = False) -> str:
    """The turns as the chat template writes them."""
    if tokenizer.chat_template is None:
        raise ModelError(
            f"The tokenizer of {tokenizer.name_or_path} has no chat template, and the prompts are chat "
            "messages. Use plain 'prompt' strings, or a model with a chat template."
        )
    try:
        return tokenizer.apply_chat_template(
            list(turns), add_generation_prompt=add_generation_prompt, tokenize=False
        )
    except TemplateError as error:  # such as: two turns of one role in a row
        raise DataError(f"The chat template refuses these turns: {error}") from error
