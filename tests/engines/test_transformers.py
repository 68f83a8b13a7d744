from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rayflow.engines.base import Generation, SamplingOptions
from rayflow.engines.transformers import TransformersEngine
from rayflow.errors import DataError, ModelError

ForwardLogprobs = Callable[[np.ndarray, tuple[np.ndarray, ...]], np.ndarray]
PROMPT = np.array([1, 40, 41, 42, 2, 1, 50], np.int32)
SAMPLING = SamplingOptions(num_candidates=16, temperature=0.7, top_k=40, max_tokens=24)


@pytest.fixture(scope="module")
def engine(tiny_model: str) -> TransformersEngine:
    made = TransformersEngine(TransformersEngine.Config(dtype="float32", device="cpu"))
    made.setup(tiny_model)
    return made


async def sample(engine: TransformersEngine, seed: int = 4096, **changes: object) -> Generation:
    return await engine.generate(PROMPT, SAMPLING.model_copy(update=changes), seed)


async def test_log_probabilities_are_untempered_sums_over_the_response(
    engine: TransformersEngine, forward_logprobs: ForwardLogprobs
) -> None:
    made = await sample(engine)
    expected = forward_logprobs(PROMPT, made.token_ids)
    np.testing.assert_allclose(made.logprobs, expected, atol=1e-3)
    assert made.logprobs.dtype == np.float32


async def test_eos_is_kept_once_and_named_by_the_finish_reason(engine: TransformersEngine) -> None:
    made = await sample(engine, num_candidates=64, max_tokens=100, top_k=0, temperature=1.5)
    assert set(made.finish_reasons) == {"stop", "length"}
    for tokens, reason in zip(made.token_ids, made.finish_reasons, strict=True):
        eos = np.flatnonzero(tokens == engine.tokenizer.eos_token_id)
        assert eos.tolist() == ([len(tokens) - 1] if reason == "stop" else [])
        assert tokens.dtype == np.int32
        assert reason == "stop" or len(tokens) == 100


async def test_the_seed_fixes_the_candidates_and_leaves_torch_alone(engine: TransformersEngine) -> None:
    import torch

    state = torch.get_rng_state()
    first, again, other = [await sample(engine, seed) for seed in (1, 1, 2)]
    assert first.responses == again.responses != other.responses
    assert torch.equal(torch.get_rng_state(), state)


async def test_concurrent_requests_do_not_disturb_each_other(engine: TransformersEngine) -> None:
    alone = [await sample(engine, seed) for seed in range(4)]
    together = await asyncio.gather(*(sample(engine, seed) for seed in range(4)))
    assert [g.responses for g in alone] == [g.responses for g in together]


async def test_greedy_candidates_are_all_the_most_likely_response(engine: TransformersEngine) -> None:
    made = await sample(engine, temperature=0.0, num_candidates=3)
    assert len(made.responses) == len(made.token_ids) == len(made.logprobs) == 3
    assert len(set(made.responses)) == 1


async def test_a_prompt_that_leaves_no_room_is_refused(engine: TransformersEngine) -> None:
    assert engine.max_model_len == 512
    with pytest.raises(DataError, match=r"500 tokens \+ max_tokens 24"):
        await engine.generate(np.ones(500, np.int32), SAMPLING, 1)


def test_an_unusable_folder_is_named_before_anything_loads(tmp_path: Path) -> None:
    engine = TransformersEngine(TransformersEngine.Config())
    with pytest.raises(ModelError, match="no config.json"):
        engine.setup(str(tmp_path))
