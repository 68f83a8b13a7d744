"""Sample, score, select and pair as one stream under Ray, against direct sampling time plus direct scoring time.

`stream` runs the four stages as a run would: Ray Data, an actor with vLLM, an actor with the classifier, tasks for
the rest, every shard committed. Its clock runs from the end of the engine's start to the last committed pair.
`direct` calls vLLM once with all requests, ends it, and then scores its answers in a plain loop over the prompts
with the same reward class; the clock runs in these two calls only. It does so under the stream's conditions, in a
Ray worker; `bare` without any Ray on the machine. The sides run in turn in fresh processes. Samples differ a little
between them (rounding depends on the batch), so times are compared per generated token.
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

from rayflow.config import RunConfig
from rayflow.core.model_folder import load_tokenizer, resolve_model
from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.core.schema import from_table
from rayflow.core.seeds import sampling_seed
from rayflow.pipeline.execute import Pipeline
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.stages.sample import SampleStage
from rayflow.rewards.classifier import ClassifierReward
from tests.benchmarks.fresh import in_fresh_process
from tests.benchmarks.paired import compared

STAGES = ("prompts", "sample", "score", "select", "pair")
TARGET = 1.10
"""The most that the stream may take of the direct times' sum."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes of the comparison; the reward model is the policy's body with a random head, in bfloat16."""
    parser.add_argument("--model", default="~/.cache/rayflow/models/SmolLM2-135M-Instruct")
    parser.add_argument("--prompts", default="jobs/prompts/sentiment-train.jsonl")
    parser.add_argument("--num-prompts", type=int, default=32)
    parser.add_argument("--num-candidates", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--shard-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="on a GPU the two actors have half of it each",
    )
    parser.add_argument("--bare", action="store_true", help="measure the sides without Ray, too")
    parser.add_argument("--side", choices=("stream", "direct", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--reward-model", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of microseconds per generated token of each side, and the ratio stream / direct."""
    if arguments.side:
        return SIDES[arguments.side](arguments)
    found: dict[str, list[dict[str, float]]] = {"stream": [], "direct": []}
    if arguments.bare:
        found["bare"] = []
    with tempfile.TemporaryDirectory() as scratch:
        save_classifier(arguments.model, scratch)
        for repeat in range(arguments.repeats):
            for side in tuple(found)[:: 1 if repeat % 2 == 0 else -1]:
                found[side].append(in_fresh_process(side, "--reward-model", scratch))
                print(f"repeat {repeat} {side}: {found[side][-1]}", file=sys.stderr)
    costs = {side: [1e6 * r["seconds"] / r["tokens"] for r in results] for side, results in found.items()}
    medians = {side: statistics.median(values) for side, values in costs.items()}
    tokens = {side: statistics.median(r["tokens"] for r in results) for side, results in found.items()}
    floor = statistics.median(r["floor"] for r in found["direct"])
    return {
        "num_prompts": arguments.num_prompts,
        "num_candidates": arguments.num_candidates,
        "seconds": {side: [round(r["seconds"], 1) for r in results] for side, results in found.items()},
        "generated_tokens": tokens,
        "microseconds_per_token": {side: round(value, 1) for side, value in medians.items()},
        **compared(costs["stream"], costs["direct"]),
        **(compared(costs["stream"], costs["bare"], "bare") if arguments.bare else {}),
        "target_at_most": TARGET,
        # Prompts once and responses once, by the policy and by the reward model: what both sides compute, so that
        # the ratio at the floor is 1.
        "floor_tokens": floor,
        "floor_tokens_per_s": round(floor / tokens["stream"] / medians["stream"] * 1e6, 1),
        "ratio_at_the_floor": 1.0,
    }


def save_classifier(model: str, folder: str) -> None:
    """The policy's weights with a random head of one label."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    path = resolve_model(model)
    made = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, dtype=torch.bfloat16)
    made.save_pretrained(folder)
    load_tokenizer(model).save_pretrained(folder)


class NotesReady(SampleStage):
    """Notes when its engine was ready."""

    def setup(self) -> None:
        """Start the engine, then note the time."""
        super().setup()
        Path(os.environ["BENCHMARK_READY"]).write_text(repr(time.time()))


def plan_of(arguments: argparse.Namespace, scratch: str) -> Plan:
    """The run up to its pairs, as a configuration of these sizes asks for."""
    config = RunConfig.model_validate(
        {
            "name": "benchmark",
            "runs_dir": scratch,
            "seed": 5,
            "model": arguments.model,
            "prompts": {"train": {"path": arguments.prompts, "limit": arguments.num_prompts}},
            "sample": {
                "engine": {"kind": "vllm", "max_model_len": 512, **_half(arguments)},
                "num_candidates": arguments.num_candidates,
                "max_tokens": arguments.max_tokens,
            },
            "reward": {"kind": "classifier", "model": arguments.reward_model},
            "compute": {"shard_size": arguments.shard_size, **_gpus(arguments)},
        }
    )
    steps = build_run_plan(config).steps
    return Plan(config, tuple(step for step in steps if step[-1].name in STAGES))


def _half(arguments: argparse.Namespace) -> dict[str, float]:
    """The engine's share of a GPU's memory."""
    return {"gpu_memory_utilization": 0.5} if arguments.device == "cuda" else {}


def _gpus(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Half a GPU for each actor."""
    return {pool: {"num_gpus": 0.5} for pool in ("sample", "score")} if arguments.device == "cuda" else {}


