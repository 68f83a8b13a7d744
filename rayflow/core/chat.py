"""The one place where a prompt becomes token ids, so that sampling, scoring and training agree on them.

The response's ids come from the engine and are appended to these, never re-tokenised: the boundary between
prompt and response is exact by construction.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rayflow.core.rows import Message, Prompt
from rayflow.errors import ModelError


def prompt_token_ids(tokenizer: Any, prompt: Prompt) -> np.ndarray:
    """Token ids of a prompt, ready for generation: [P] int32.

    Chat messages go through the tokenizer's chat template with the generation prompt; the template writes
    its own special tokens, so none are added (no double BOS). Plain text is tokenised as it is; the
    tokenizer adds its BOS unless the text brings one, and never an EOS, which would end the answer before it
    began.

    Raises:
        ModelError: a chat prompt, and the tokenizer has no chat template.
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
        _require_template(tokenizer)
        text = tokenizer.apply_chat_template(
            list(prompt.messages), add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return np.asarray(ids, dtype=np.int32)


def brings_bos(tokenizer: Any, text: str) -> bool:
    """Whether a text begins with the tokenizer's BOS, so that the tokenizer must not write another."""
    return bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)


def conversation_text(tokenizer: Any, prompt: Prompt, response: str) -> str:
    """The whole exchange as a reward model reads it: chat template where there is one, else prompt + response."""
    if prompt.prompt is not None:
        return prompt.prompt + response
    if tokenizer.chat_template is None:
        return f"{prompt.text}\nassistant: {response}"
    turns: list[Message] = [*prompt.messages, {"role": "assistant", "content": response}]
    return tokenizer.apply_chat_template(turns, tokenize=False)


def _require_template(tokenizer: Any) -> None:
    if tokenizer.chat_template is None:
        raise ModelError(
            f"The tokenizer of {tokenizer.name_or_path} has no chat template, and the prompts are chat "
            "messages. Use plain 'prompt' strings, or a model with a chat template."
        )


def response_token_ids(tokenizer: Any, prompt: Prompt, response: str) -> np.ndarray:
    """TEMP"""
    ids = tokenizer(response, add_special_tokens=False)["input_ids"]
    return np.asarray([*ids, tokenizer.eos_token_id], dtype=np.int32)
