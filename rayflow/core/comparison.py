"""The text in which a pairwise ranker reads two responses, the same in training and at inference.

The ranker is a causal language model; its verdict is the probability it puts on the letter that names the
better response, as the next token.

Source: RSO (arXiv:2309.06657) section 3.3, whose ranker reads "[CONTEXT] .. [RESPONSE A] .. [RESPONSE B] ..".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rayflow.errors import ModelError

LETTERS = (" A", " B")


def comparison_text(context: str, first: str, second: str) -> str:
    """What the ranker reads, up to the place of the letter.

    Args:
        context: the prompt as a person reads it (`Prompt.text`).
        first: the response shown as A.
        second: the response shown as B.
    """
    return f"[CONTEXT] {context} [RESPONSE A] {first} [RESPONSE B] {second} [BETTER]"


def comparison_token_ids(tokenizer: Any, context: str, first: str, second: str) -> np.ndarray:
    """Token ids of `comparison_text`: [T] int32, with the tokenizer's BOS if it has one and no EOS."""
    ids = tokenizer(comparison_text(context, first, second), add_special_tokens=False)["input_ids"]
    begin = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    return np.asarray([*begin, *ids], dtype=np.int32)


def letter_ids(tokenizer: Any) -> tuple[int, int]:
    """Token ids of the two verdicts, A and B.

    Raises:
        ModelError: the tokenizer gives both letters the same first token, so it cannot tell them apart.
    """
    first, second = (tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in LETTERS)
    if first[-1] == second[-1] or len(first) != len(second) or first[:-1] != second[:-1]:
        raise ModelError(
            f"The tokenizer of {tokenizer.name_or_path} does not give ' A' and ' B' tokens that differ only in "
            "the last one, so this model cannot serve as a pairwise ranker."
        )
    return first[-1], second[-1]
