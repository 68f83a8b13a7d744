"""The sample stage under Ray Data against vLLM's own `LLM.generate`, or transformers' `generate`: same requests.

Starting the engine is excluded on every side.

Each repeat starts all sides in fresh processes, one after the other, with the same engine arguments. The
stage's clock runs from the end of the engine's start to the last committed shard, so writing is included.
`direct` calls vLLM under the stage's process conditions: in a Ray worker, with a Ray cluster beside it. `bare`
calls it without any Ray on the machine, whose own processes cost about a tenth of a core wherever they run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from rayflow.config import PoolOptions
from rayflow.core.model_folder import resolve_model
from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.core.schema import from_table
from rayflow.core.seeds import sampling_seed
from rayflow.engines.base import SamplingOptions
from rayflow.engines.vllm import VllmEngine
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.prompts import PromptSource, PromptStage
from rayflow.pipeline.stage import ShardWorker, StageContext
from rayflow.pipeline.stages.sample import SampleStage
from tests.benchmarks.fresh import in_fresh_process
from tests.benchmarks.paired import compared

SEED = 5
TARGETS = {"direct": 0.97, "transformers": 4.0}
"""The least ratio of the stage's tokens per second to the other side's."""
ALSO = {"direct": ("bare",), "transformers": ()}
"""Sides that are measured along and reported, with no target."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes of the comparison."""
    parser.add_argument("--model", default="~/.cache/rayflow/models/SmolLM2-135M-Instruct")
    parser.add_argument("--prompts", default="jobs/prompts/sentiment-train.jsonl")
    parser.add_argument("--num-prompts", type=int, default=16)
    parser.add_argument("--num-candidates", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--against", choices=tuple(TARGETS), default="direct")
    parser.add_argument(
        "--compile", action="store_true", help="engine.enforce_eager=false, also for vLLM directly"
    )
    parser.add_argument("--side", choices=("stage", "bare", *TARGETS), help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of tokens per second of every side, and the ratios stage / other side of each repeat."""
    if arguments.side:
        return SIDES[arguments.side](arguments)
    others = (arguments.against, *ALSO[arguments.against])
    speeds: dict[str, list[float]] = {side: [] for side in ("stage", *others)}
    computed: dict[str, float] = {}
    for repeat in range(arguments.repeats):
        for side in tuple(speeds)[:: 1 if repeat % 2 == 0 else -1]:
            result = in_fresh_process(side)
            computed[side] = 1 + result["read"] / result["tokens"]
            speeds[side].append(result["tokens"] / result["seconds"])
            print(f"repeat {repeat} {side}: {speeds[side][-1]:.0f} tokens/s", file=sys.stderr)
    medians = {side: statistics.median(values) for side, values in speeds.items()}
    found = compared(speeds["stage"], speeds[arguments.against])
    for side in ALSO[arguments.against]:
        found |= compared(speeds["stage"], speeds[side], side)
    return {
        "num_prompts": arguments.num_prompts,
        "num_candidates": arguments.num_candidates,
        **{f"{side}_tokens_per_s": round(median, 1) for side, median in medians.items()},
        **found,
        "target": TARGETS[arguments.against],
        # vLLM reads a prompt once for all its candidates, which is the floor; transformers once for each.
        "computed_per_generated_token": {side: round(value, 3) for side, value in computed.items()},
        "ratio_at_the_floor": round(computed[arguments.against] / computed["stage"], 2),
    }


def _pool(arguments: argparse.Namespace) -> PoolOptions:
    """What the stage's actor reserves."""
    return PoolOptions(in_flight=2, num_gpus=float(arguments.device == "cuda"))


def _options(arguments: argparse.Namespace) -> tuple[VllmEngine.Config, SamplingOptions]:
    sampling = SamplingOptions(num_candidates=arguments.num_candidates, max_tokens=arguments.max_tokens)
    return VllmEngine.Config(max_model_len=512, enforce_eager=False if arguments.compile else None), sampling


class TimedSampleStage(SampleStage):
    """Notes when its engine was ready."""

    def setup(self) -> None:
        """Start the engine, then note the time."""
        super().setup()
        Path(os.environ["BENCHMARK_READY"]).write_text(repr(time.time()))


def run_stage(arguments: argparse.Namespace) -> dict[str, Any]:
    """The stage as the pipeline runs it: Ray Data, one actor, shards committed to disk."""
    import ray

    from rayflow.dist.data import StreamOptions, run_stream

    with tempfile.TemporaryDirectory() as scratch:
        ready = Path(scratch, "ready")
        ray.init(
            log_to_driver=False,
            include_dashboard=False,
            runtime_env={"env_vars": {"BENCHMARK_READY": str(ready)}},
        )
        prompts, target = Artifact(Path(scratch, "01-prompts")), Artifact(Path(scratch, "02-sample"))
        _store_prompts(arguments, prompts)
        options, sampling = _options(arguments)
        pool = _pool(arguments)
        stage = TimedSampleStage(
            "sample", ("prompts",), resolve_model(arguments.model), options, sampling, SEED, pool
        )
        target.begin({}, prompts.num_shards)
        shards = range(prompts.num_shards)
        run_stream(
            [ShardWorker(stage, (prompts,), target)], shards, StreamOptions(Path(scratch)), lambda: None
        )
        end = max((target.shards.folder / f"{i:05d}.json").stat().st_mtime for i in shards)
        tokens = sum(target.shards.marker(i).tokens for i in shards)
        ids = [row["prompt_token_ids"] for i in shards for row in target.shards.read(i).to_pylist()]
        return {"tokens": tokens, "read": sum(map(len, ids)), "seconds": end - float(ready.read_text())}


def _store_prompts(arguments: argparse.Namespace, artifact: Artifact) -> list[Prompt]:
    source = PromptSource(path=arguments.prompts, limit=arguments.num_prompts)
    PromptStage("prompts", source, shard_size=8).run(StageContext(artifact, {}, {}, None, Console()))
    return [row for i in range(artifact.num_shards) for row in from_table(artifact.shards.read(i), Prompt)]


def run_direct(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same as `run_bare` in a Ray worker that reserves what the stage's actor reserves."""
    import ray

    ray.init(log_to_driver=False, include_dashboard=False)
    pool = _pool(arguments)
    return ray.get(ray.remote(num_cpus=pool.num_cpus, num_gpus=pool.num_gpus)(run_bare).remote(arguments))


def run_bare(arguments: argparse.Namespace) -> dict[str, Any]:
    """All requests in one call of vLLM, with the engine arguments that the stage uses."""
    from rayflow.core.chat import prompt_token_ids
    from rayflow.engines.vllm import _params

    options, sampling = _options(arguments)
    engine = build("engine", options)
    from vllm import LLM

    llm = LLM(**engine._arguments(resolve_model(arguments.model), is_cpu=_is_cpu()), disable_log_stats=True)
    with tempfile.TemporaryDirectory() as scratch:
        prompts = _store_prompts(arguments, Artifact(Path(scratch, "01-prompts")))
    requests = [{"prompt_token_ids": prompt_token_ids(llm.get_tokenizer(), p).tolist()} for p in prompts]
    params = [_params(sampling, sampling_seed(SEED, "sample", p.prompt_id)) for p in prompts]
    begin = time.monotonic()
    outputs = llm.generate(requests, params, use_tqdm=False)
    seconds = time.monotonic() - begin
    return {
        "tokens": sum(len(c.token_ids) for o in outputs for c in o.outputs),
        "read": sum(len(request["prompt_token_ids"]) for request in requests),
        "seconds": seconds,
    }


def run_transformers(arguments: argparse.Namespace) -> dict[str, Any]:
    """transformers' `generate` with the best of a few batch sizes, found on the first prompts."""
    import torch
    from transformers import AutoModelForCausalLM

    from rayflow.core.arithmetic import computed_in
    from rayflow.core.chat import prompt_token_ids
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
        return int((made[:, padded["input_ids"].shape[1] :] != tokenizer.pad_token_id).sum())

    def speed(size: int) -> float:
        begin = time.monotonic()
        return generate(rows[:size]) / (time.monotonic() - begin)

    best = max((1, 2, 4), key=speed)
    begin = time.monotonic()
    tokens = sum(generate(rows[i : i + best]) for i in range(0, len(rows), best))
    seconds = time.monotonic() - begin
    read = sampling.num_candidates * sum(
        len(row["input_ids"]) for row in rows
    )  # `generate` repeats its input
    return {"tokens": tokens, "read": read, "seconds": seconds}


def _is_cpu() -> bool:
    from vllm.platforms import current_platform

    return current_platform.is_cpu()


SIDES = {"stage": run_stage, "direct": run_direct, "bare": run_bare, "transformers": run_transformers}
