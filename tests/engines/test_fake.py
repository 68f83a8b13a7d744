from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from rayflow.core.chat import prompt_token_ids
from rayflow.core.rows import Prompt
from rayflow.engines.base import SamplingOptions
from rayflow.engines.fake import ByteTokenizer, FakeEngine
from rayflow.errors import DataError

SAMPLING = SamplingOptions(num_candidates=64, max_tokens=48)


def engine(model: str = "no-model", **settings: object) -> FakeEngine:
    made = FakeEngine(FakeEngine.Config(**settings))
    made.setup(model)
    return made


def ids(text: str = "user: hello") -> np.ndarray:
    return np.array(ByteTokenizer()(text)["input_ids"], np.int32)


async def test_candidates_have_the_asked_number_and_the_types_of_the_row() -> None:
    made = await engine().generate(ids(), SAMPLING, seed=4096)
    assert len(made.responses) == len(made.token_ids) == len(made.finish_reasons) == len(made.logprobs) == 64
    assert made.logprobs.dtype == np.float32
    assert all(t.dtype == np.int32 and 1 <= len(t) <= 48 for t in made.token_ids)


async def test_eos_stands_exactly_where_a_response_ended_by_itself() -> None:
    made = await engine().generate(ids(), SAMPLING, seed=1)
    assert set(made.finish_reasons) == {"stop", "length"}
    for tokens, reason in zip(made.token_ids, made.finish_reasons, strict=True):
        assert (tokens[-1] == ByteTokenizer.eos_token_id) == (reason == "stop")


async def test_the_text_is_what_the_ids_say() -> None:
    made = await engine().generate(ids(), SAMPLING, seed=1)
    decoded = tuple(ByteTokenizer().decode(t, skip_special_tokens=True) for t in made.token_ids)
    assert made.responses == decoded


async def test_candidates_depend_on_seed_and_prompt_and_nothing_else() -> None:
    one, other = engine(), engine()
    await other.generate(ids("another prompt first"), SAMPLING, seed=9)
    first, again = [await e.generate(ids(), SAMPLING, seed=1) for e in (one, other)]
    assert first.responses == again.responses
    assert np.array_equal(first.logprobs, again.logprobs)
    assert first.responses != (await one.generate(ids(), SAMPLING, seed=2)).responses
    assert first.responses != (await one.generate(ids("else"), SAMPLING, seed=1)).responses


async def test_log_probabilities_are_those_of_the_policy_that_drew() -> None:
    # Two words of one byte and max_tokens 6: words cost at most 2 bytes, so stop = min(.5, 2 * 2 / 6) = .5.
    made = await engine(words=("a", "b")).generate(
        ids(), SamplingOptions(num_candidates=500, max_tokens=6), 3
    )
    p_a, p_b = (1 / 4) / (1 / 4 + 1 / 5), (1 / 5) / (1 / 4 + 1 / 5)
    by_text = dict(zip(zip(made.responses, made.finish_reasons, strict=True), made.logprobs, strict=True))
    assert by_text["a", "stop"] == pytest.approx(np.log(p_a * 0.5), rel=1e-6)
    assert by_text["a b", "stop"] == pytest.approx(np.log(p_a * 0.5 * p_b * 0.5), rel=1e-6)
    share = np.mean([r == "a" for r in made.responses])
    assert share == pytest.approx(p_a * 0.5, abs=0.08)


async def test_a_limit_of_one_token_still_gives_a_response() -> None:
    made = await engine().generate(ids(), SamplingOptions(num_candidates=3, max_tokens=1), seed=1)
    assert [len(t) for t in made.token_ids] == [1, 1, 1]
    assert set(made.finish_reasons) == {"length"}


async def test_bad_prompts_fail_alone() -> None:
    made = engine(fail_on="poison", max_model_len=100)
    with pytest.raises(DataError, match="poison"):
        await made.generate(ids("some poison here"), SAMPLING, seed=1)
    with pytest.raises(DataError, match="too long"):
        await made.generate(ids("x" * 53), SAMPLING, seed=1)
    with pytest.raises(DataError, match="empty"):
        await made.generate(ids(""), SAMPLING, seed=1)
    assert (await made.generate(ids("x" * 52), SAMPLING, seed=1)).responses


async def test_latency_of_requests_in_flight_overlaps() -> None:
    made = engine(latency_seconds=0.2)
    start = time.perf_counter()
    await asyncio.gather(*(made.generate(ids(), SAMPLING, seed=s) for s in range(10)))
    assert 0.2 <= time.perf_counter() - start < 1.0


async def test_a_folder_with_a_tokenizer_lends_it(tiny_model: str) -> None:
    made = engine(tiny_model)
    prompt = Prompt(prompt_id="p", prompt=None, messages=({"role": "user", "content": "hi"},), target=None)
    result = await made.generate(prompt_token_ids(made.tokenizer, prompt), SAMPLING, seed=1)
    for tokens, text, reason in zip(result.token_ids, result.responses, result.finish_reasons, strict=True):
        assert made.tokenizer.decode(tokens, skip_special_tokens=True) == text or reason == "length"
        assert (tokens[-1] == made.tokenizer.eos_token_id) == (reason == "stop")


def test_the_byte_tokenizer_reads_chats() -> None:
    prompt = Prompt(prompt_id="p", prompt=None, messages=({"role": "user", "content": "hé"},), target=None)
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(prompt_token_ids(tokenizer, prompt)) == "user: hé\nassistant: "
