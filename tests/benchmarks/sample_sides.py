"""The sides of the benchmark of sampling: the stage, vLLM called directly or in a plain Ray Data actor, transformers.

Each gives `tokens` generated, `seconds`, prompt tokens `read`, and `floor`, the fewest that anyone can read.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rayflow.config import ComputeOptions, PoolOptions
from rayflow.core.chat import prompt_token_ids
from rayflow.core.model_folder import resolve_model
from rayflow.core.options import build
from rayflow.core.rows import Candidates, Failure, Prompt
from rayflow.core.schema import from_table
from rayflow.core.seeds import sampling_seed
from rayflow.engines.base import SamplingOptions
from rayflow.engines.vllm import VllmEngine
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.prompts import PromptSource, PromptStage
from rayflow.pipeline.stage import ShardWorker, StageContext
from rayflow.pipeline.stages.sample import SampleStage

if TYPE_CHECKING:
    from rayflow.dist.runner import RayRunner

SEED = 5
READY = "BENCHMARK_READY"
"""Environment variable: the file for the time at which the stage's engine was ready."""


def _pool(arguments: argparse.Namespace) -> PoolOptions:
    """What the stage's actor reserves."""
    return PoolOptions(in_flight=2, num_gpus=float(arguments.device == "cuda"))


def _options(arguments: argparse.Namespace) -> tuple[VllmEngine.Config, SamplingOptions]:
    sampling = SamplingOptions(num_candidates=arguments.num_candidates, max_tokens=arguments.max_tokens)
    return VllmEngine.Config(max_model_len=512, enforce_eager=False if arguments.compile else None), sampling


class TimedSampleStage(SampleStage):
    """Warms its engine up with the first shard, and notes when it would have been ready without that."""

    _warming: asyncio.Future[None] | None = None

    def setup(self) -> None:
        """Start the engine, then note the time."""
        super().setup()
        self._ready = time.time()

    async def process(self, rows: Sequence[Prompt]) -> Sequence[Candidates | Failure]:
        """The stage's own, once the engine is warm."""
        self._warming = self._warming or asyncio.ensure_future(self._warm_up(rows[0]))
        await self._warming
        return await super().process(rows)

    async def _warm_up(self, row: Prompt) -> None:
        begin = time.time()
        ids = prompt_token_ids(self._engine.tokenizer, row)
        await self._engine.generate(ids[::-1], warm_up(self.sampling), SEED)
        Path(os.environ[READY]).write_text(repr(self._ready + time.time() - begin))


def warm_up(sampling: SamplingOptions) -> SamplingOptions:
    """What every engine is asked for first, on the first prompt reversed, so that nothing of it is in the cache."""
    return sampling.model_copy(update={"max_tokens": 2})


@contextlib.contextmanager
def ray_beside(scratch: str, *stages: SampleStage) -> Iterator[RayRunner]:
    """Ray on this machine, started as a run starts it."""
    from rayflow.dist.runner import RayRunner

    runner = RayRunner(ComputeOptions(), Path(scratch, "logs"))
    runner.start(stages)
    try:
        yield runner
    finally:
        runner.stop()


def run_stage(arguments: argparse.Namespace) -> dict[str, Any]:
    """The stage as the pipeline runs it: Ray Data, one actor, shards committed to disk."""
    with tempfile.TemporaryDirectory() as scratch:
        ready = Path(scratch, "ready")
        os.environ[READY] = str(ready)
        prompts, target = Artifact(Path(scratch, "01-prompts")), Artifact(Path(scratch, "02-sample"))
        _store_prompts(arguments, prompts)
        options, sampling = _options(arguments)
        pool = _pool(arguments)
        stage = TimedSampleStage(
            "sample", ("prompts",), resolve_model(arguments.model), options, sampling, SEED, pool
        )
        target.begin({}, prompts.num_shards)
        shards = range(prompts.num_shards)
        with ray_beside(scratch, stage) as runner:
            runner.run_shards([ShardWorker(stage, (prompts,), target)], shards, lambda: None)
        end = max((target.shards.folder / f"{i:05d}.json").stat().st_mtime for i in shards)
        tokens = sum(target.shards.marker(i).tokens for i in shards)
        lengths = [len(row["prompt_token_ids"]) for i in shards for row in target.shards.read(i).to_pylist()]
        return {"tokens": tokens, "seconds": end - float(ready.read_text()), **_read(lengths, arguments)}


def _store_prompts(arguments: argparse.Namespace, artifact: Artifact) -> list[Prompt]:
    source = PromptSource(path=arguments.prompts, limit=arguments.num_prompts)
    PromptStage("prompts", source, shard_size=8).run(StageContext(artifact, {}, {}, None, Console()))
    return [row for i in range(artifact.num_shards) for row in from_table(artifact.shards.read(i), Prompt)]


