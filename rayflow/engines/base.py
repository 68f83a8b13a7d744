"""The interface of a sampling engine. Row in: a prompt's token ids. Row out: n candidates.

An engine is built on the driver (cheap: no heavy import, no model), travels to its worker, and loads there
in `setup`. `generate` is a coroutine: the caller keeps many prompts in flight, so the engine never drains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from pydantic import Field

from rayflow.core.options import KindOptions, Options


class SamplingOptions(Options):
    """How responses are drawn. The defaults are the RSO paper's (section 4: temperature 0.7, top_k 40).

    Attributes:
        num_candidates: responses per prompt, drawn as one request.
        temperature: divides the logits; 0 is greedy.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the smallest set of tokens with this probability mass.
        max_tokens: length limit of a response, EOS included.
    """

    num_candidates: int = Field(default=64, gt=0)
    temperature: float = Field(default=0.7, ge=0)
    top_k: int = Field(default=40, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=128, gt=0)


@dataclass(frozen=True)
class Generation:
    """n candidates of one prompt (see `rows.Candidates` for the fields' meaning and dtypes).

    `logprobs` are of the untempered, untruncated policy: what DPO-style losses call log pi(y|x).
    """

    responses: tuple[str, ...]
    token_ids: tuple[np.ndarray, ...]
    logprobs: np.ndarray
    finish_reasons: tuple[str, ...]


class Engine(Protocol):
    """What every engine offers. `Config` is its settings; `model` is a local folder or a hub id."""

    Config: type[KindOptions]

    def __init__(self, options: KindOptions) -> None: ...

    def setup(self, model: str) -> None:
        """Load the model and its tokenizer.

        Raises:
            ModelError: the model cannot be used.
            MissingPackageError: the engine's package is not installed.
        """

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer (after `setup`)."""

    @property
    def max_model_len(self) -> int:
        """Longest sequence, prompt and response together, in tokens (after `setup`)."""

    async def generate(
        self, prompt_token_ids: np.ndarray, sampling: SamplingOptions, seed: int
    ) -> Generation:
        """n candidates for one prompt [P] int32.

        Args:
            seed: row seed; candidate i may use seed + i (see `seeds.SEED_SPACING`).

        Raises:
            EngineDeadError: the engine is dead; the worker must be replaced.
        """

    def close(self) -> None:
        """Free the model; safe to call twice."""
