"""Which checkpoint becomes the model: the one with the best proxy win rate on validation prompts.

Every so many optimizer steps the policy is written as a model folder, samples, and is compared with a
baseline by the reward; the workers share the prompts. What compares is handed in: training knows no reward.
Win rates over other prompts are not comparable, so a checkpoint at which too many have none cannot be chosen.

Source: RSO (arXiv:2309.06657) section 4, which picks the checkpoint with the best proxy-reward win rate
against the SFT target.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rayflow.core.files import sync
from rayflow.errors import DataError
from rayflow.training.metrics import Metrics, read_metrics

if TYPE_CHECKING:
    from rayflow.training.backend import Backend
    from rayflow.training.loop import TrainJob

WIN_RATE, NUM_PROMPTS = "eval/win_rate", "eval/num_prompts"


class Judge(Protocol):
    """Compares a model folder with the baseline; travels to every worker.

    Attributes:
        max_failed_fraction: of the validation prompts, so many may have no win share at a checkpoint that is chosen.
    """

    max_failed_fraction: float

    def __call__(self, model_dir: Path, rank: int, world_size: int) -> tuple[float, int, int]:
        """(sum of win shares, prompts that have one, all prompts) of this worker's part of the validation prompts."""


class Chooser:
    """Evaluates at the right steps, keeps the best model, and says when to stop.

    Args:
        job: its options say how often; its judge compares.
        backend: set up.
        first_step: optimizer steps done; evaluations of later steps, before a restart, count for nothing.
    """

    def __init__(self, job: TrainJob, backend: Backend, first_step: int) -> None:
        assert job.options.choose is not None and job.judge is not None
        self._job, self._backend, self._options, self._judge = job, backend, job.options.choose, job.judge
        self._folder = Path(job.output_dir) / "candidates"
        lines = [line for line in read_metrics(job.metrics_path) if line["step"] <= first_step]
        self._rates = {
            int(line["step"]): line.get(WIN_RATE, -math.inf)
            for line in lines
            if WIN_RATE in line or NUM_PROMPTS in line
        }

    def after(self, step: int, total: int) -> Metrics:
        """Evaluate if it is time, else {}. Every worker calls it at every step.

        Returns:
            How many validation prompts have a win share, and their mean unless they are too few.
        """
        if step % self._options.every_steps and step != total:
            return {}
        folder = self._of(step)
        self._backend.save_model(folder, self._job.model_path)
        self._backend.add_up(np.zeros(1))  # nobody reads before the first worker has written
        share = self._judge(folder, self._backend.rank, self._backend.world_size)
        wins, prompts, asked = self._backend.add_up(np.array(share, dtype=np.float64))
        if not prompts:
            raise DataError("No validation prompt could be answered and scored; see the logs of training.")
        enough = asked - prompts <= self._judge.max_failed_fraction * asked
        self._rates[step] = float(wins / prompts) if enough else -math.inf
        if self._backend.rank == 0:
            self._delete_beaten(step)
        return {NUM_PROMPTS: float(prompts)} | ({WIN_RATE: self._rates[step]} if enough else {})

    def _delete_beaten(self, step: int) -> None:
        """Keep the best model of now, and of every checkpoint that a restart may go back to."""
        every, num = self._job.options.checkpoint_every_steps, self._job.options.keep_checkpoints
        # One more than are kept: that of this very step is not saved yet.
        saved = list(range(every, step + 1, every))[-num - 1 :] if every else []
        best = {
            self._best({s: rate for s, rate in self._rates.items() if s <= end}) for end in (*saved, step)
        }
        kept = {self._of(number) for number in best}
        for folder in self._folder.iterdir():
            if folder not in kept:
                shutil.rmtree(folder)

    def _of(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"

    @property
    def finished(self) -> bool:
        """Whether the last `patience` evaluations brought nothing better."""
        patience = self._options.patience
        return (
            patience is not None and sum(step > self._best(self._rates) for step in self._rates) >= patience
        )

    def keep_best(self) -> None:
        """The best model takes the place of the trained one; the other candidates go.

        A kill after the move leaves the best model in its place: called again, this leaves it there.

        Raises:
            DataError: at no step had enough validation prompts a win share.
        """
        if self._rates and max(self._rates.values()) == -math.inf:
            raise DataError(
                "No checkpoint can be chosen: at each, more of the validation prompts could not be answered and scored "
                f"than max_failed_fraction={self._judge.max_failed_fraction:g} allows. The logs of training say why "
                "('does not count'). Mend that, or raise max_failed_fraction."
            )
        if self._backend.rank:
            return
        target = Path(self._job.model_dir)
        best = self._of(self._best(self._rates))
        if best.exists() or not target.exists():
            shutil.rmtree(target, ignore_errors=True)
            best.rename(target)
            sync(target.parent)  # before the manifest that says it is there
        shutil.rmtree(self._folder, ignore_errors=True)

    @staticmethod
    def _best(rates: dict[int, float]) -> int:
        """The first of the steps with the highest win rate; 0 before any evaluation."""
        return max(rates, key=lambda step: (rates[step], -step), default=0)
