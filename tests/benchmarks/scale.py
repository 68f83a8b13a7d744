"""Sample, score, select and pair of very many prompts with the fake engine: time per prompt and the driver's memory.

Each size is a run of the pipeline in a process of its own: a file of prompts in, pairs out, a rule as the reward.
Seconds are those that the stages took; starting and stopping Ray is told apart.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from rayflow.config import RunConfig
from rayflow.pipeline.commands import make_runner
from rayflow.pipeline.execute import Pipeline
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.run_plan import build_run_plan
from tests.benchmarks.fresh import in_fresh_process
from tests.benchmarks.pipeline import STAGES

TOLERANCE = 0.15
"""How far the time per prompt of the largest size may be above the smallest one's."""
MEMORY_MIB = 2048
"""The most that the driver may hold."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes, candidates, and how the work is cut and placed."""
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--num-candidates", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--shard-size", type=int, default=1000)
    parser.add_argument("--runner", choices=("ray", "local"), default="ray")
    parser.add_argument("--workers", type=int, default=1, help="of sampling, and as many of scoring")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--scratch", help="where runs are stored until they are measured; needs 5 KiB a prompt"
    )
    parser.add_argument("--side", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of each size, the time per prompt relative to the smallest size, and the targets."""
    if arguments.side:
        return run_size(arguments, int(arguments.side))
    found: dict[int, list[dict[str, Any]]] = {size: [] for size in sorted(arguments.sizes)}
    for repeat in range(arguments.repeats):
        for size in list(found)[:: 1 if repeat % 2 == 0 else -1]:
            found[size].append(in_fresh_process(str(size)))
            print(f"repeat {repeat} {size}: {found[size][-1]}", file=sys.stderr)
    each = {size: statistics.median(r["seconds"] for r in results) / size for size, results in found.items()}
    smallest, largest = min(each), max(each)
    return {
        "num_candidates": arguments.num_candidates,
        "shard_size": arguments.shard_size,
        "runner": arguments.runner,
        "microseconds_per_prompt": {size: round(1e6 * value) for size, value in each.items()},
        "linearity": round(each[largest] / each[smallest], 3),
        "target_linearity_at_most": 1 + TOLERANCE,
        "driver_peak_mib": {
            size: max(r["driver_peak_mib"] for r in results) for size, results in found.items()
        },
        "target_driver_mib_at_most": MEMORY_MIB,
        "by_size": {size: results[-1] for size, results in found.items()},
    }


def run_size(arguments: argparse.Namespace, size: int) -> dict[str, Any]:
    """One run of `size` prompts."""
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        prompts = Path(scratch, "prompts.jsonl")
        with open(prompts, "w", encoding="utf-8") as file:
            file.writelines(f'{{"prompt": "Tell me of number {i}."}}\n' for i in range(size))
        pool = {"num_workers": arguments.workers, "num_cpus": 0.5}
        config = RunConfig.model_validate(
            {
                "name": "scale",
                "runs_dir": scratch,
                "model": "fake",
                "prompts": {"train": {"path": str(prompts), "layout": "prompts"}},
                "sample": {
                    "engine": {"kind": "fake"},
                    "num_candidates": arguments.num_candidates,
                    "max_tokens": arguments.max_tokens,
                },
                "reward": {"kind": "rule", "function": "tests.benchmarks.scale:length"},
                "compute": {
                    "runner": arguments.runner,
                    "shard_size": arguments.shard_size,
                    "sample": pool,
                    "score": pool,
                },
            }
        )
        plan = Plan(config, tuple(s for s in build_run_plan(config).steps if s[-1].name in STAGES))
        begin = time.monotonic()
        Pipeline(plan, make_runner(config), Console(quiet=True)).run()
        wall = time.monotonic() - begin
        manifests = {name: plan.artifacts[name].manifest() for name in STAGES}
        markers = {
            name: sum(
                plan.artifacts[name].shards.marker(i).seconds for i in range(manifests[name].num_shards)
            )
            for name in STAGES[1:]
        }
        assert {manifest.num_rows for manifest in manifests.values()} == {size}
        return {
            "seconds": round(sum(manifest.seconds for manifest in manifests.values()), 2),
            "wall_seconds": round(wall, 2),
            "stages": {name: round(manifest.seconds, 2) for name, manifest in manifests.items()},
            "busy": {name: round(seconds, 2) for name, seconds in markers.items()},
            "driver_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "stored_mib": sum(p.stat().st_size for p in config.root.rglob("*.parquet")) >> 20,
        }


def length(prompt: str, response: str) -> float:
    """The reward: how long a response is, with the prompt's own length against ties."""
    return len(response) + len(prompt) / 100