def _read(lengths: Sequence[int], arguments: argparse.Namespace) -> dict[str, int]:
    """Prompt tokens that vLLM computes, and the fewest that anyone can; candidates share a prompt's whole blocks."""
    block = 32 if arguments.device == "cpu" else 16
    own = [length - (length - 1) // block * block for length in lengths]
    return {"read": sum(lengths) + (arguments.num_candidates - 1) * sum(own), "floor": sum(lengths)}


def run_direct(arguments: argparse.Namespace) -> dict[str, Any]:
    """All requests in one call of vLLM, in a Ray worker that reserves what the stage's actor reserves."""
    import ray

    pool = _pool(arguments)
    task = ray.remote(num_cpus=pool.num_cpus, num_gpus=pool.num_gpus)(generated)
    with tempfile.TemporaryDirectory() as scratch, ray_beside(scratch):
        return ray.get(task.remote(arguments))


class PlainActor:
    """Calls vLLM for all prompts in one row."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._generate = prepared(arguments)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """What the call took."""
        return self._generate()


def run_plain(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same call in the one actor of a Ray Data pipeline."""
    import ray

    pool = _pool(arguments)
    with tempfile.TemporaryDirectory() as scratch, ray_beside(scratch):
        rows = ray.data.range(1).map(
            PlainActor,
            fn_constructor_args=(arguments,),
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=pool.num_cpus,
            num_gpus=pool.num_gpus,
        )
        return rows.take_all()[0]


def generated(arguments: argparse.Namespace) -> dict[str, Any]:
    """Start vLLM, warm it up, and call it."""
    return prepared(arguments)()


def prepared(arguments: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    """vLLM, started with the engine arguments that the stage uses and warm, as a call for all requests."""
    from rayflow.engines.vllm import _params

    options, sampling = _options(arguments)
    engine = build("engine", options)
    from vllm import LLM

    llm = LLM(**engine._arguments(resolve_model(arguments.model), is_cpu=_is_cpu()), disable_log_stats=True)
    with tempfile.TemporaryDirectory() as scratch:
        prompts = _store_prompts(arguments, Artifact(Path(scratch, "01-prompts")))
    ids = [prompt_token_ids(llm.get_tokenizer(), p).tolist() for p in prompts]
    requests = [{"prompt_token_ids": each} for each in ids]
    params = [_params(sampling, sampling_seed(SEED, "sample", p.prompt_id)) for p in prompts]
    llm.generate([{"prompt_token_ids": ids[0][::-1]}], [_params(warm_up(sampling), SEED)], use_tqdm=False)

    def generate() -> dict[str, Any]:
        begin = time.monotonic()
        outputs = llm.generate(requests, params, use_tqdm=False)
        seconds = time.monotonic() - begin
        tokens = sum(len(c.token_ids) for o in outputs for c in o.outputs)
        return {"tokens": tokens, "seconds": seconds, **_read([len(each) for each in ids], arguments)}

    return generate


def run_transformers(arguments: argparse.Namespace) -> dict[str, Any]:
    """transformers' `generate` with the best of a few batch sizes, found on the first prompts."""
    import torch
    from transformers import AutoModelForCausalLM

    from rayflow.core.arithmetic import computed_in
    from rayflow.core.model_folder import load_tokenizer

    tokenizer = load_tokenizer(arguments.model)
    dtype = computed_in(torch.bfloat16, arguments.device)
    model = AutoModelForCausalLM.from_pretrained(resolve_model(arguments.model), dtype=dtype)
    model = model.eval().to(arguments.device)
    with tempfile.TemporaryDirectory() as scratch:
        prompts = _store_prompts(arguments, Artifact(Path(scratch, "01-prompts")))
    rows = [{"input_ids": prompt_token_ids(tokenizer, prompt).tolist()} for prompt in prompts]
    _, sampling = _options(arguments)
    tokenizer.padding_side = "left"

    def generate(batch: list[dict[str, list[int]]]) -> int:
        padded = tokenizer.pad(batch, return_tensors="pt").to(arguments.device)
        with torch.inference_mode():
            made = model.generate(
                **padded,
                do_sample=True,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                max_new_tokens=sampling.max_tokens,
                num_return_sequences=sampling.num_candidates,
            )
        # Up to the EOS and with it, as vLLM counts; what follows is padding, whose token may be the same one.
        ended = (made[:, padded["input_ids"].shape[1] :] == tokenizer.eos_token_id).long()
        return int((ended.cumsum(1) - ended == 0).sum())

    def speed(size: int) -> float:
        begin = time.monotonic()
        return generate(rows[:size]) / (time.monotonic() - begin)

    best = max((1, 2, 4), key=speed)
    begin = time.monotonic()
    tokens = sum(generate(rows[i : i + best]) for i in range(0, len(rows), best))
    seconds = time.monotonic() - begin
    floor = sum(len(row["input_ids"]) for row in rows)
    # `generate` repeats its input
    return {"tokens": tokens, "seconds": seconds, "read": sampling.num_candidates * floor, "floor": floor}


def _is_cpu() -> bool:
    from vllm.platforms import current_platform

    return current_platform.is_cpu()


SIDES = {
    "stage": run_stage,
    "direct": run_direct,
    "plain": run_plain,
    "transformers": run_transformers,
}
