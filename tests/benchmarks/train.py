"""Training on pairs against TRL's DPOTrainer: same model, pairs, global batch and optimizer, one process.

Pairs per second over whole optimizer steps, the first left out. TRL has its reference log-probabilities
precomputed and the best of a few batch sizes; its padding-free mode is disabled upstream in the releases seen.
"""

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

TARGETS = {"350x40": 3.0, "128x64": 2.0, "200x150": 1.6}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `trl_side`."""
    trl_side.add_arguments(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of both sides for every shape, the ratio, and the tokens that each must compute."""
    return {"shapes": {name: _shape(name, arguments) for name in arguments.shapes}}


def _shape(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    workload = Workload.make(arguments.model, SHAPES[name], 2 * arguments.prompts_per_step)
    pairs = arguments.prompts_per_step * PAIRS_PER_PROMPT
    theirs = TrlClock(arguments.model, workload, arguments.device, arguments.prompts_per_step)
    batches = [batch for batch in arguments.trl_batches if pairs % batch == 0]
    best = min(batches, key=lambda batch: theirs.step_seconds(batch, 1)[0])
    ours = OwnClock(arguments.model, workload, arguments.prompts_per_step)
    seconds: dict[str, list[float]] = {"rayflow": [], "trl": []}
    for _ in range(arguments.repeats):
        seconds["rayflow"].append(ours.step_seconds())
        seconds["trl"] += theirs.step_seconds(best, 1)
        print(
            f"{name}: rayflow {seconds['rayflow'][-1]:.1f} s, trl {seconds['trl'][-1]:.1f} s", file=sys.stderr
        )
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    found = compared(seconds["trl"], seconds["rayflow"])
    return {
        "rayflow_pairs_per_s": round(pairs / medians["rayflow"], 3),
        "trl_pairs_per_s": round(pairs / medians["trl"], 3),
        "trl_batch": best,
        **found,
        "target": TARGETS[name],
        **tokens_per_prompt(SHAPES[name], found["ratio"]),
    }


class OwnClock:
    """This project's trainer on the same workload."""

    def __init__(self, model: str, workload: Workload, prompts_per_step: int) -> None:
        from rayflow.training.groups import GroupFile, write_groups
        from rayflow.training.loop import Steps, TrainJob
        from rayflow.training.options import TrainOptions
        from rayflow.training.plain import PlainBackend

        folder = Path(tempfile.mkdtemp(prefix="rayflow-benchmark-"))
        write_groups(folder / "groups.arrow", workload.groups)
        options = TrainOptions(
            batch_size=prompts_per_step, lr_scheduler="constant", warmup_fraction=0, num_epochs=1000
        )
        job = TrainJob(options, model, folder / "groups.arrow", folder, seed=0)
        backend = PlainBackend()
        backend.setup(job)
        self._steps = Steps(job, GroupFile(job.groups_path), backend)
        self._plans = self._steps.plans(first=0)
        self.step_seconds()  # the first step is not counted

    def step_seconds(self) -> float:
        """Seconds of the next optimizer step."""
        number, plan = next(self._plans)
        begin = time.monotonic()
        self._steps.run(number, plan)
        return time.monotonic() - begin
