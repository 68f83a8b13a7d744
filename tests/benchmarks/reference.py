"""Reference log-probabilities against TRL's precomputation: same model and responses, one process."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import trl_side
from tests.benchmarks.paired import compared
from tests.benchmarks.trl_side import PAIRS_PER_PROMPT, SHAPES, TrlClock, Workload, tokens_per_prompt

TARGET = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `trl_side`."""
    trl_side.add_arguments(parser)
    parser.set_defaults(shapes=["350x40"])


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Response tokens per second of both sides for every shape, and the ratio."""
    return {"shapes": {name: _shape(name, arguments) for name in arguments.shapes}, "target": TARGET}


def _shape(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    from rayflow.training.reference import ReferenceScorer

    workload = Workload.make(arguments.model, SHAPES[name], 2 * arguments.prompts_per_step)
    groups = [(group.prompt_token_ids, group.response_token_ids) for group in workload.groups]
    tokens = len(groups) * 2 * PAIRS_PER_PROMPT * SHAPES[name][1]
    scorer = ReferenceScorer(arguments.model, "bfloat16")
    scorer.setup()
    scorer.score(groups[:1])
    best = min(arguments.trl_batches, key=lambda batch: _theirs(arguments, workload, batch))
    seconds: dict[str, list[float]] = {"rayflow": [], "trl": []}
    for _ in range(arguments.repeats):
        begin = time.monotonic()
        scorer.score(groups)
        seconds["rayflow"].append(time.monotonic() - begin)
        seconds["trl"].append(_theirs(arguments, workload, best))
        print(
            f"{name}: rayflow {seconds['rayflow'][-1]:.1f} s, trl {seconds['trl'][-1]:.1f} s", file=sys.stderr
        )
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    found = compared(seconds["trl"], seconds["rayflow"])
    return {
        "rayflow_tokens_per_s": round(tokens / medians["rayflow"], 1),
        "trl_tokens_per_s": round(tokens / medians["trl"], 1),
        "trl_batch": best,
        **found,
        **tokens_per_prompt(SHAPES[name], found["ratio"]),
    }


def _theirs(arguments: argparse.Namespace, workload: Workload, batch: int) -> float:
    from datasets import disable_caching

    disable_caching()
    clock = TrlClock(arguments.model, workload, arguments.device, arguments.prompts_per_step)
    with tempfile.TemporaryDirectory() as scratch:
        clock._trainer(batch, 1, Path(scratch))
    return clock.reference_seconds
