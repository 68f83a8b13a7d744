"""Metrics of an optimizer step, averaged over the global batch, under the names that TRL uses."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from rayflow.losses.base import LossInputs
    from rayflow.training.options import Objective

Metrics = dict[str, float]

PEAK_RSS, PEAK_GPU = "memory/peak_rss_bytes", "memory/peak_gpu_bytes"
"""Of the worker that held the most, since it started."""

_SUMS = ("loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "logps/chosen", "logps/rejected")


@dataclass(frozen=True)
class Totals:
    """Sums over micro-steps, added up over workers before anything is divided.

    Attributes:
        values: [9] float64: loss items, the five other sums of `_SUMS`, then pairs, loss units, tokens.
    """

    values: np.ndarray

    @classmethod
    def of(cls, inputs: LossInputs, implicit: Tensor, loss_sum: float, units: int) -> Totals:
        """The sums of one micro-step.

        Args:
            inputs: what the loss saw.
            implicit: [m] float32, implicit rewards, without a gradient.
            loss_sum: sum of the loss's items.
            units: number of loss units.
        """
        chosen, rejected = inputs.pairs.unbind(dim=1)
        sums = [
            implicit[chosen].sum(),
            implicit[rejected].sum(),
            (implicit[chosen] > implicit[rejected]).sum(),
            inputs.logprobs.detach()[chosen].sum(),
            inputs.logprobs.detach()[rejected].sum(),
        ]
        counts = [len(inputs.pairs), units, int(inputs.num_tokens.sum())]
        return cls(np.array([loss_sum, *(float(value) for value in sums), *counts], dtype=np.float64))

    @staticmethod
    def add(parts: Sequence[Totals]) -> np.ndarray:
        """[9] float64: the sums of several micro-steps."""
        return np.sum([part.values for part in parts], axis=0) if parts else np.zeros(len(_SUMS) + 3)


def averages(totals: np.ndarray, seconds: float, objective: Objective = "policy") -> Metrics:
    """Metrics of a global batch from the sums over all workers.

    `rewards/*` are the implicit rewards: gamma * (log pi - log pi_reference), nats times gamma, as in TRL with
    beta = gamma, or what else the loss ranks by (`losses.base.implicit_rewards`); `rewards/accuracies` is the
    share of pairs with the chosen one ahead; `tokens_per_second` counts response tokens. Without pairs only the
    loss and the speed are given. A reward model's `rewards/*` are its scores, and it has no log-probabilities.
    """
    pairs, units, tokens = totals[-3:]
    result = {"loss": totals[0] / units}
    if pairs:
        result |= {name: total / pairs for name, total in zip(_SUMS[1:], totals[1:], strict=False)}
        result["rewards/margins"] = result["rewards/chosen"] - result["rewards/rejected"]
    result["tokens_per_second"] = tokens / max(seconds, 1e-9)
    # A loss may say that it ranks by nothing: the sums of its implicit rewards are NaN, their names are left out.
    without = math.isnan(result.get("rewards/chosen", 0.0))
    absent = (*(("rewards/",) if without else ()), *(("logps/",) if objective == "reward" else ()))
    return {name: float(value) for name, value in result.items() if not name.startswith(absent)}


class MetricsLog:
    """JSON lines, one per optimizer step; a resumed run first drops the steps it will repeat.

    Args:
        path: the file.
        first_step: lines of steps after this one are removed (steps done at the start; 0: all).
    """

    def __init__(self, path: Path, first_step: int) -> None:
        self.path = path
        kept = [line for line in read_metrics(path) if line["step"] <= first_step]
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(partial, path)

    def append(self, metrics: Metrics) -> None:
        """Add one step, at once readable by others. A number that JSON cannot hold becomes null."""
        clean = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(clean) + "\n")


def read_metrics(path: Path) -> list[Metrics]:
    """All complete lines of a metrics file, in order; empty if there is no such file."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]  # a killed writer leaves half a line


class MetricsTail:
    """What has come to a metrics file since it was last looked at, without reading the rest again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._offset = -1, 0

    def read(self) -> list[Metrics]:
        """Further complete lines, in order; all of them where a restart has replaced the file (see `MetricsLog`)."""
        try:
            with self._path.open("rb") as file:
                now = os.fstat(file.fileno())
                if now.st_ino != self._inode or now.st_size < self._offset:
                    self._inode, self._offset = now.st_ino, 0
                file.seek(self._offset)
                found = file.read()
        except FileNotFoundError:
            return []
        whole = found[: found.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
