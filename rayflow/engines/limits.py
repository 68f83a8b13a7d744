"""The check that every engine makes before a request: does the prompt leave room for the response?"""

from __future__ import annotations

from rayflow.engines.base import SamplingOptions
from rayflow.errors import DataError


def check_length(num_prompt_tokens: int, sampling: SamplingOptions, max_model_len: int) -> None:
    """Refuse a prompt whose longest response would not fit.

    Sampling it anyway would cut its responses below max_tokens without a word, and a reward would then
    judge the cut, not the policy.

    Raises:
        DataError: empty prompt, or prompt + max_tokens > max_model_len. Concerns this prompt only.
    """
    if num_prompt_tokens == 0:
        raise DataError("The prompt is empty: it has no tokens to continue from.")
    if num_prompt_tokens + sampling.max_tokens > max_model_len:
        raise DataError(
            f"The prompt is too long: {num_prompt_tokens} tokens + max_tokens {sampling.max_tokens} exceed "
            f"the model's {max_model_len}. Shorten the prompt, lower max_tokens, or raise the engine's "
            "max_model_len if the model allows more."
        )