def run_stream(arguments: argparse.Namespace) -> dict[str, Any]:
    """The four stages by the pipeline itself."""
    import ray

    from rayflow.dist.runner import RayRunner

    with tempfile.TemporaryDirectory() as scratch:
        ready = Path(scratch, "ready")
        environment = {"env_vars": {"BENCHMARK_READY": str(ready)}}
        ray.init(log_to_driver=False, include_dashboard=False, runtime_env=environment)
        plan = plan_of(arguments, scratch)
        plan.stages["sample"].__class__ = NotesReady
        runner = RayRunner(plan.config.compute, plan.config.root / "logs")
        Pipeline(plan, runner, Console(quiet=True)).run()
        artifacts = [plan.artifacts[name] for name in STAGES[1:]]
        shards = range(artifacts[0].num_shards)
        finished = [[artifact.shards.marker(i).finished for i in shards] for artifact in artifacts]
        begin = float(ready.read_text())
        return {
            "seconds": max(finished[-1]) - begin,
            "tokens": artifacts[0].manifest().num_tokens,
            "until": {a.name: round(max(f) - begin, 1) for a, f in zip(artifacts, finished, strict=True)},
        }


def run_direct(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same as `run_bare` in a Ray worker."""
    import ray

    ray.init(log_to_driver=False, include_dashboard=False)
    return ray.get(
        ray.remote(num_cpus=1, num_gpus=int(arguments.device == "cuda"))(run_bare).remote(arguments)
    )


def run_bare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of one vLLM call for all prompts, then of a loop that scores each prompt's answers."""
    with tempfile.TemporaryDirectory() as scratch:
        plan = plan_of(arguments, scratch)
        first = Plan(plan.config, plan.steps[:1])
        from rayflow.pipeline.runner import LocalRunner

        Pipeline(first, LocalRunner(plan.config.compute), Console(quiet=True)).run()
        stored = first.artifacts["prompts"]
        prompts = [row for i in range(stored.num_shards) for row in from_table(stored.shards.read(i), Prompt)]
    seconds, answers, tokens, read = _sampled(plan.config, prompts)
    reward = build("reward", ClassifierReward.Config(model=arguments.reward_model))
    reward.setup()
    begin = time.monotonic()
    for prompt, texts in zip(prompts, answers, strict=True):
        reward.score(prompt, texts)
    scoring = time.monotonic() - begin
    return {
        "seconds": seconds + scoring,
        "sampling": round(seconds, 1),
        "scoring": round(scoring, 1),
        "tokens": tokens,
        "floor": 2 * (tokens + read),
    }


def _sampled(config: RunConfig, prompts: list[Prompt]) -> tuple[float, list[list[str]], int, int]:
    """Seconds of the call, answers to each prompt, tokens generated, prompt tokens."""
    from vllm import LLM
    from vllm.platforms import current_platform

    from rayflow.core.chat import prompt_token_ids
    from rayflow.engines.vllm import _params

    engine = build("engine", config.sample.engine)
    arguments = engine._arguments(resolve_model(config.model), is_cpu=current_platform.is_cpu())
    llm = LLM(**arguments, disable_log_stats=True)
    ids = [prompt_token_ids(llm.get_tokenizer(), prompt).tolist() for prompt in prompts]
    params = [
        _params(config.sample.drawing(), sampling_seed(config.seed, "sample", p.prompt_id)) for p in prompts
    ]
    begin = time.monotonic()
    outputs = llm.generate([{"prompt_token_ids": each} for each in ids], params, use_tqdm=False)
    seconds = time.monotonic() - begin
    # The requests ask for no text, as the stage's do: it is decoded here, outside the clock.
    tokenizer = llm.get_tokenizer()
    answers = [
        tokenizer.batch_decode([choice.token_ids for choice in output.outputs], skip_special_tokens=True)
        for output in outputs
    ]
    assert any(len(set(texts)) > 1 for texts in answers)
    tokens = sum(len(choice.token_ids) for output in outputs for choice in output.outputs)
    llm.llm_engine.engine_core.shutdown()
    return seconds, answers, tokens, sum(map(len, ids))


SIDES = {"stream": run_stream, "direct": run_direct, "bare": run_bare}
