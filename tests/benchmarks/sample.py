"""The sample stage under Ray Data against vLLM's own `LLM.generate`, or transformers' `generate`: same requests.

Starting the engine is excluded on every side, and so is a warm-up: one prompt's candidates, two tokens long,
with which vLLM compiles what it counts ranks by.

Each repeat starts all sides in fresh processes, one after the other, with the same engine arguments. The
stage's clock runs from the end of the engine's start to the last committed shard, so writing is included.
`direct` calls vLLM under the stage's process conditions: in a Ray worker, with a Ray cluster beside it. `plain`
calls it in the actor of a Ray Data pipeline that has nothing else in it, which tells what Ray Data's own loop and
helper processes take from what rayflow adds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from tests.benchmarks.fresh import in_fresh_process
from tests.benchmarks.paired import compared
from tests.benchmarks.sample_sides import SIDES

TARGETS = {"direct": 0.97, "transformers": 4.0}
"""The least ratio of the stage's tokens per second to the other side's."""
ALSO = {"direct": ("plain",), "transformers": ()}
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
    parser.add_argument("--side", choices=("stage", "plain", *TARGETS), help=argparse.SUPPRESS)


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
            floor = 1 + result["floor"] / result["tokens"]
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
        # Each prompt once and each response once is the floor.
        "computed_per_generated_token": {
            **{side: round(value, 3) for side, value in computed.items()},
            "floor": round(floor, 3),
        },
        "ratio_at_the_floor": round(computed[arguments.against] / floor, 2),
    }
