"""One real vLLM engine, in float32 on the tiny model, shared by the tests of this file."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from rayflow.core.vllm_settings import use_all_cores
from rayflow.engines.base import Generation, SamplingOptions
from rayflow.engines.vllm import VllmEngine
from rayflow.errors import DataError, EngineDeadError, ModelError, StageError

ForwardLogprobs = Callable[[np.ndarray, tuple[np.ndarray, ...]], np.ndarray]
PROMPTS = [np.array([1, 40 + i, 41, 42, 2, 1, *range(60, 60 + 30)], np.int32) for i in range(6)]
SAMPLING = SamplingOptions(num_candidates=16, temperature=0.7, top_k=40, max_tokens=24)

engine_test = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def engine(tiny_model: str) -> Iterator[VllmEngine]:
    pytest.importorskip("vllm")
    made = VllmEngine(VllmEngine.Config(dtype="float32", kv_cache_gib=0.25, max_num_seqs=64))
    made.setup(tiny_model)
    yield made
    made.close()


async def sample(engine: VllmEngine, prompt: int = 0, seed: int = 4096, **changes: object) -> Generation:
    return await engine.generate(PROMPTS[prompt], SAMPLING.model_copy(update=changes), seed)


class TestEngine:
    pytestmark = engine_test

    async def test_log_probabilities_are_untempered_sums_over_the_response(
        self, engine: VllmEngine, forward_logprobs: ForwardLogprobs
    ) -> None:
        made = await sample(engine)
        assert len(made.responses) == len(made.token_ids) == 16
        expected = forward_logprobs(PROMPTS[0], made.token_ids)
        np.testing.assert_allclose(made.logprobs, expected, atol=1e-3)
        assert made.logprobs.dtype == np.float32

    async def test_eos_is_kept_once_and_named_by_the_finish_reason(
        self, engine: VllmEngine, forward_logprobs: ForwardLogprobs
    ) -> None:
        made = await sample(engine, num_candidates=64, max_tokens=100, top_k=0, temperature=1.5)
        assert set(made.finish_reasons) == {"stop", "length"}
        for tokens, reason in zip(made.token_ids, made.finish_reasons, strict=True):
            eos = np.flatnonzero(tokens == engine.tokenizer.eos_token_id)
            assert eos.tolist() == ([len(tokens) - 1] if reason == "stop" else [])
            assert tokens.dtype == np.int32
            assert reason == "stop" or len(tokens) == 100
        expected = forward_logprobs(PROMPTS[0], made.token_ids)
        np.testing.assert_allclose(made.logprobs, expected, atol=1e-3)  # EOS is in the sum

    async def test_requests_in_flight_give_what_each_gives_alone(self, engine: VllmEngine) -> None:
        alone = [await sample(engine, i, seed=4096 * i) for i in range(6)]
        together = await asyncio.gather(*(sample(engine, i, seed=4096 * i) for i in range(6)))
        assert [g.responses for g in alone] == [g.responses for g in together]
        assert len({g.responses for g in alone}) == 6

    async def test_another_seed_gives_other_candidates(self, engine: VllmEngine) -> None:
        first, other = await sample(engine, seed=0), await sample(engine, seed=4096)
        assert first.responses != other.responses
        assert len(set(first.responses)) > 8  # candidates of one request differ among themselves

    async def test_greedy_candidates_are_all_the_most_likely_response(self, engine: VllmEngine) -> None:
        made = await sample(engine, temperature=0.0, num_candidates=3)
        assert len(made.responses) == len(made.token_ids) == len(made.logprobs) == 3
        assert len(set(made.responses)) == 1

    async def test_a_refused_prompt_leaves_the_engine_alive(self, engine: VllmEngine) -> None:
        assert engine.max_model_len == 512
        with pytest.raises(DataError, match="too long"):
            await engine.generate(np.ones(500, np.int32), SAMPLING, 1)
        with pytest.raises(DataError, match="refused"):
            await engine.generate(np.array([9_999_999], np.int32), SAMPLING, 1)  # outside the vocabulary
        assert (await sample(engine)).responses

    async def test_a_second_event_loop_is_an_error_not_a_hang(self, engine: VllmEngine) -> None:
        await sample(engine)
        with pytest.raises(StageError, match="two event loops"):
            await asyncio.to_thread(asyncio.run, sample(engine))

    async def test_a_dead_engine_says_so(self, engine: VllmEngine) -> None:
        """Last: it ends the shared engine."""
        waiting = asyncio.gather(
            *(sample(engine, i, max_tokens=400) for i in range(6)), return_exceptions=True
        )
        await asyncio.sleep(0.3)
        for child in psutil.Process().children(recursive=True):
            if "EngineCore" in " ".join(child.cmdline()) or "EngineCore" in child.name():
                child.kill()
        async with asyncio.timeout(60):
            assert any(isinstance(result, EngineDeadError) for result in await waiting)
        with pytest.raises(EngineDeadError, match="died"):
            await sample(engine)


def test_the_module_is_light() -> None:
    code = "import sys, rayflow.engines.vllm, rayflow.engines.transformers, rayflow.engines.fake; " + (
        "print({'torch', 'vllm', 'transformers', 'ray'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_an_unusable_folder_is_named_before_vllm_is_imported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no config.json"):
        VllmEngine(VllmEngine.Config()).setup(str(tmp_path))


def test_extra_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    options = VllmEngine.Config(max_num_seqs=7, extra={"max_num_seqs": 9, "seed": 5})
    arguments = VllmEngine(options)._arguments("model", is_cpu=True)
    assert arguments["max_num_seqs"] == 9
    assert arguments["seed"] == 5
    assert arguments["enable_chunked_prefill"] is False


def test_settings_for_another_machine_are_the_same_engine_to_a_fingerprint() -> None:
    small, large = (
        VllmEngine.Config(kv_cache_gib=1, max_num_seqs=8),
        VllmEngine.Config(tensor_parallel_size=4),
    )
    assert small.identity() == large.identity()
    assert small.identity() != VllmEngine.Config(dtype="float32").identity()


def test_gpus_keep_vllms_own_choices() -> None:
    arguments = VllmEngine(VllmEngine.Config())._arguments("model", is_cpu=False)
    assert "enable_chunked_prefill" not in arguments
    assert "block_size" not in arguments
    assert arguments["enforce_eager"] is False
    assert arguments["max_num_seqs"] is None


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """What vLLM says of itself where it is built for GPUs."""
    platforms = pytest.importorskip("vllm.platforms")
    monkeypatch.setattr(type(platforms.current_platform), "is_cpu", lambda self: False)


def test_a_gpu_batches_as_vllms_own_class_does(
    gpu_build: None, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    usages = []

    def refuse(self: object, usage: object = None) -> None:
        usages.append(usage)
        raise ValueError("far enough")

    monkeypatch.setattr(AsyncEngineArgs, "create_engine_config", refuse)
    with pytest.raises(ModelError, match="far enough"):
        VllmEngine(VllmEngine.Config()).setup(tiny_model)
    assert usages == [UsageContext.LLM_CLASS]


def test_gpus_that_are_hidden_are_named_before_vllm_looks_for_them(
    gpu_build: None, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(StageError, match="this worker has none. Set num_gpus: 4"):
        VllmEngine(VllmEngine.Config(tensor_parallel_size=4)).setup(tiny_model)


@pytest.mark.parametrize(
    ("omp", "cores", "binding"),
    [
        ("1", {0, 1}, "0,1"),  # Ray's default: the actor asked for one CPU and computes on the machine's two
        (None, {2, 3, 5}, "2,3,5"),
        ("4", {0, 1, 2, 3}, "nobind"),  # an actor with num_cpus=4
        ("1", set(range(64)), None),  # vLLM's own choice
    ],
)
def test_threads_of_the_cpu_engine(
    monkeypatch: pytest.MonkeyPatch, omp: str | None, cores: set[int], binding: str | None
) -> None:
    environment = {} if omp is None else {"OMP_NUM_THREADS": omp}
    monkeypatch.setattr("os.environ", environment)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: cores)
    use_all_cores()
    assert environment.get("VLLM_CPU_OMP_THREADS_BIND") == binding


def test_the_users_thread_binding_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "auto")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    use_all_cores()
    assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == "auto"
