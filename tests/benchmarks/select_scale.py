"""`rayflow select` over a stored run of many prompts: wall time and peak memory of the real command.

The stored run is synthetic: prompts, candidates of a few bytes and normal rewards, written as the stages
would have written them. The command runs in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rayflow.config import RunConfig
from rayflow.core.files import read_json, write_json
from rayflow.core.ids import prompt_id
from rayflow.core.rows import Candidates, Prompt, Scores
from rayflow.core.schema import schema_of
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.run_plan import build_run_plan

HERE = "tests.benchmarks.select_scale"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes of the stored run; --folder keeps it, and takes it up again if it is there."""
    parser.add_argument("--num-prompts", type=int, default=100_000)
    parser.add_argument("--num-candidates", type=int, default=64)
    parser.add_argument("--shard-size", type=int, default=4000)
    parser.add_argument("--folder", type=Path)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Store the run if it is not there, then select again from it with another beta."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        stored = folder / f"stored-{arguments.num_prompts}"
        if not (stored / "config.yaml").exists():
            store(arguments, stored)
        name = f"again-{os.getpid()}"
        command = [sys.executable, "-m", "rayflow", "select", str(stored), "--beta", "0.25"]
        begin = time.monotonic()
        process = subprocess.Popen([*command, "--name", name], stdout=sys.stderr)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        if status:
            raise SystemExit(f"rayflow select failed with status {status}")
        selection = read_json(folder / name / "summary.json")["selection"]
    return {
        "num_prompts": selection["num_prompts"],
        "num_candidates": selection["num_candidates"],
        "shard_size": arguments.shard_size,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "prompts_per_second": round(selection["num_prompts"] / seconds),
        "peak_memory_mib": round(usage.ru_maxrss / 1024),
        "acceptance_rate": round(selection["acceptance_rate"], 4),
    }


def reward(prompt: str, response: str) -> float:
    """What the stored run names as its reward; its rewards are random numbers."""
    raise NotImplementedError("the stored rewards are not computed")


def store(arguments: argparse.Namespace, root: Path) -> None:
    """Write the stages up to the scores."""
    root.parent.mkdir(parents=True, exist_ok=True)
    prompts = root.parent / f"{root.name}.jsonl"
    with open(prompts, "w", encoding="utf-8") as file:
        file.writelines(f'{{"prompt": "Say {i}."}}\n' for i in range(arguments.num_prompts))
    config = RunConfig.model_validate(
        {
            "name": root.name,
            "runs_dir": str(root.parent),
            "model": "fake",
            "prompts": {"train": {"path": str(prompts)}},
            "sample": {"engine": {"kind": "fake"}, "num_candidates": arguments.num_candidates},
            "reward": {"kind": "rule", "function": f"{HERE}:reward"},
            "compute": {"runner": "local", "shard_size": arguments.shard_size},
        }
    )
    plan = build_run_plan(config)
    size, n = arguments.shard_size, arguments.num_candidates
    starts = range(0, arguments.num_prompts, size)
    artifacts = {name: plan.artifacts[name] for name in ("prompts", "sample", "score")}
    for name, artifact in artifacts.items():
        artifact.begin(plan.identities[name], num_shards=len(starts))
    rng = np.random.default_rng(0)
    candidates = candidate_columns(size, n)
    for index, start in enumerate(starts):
        texts = [f"Say {i}." for i in range(start, min(start + size, arguments.num_prompts))]
        store_shard(artifacts, index, texts, {k: v[: len(texts)] for k, v in candidates.items()}, n, rng)
    for artifact in artifacts.values():
        artifact.commit(started=time.time(), seconds=0.0)
    write_json(root / "run.json", {"name": root.name, "created": time.time(), "version": "0"})
    (root / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")


def store_shard(
    artifacts: dict[str, Artifact],
    index: int,
    texts: list[str],
    candidates: dict[str, pa.Array],
    n: int,
    rng: np.random.Generator,
) -> None:
    """One shard of every stage."""
    ids, count = pa.array([prompt_id(text, ()) for text in texts]), len(texts)
    nothing = pa.array([[]] * count, schema_of(Prompt).field("messages").type)
    targets = pa.nulls(count, pa.string())
    prompts = {"prompt_id": ids, "prompt": pa.array(texts), "messages": nothing, "target": targets}
    rewards = lists(pa.array(rng.normal(size=count * n)), n)
    for name, record, columns in (
        ("prompts", Prompt, prompts),
        ("sample", Candidates, {"prompt_id": ids, **candidates}),
        ("score", Scores, {"prompt_id": ids, "rewards": rewards}),
    ):
        schema = schema_of(record)
        table = pa.table([columns[field.name] for field in schema], schema=schema)
        artifacts[name].shards.write(index, table)


def candidate_columns(count: int, n: int) -> dict[str, pa.Array]:
    """What sampling adds to `count` prompts, but for their ids: short texts of two tokens."""
    numbers = np.arange(count * n)
    responses = lists(pa.array([f"r{i % 10_000}" for i in numbers.tolist()]), n)
    tokens = lists(pa.array((np.arange(2 * count * n) % 50_000).astype(np.int32)), 2)
    return {
        "prompt_token_ids": lists(pa.array(np.arange(4 * count).astype(np.int32)), 4),
        "responses": responses,
        "token_ids": lists(tokens, n),
        "logprobs": lists(pa.array(-(numbers % 97).astype(np.float32)), n),
        "finish_reasons": lists(pa.array(["stop"] * (count * n)), n),
        "seed": pa.array(np.arange(count)),
    }


def lists(values: pa.Array, size: int) -> pa.Array:
    """Values cut into lists of equal size."""
    offsets = pa.array(np.arange(0, len(values) + 1, size, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, values)
