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


def prompts(count: int) -> list[np.ndarray]:
    """Of unequal lengths, the longest first."""
    return [np.arange(40, 40 + 3 * (count - i), dtype=np.int32) for i in range(count)]


async def all_of(engine: TransformersEngine, sampling: SamplingOptions = SAMPLING) -> list[Generation]:
    calls = [engine.generate(prompt, sampling, 4096 * i) for i, prompt in enumerate(prompts(5))]
    return await asyncio.gather(*calls)


async def test_results_depend_neither_on_company_nor_on_the_size_of_batches(
    engine: TransformersEngine, forward_logprobs: ForwardLogprobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = await all_of(engine)
    alone = [await engine.generate(prompt, SAMPLING, 4096 * i) for i, prompt in enumerate(prompts(5))]
    # 5 rows at a time: the 16 candidates of one prompt run in four parts
    monkeypatch.setattr(engine, "options", engine.options.model_copy(update={"max_batch_rows": 5}))
    divided = await all_of(engine)
    assert [g.responses for g in together] == [g.responses for g in alone] == [g.responses for g in divided]
    assert len({g.responses for g in together}) == 5
    for prompt, made in zip(prompts(5), together, strict=True):  # answers belong to their own prompts
        np.testing.assert_allclose(made.logprobs, forward_logprobs(prompt, made.token_ids), atol=1e-3)


async def test_what_waits_together_runs_together_and_each_prompt_is_computed_once(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes, forward = [], engine._decoder._model.forward

    def spy(*args: object, input_ids: object, **kwargs: object) -> object:
        shapes.append(tuple(input_ids.shape))
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(engine._decoder._model, "forward", spy)
    made = await all_of(engine, SAMPLING.model_copy(update={"top_k": 0, "temperature": 1.5}))
    prefills, steps = [s for s in shapes if s[1] > 1], [s for s in shapes if s[1] == 1]
    assert prefills == [(5, 15)]
    lengths = np.array([len(ids) for each in made for ids in each.token_ids])
    assert [rows for rows, _ in steps] == [int((lengths > step).sum()) for step in range(1, lengths.max())]
    assert steps[0][0] > steps[-1][0]  # rows that ended have left


async def test_greedy_batches_agree_with_generate(engine: TransformersEngine) -> None:
    import torch

    sampling = SAMPLING.model_copy(update={"temperature": 0.0, "num_candidates": 1})
    for prompt, made in zip(prompts(5), await all_of(engine, sampling), strict=True):
        ids = torch.from_numpy(prompt.astype(np.int64))[None]
        expected = engine._model.generate(ids, do_sample=False, max_new_tokens=24)[0, len(prompt) :]
        assert made.token_ids[0].tolist() == expected.tolist()


async def test_a_request_that_fails_or_is_cancelled_leaves_the_others_alone(
    engine: TransformersEngine,
) -> None:
    good = await all_of(engine)
    calls = [
        asyncio.ensure_future(engine.generate(prompt, SAMPLING, 4096 * i))
        for i, prompt in enumerate([*prompts(5), np.array([10**6], np.int32)])
    ]
    await asyncio.sleep(0)
    calls[1].cancel()
    made = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(made[1], asyncio.CancelledError) and isinstance(made[5], IndexError)
    for place in (0, 2, 3, 4):
        assert made[place].responses == good[place].responses


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"top_k": 0, "temperature": 1.0}, [0.1, 0.2, 0.3, 0.4]),
        ({"top_k": 2, "temperature": 1.0}, [0, 0, 3 / 7, 4 / 7]),
        ({"top_k": 0, "temperature": 1.0, "top_p": 0.65}, [0, 0, 3 / 7, 4 / 7]),
        ({"top_k": 0, "temperature": 0.5}, [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
    ],
)
def test_tokens_follow_the_distribution_that_was_asked_for(changes: dict, expected: list[float]) -> None:
    import torch

    from rayflow.engines.decode import draw

    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(10_000, 4)
    evenly = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    tokens, logprobs = draw(logits, evenly, SAMPLING.model_copy(update=changes))
    shares = torch.bincount(tokens, minlength=4) / 10_000
    np.testing.assert_allclose(shares, expected, atol=2e-4)
    torch.testing.assert_close(logprobs, logits.gather(1, tokens[:, None])[:, 0])


def test_output_that_is_not_a_number_is_refused() -> None:
    import torch

    from rayflow.engines.decode import draw

    with pytest.raises(DataError, match="not finite"):
        draw(torch.tensor([[0.0, torch.nan]]), torch.zeros(1, dtype=torch.float64), SAMPLING)
