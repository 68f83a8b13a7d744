"""Rejection sampling on a batch of prompts against the plain Python loop, both on one core.

Both sides get the same rewards and one seed per prompt, and return accepted indices, rounds and visits. The
loop has its rewards as Python lists beforehand, so that it is timed on its own ground.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from rayflow.core.registry import resolve
from rayflow.core.seeds import derive
from tests.benchmarks.paired import compared
from tests.selection.plain import plain_selection

TARGET = 20
"""Times faster than the loop, at the slowest beta of either variant."""
MAXIMA = ("pass", "acceptance")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes of the comparison; rewards are standard normal, so beta is in units of their spread."""
    parser.add_argument("--num-prompts", type=int, default=10_000)
    parser.add_argument("--num-candidates", type=int, default=64)
    parser.add_argument("--num-accepted", type=int, default=8)
    parser.add_argument("--betas", type=float, nargs="+", default=[0, 0.05, 0.5, 5])
    parser.add_argument("--maximum", choices=MAXIMA, nargs="+", default=MAXIMA)
    parser.add_argument("--repeats", type=int, default=3)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of both sides and the ratio loop / batch, per variant and beta; `ratio` is the lowest of all."""
    shape = (arguments.num_prompts, arguments.num_candidates)
    rewards = np.random.default_rng(0).normal(size=shape)
    seeds = np.array([derive(0, "select", f"p{i}") for i in range(shape[0])], np.uint64)
    found = {
        f"{maximum}, beta {beta:g}": compare(maximum, beta, arguments, rewards, seeds)
        for maximum in arguments.maximum
        for beta in arguments.betas
    }
    worst = min(found, key=lambda name: found[name]["ratio"])
    return {
        "num_prompts": shape[0],
        "num_candidates": shape[1],
        "num_accepted": arguments.num_accepted,
        "settings": found,
        "worst": worst,
        "ratio": found[worst]["ratio"],
        "target": TARGET,
        "passed": found[worst]["ratio"] >= TARGET,
    }


def compare(
    maximum: str, beta: float, arguments: argparse.Namespace, rewards: np.ndarray, seeds: np.ndarray
) -> dict[str, Any]:
    """Both sides in turn, `repeats` times after one unmeasured turn each."""
    settings = {"beta": beta, "num_accepted": arguments.num_accepted, "maximum": maximum}
    rule = resolve("selection", "rejection")
    selector = rule(rule.Config(**settings))
    lists, numbers = rewards.tolist(), seeds.tolist()

    def loop() -> list[Any]:
        return [plain_selection(r, Random(s), **settings) for r, s in zip(lists, numbers, strict=True)]

    sides: dict[str, Callable[[], Any]] = {"batch": lambda: selector.select(rewards, seeds), "loop": loop}
    times: dict[str, list[float]] = {"batch": [], "loop": []}
    sides["batch"]()
    chosen = sides["loop"]()
    for _ in range(arguments.repeats):
        for name, side in sides.items():
            begin = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - begin)
    batch, plain = (statistics.median(times[name]) for name in ("batch", "loop"))
    print(f"{maximum}, beta {beta:g}: loop {plain:.3f} s, batch {batch:.4f} s", file=sys.stderr)
    return {
        "loop_seconds": round(plain, 4),
        "batch_seconds": round(batch, 4),
        **compared(times["loop"], times["batch"]),
        "mean_visits": round(float(np.mean([c.num_visits for c in chosen])), 1),
    }
