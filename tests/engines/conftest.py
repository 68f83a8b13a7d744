"""The yardstick of the real engines' log-probabilities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def forward_logprobs(tiny_model: str) -> Callable[[np.ndarray, tuple[np.ndarray, ...]], np.ndarray]:
    """Summed log-probabilities [n] in nats of responses to a prompt: one plain forward pass each, float32."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()

    def logprobs(prompt: np.ndarray, token_ids: tuple[np.ndarray, ...]) -> np.ndarray:
        sums = []
        for ids in token_ids:
            whole = torch.from_numpy(np.concatenate([prompt, ids]).astype(np.int64))
            with torch.inference_mode():
                logits = network(whole[None]).logits[0, len(prompt) - 1 : -1]
            rows = logits.log_softmax(-1)
            sums.append(rows[torch.arange(len(ids)), whole[len(prompt) :]].sum().item())
        return np.array(sums)

    return logprobs
