"""Training in one process with plain PyTorch: the local runner's backend, and the yardstick of the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from rayflow.training.backend import make_optimizer, set_learning_rate, write_model
from rayflow.training.objective import build_scorer

if TYPE_CHECKING:
    from rayflow.training.loop import TrainJob
    from rayflow.training.pack import Batch


class PlainBackend:
    """See `backend.Backend`.

    The optimizer works on float32 master weights: at a learning rate of 1e-5 most updates are smaller than
    the spacing of bfloat16 numbers and would be rounded away.
    """

    rank = 0
    world_size = 1

    def setup(self, job: TrainJob) -> None:
        """Load the model, to the GPU where there is one, and make the optimizer."""
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.scorer = build_scorer(job).to(self.device)
        self.config = self.scorer.model.config
        self.max_grad_norm = job.options.max_grad_norm or float("inf")
        self.weights = list(self.scorer.parameters())  # a tied weight is listed once
        if all(weight.dtype == torch.float32 for weight in self.weights):
            self.masters = self.weights
        else:
            self.masters = [torch.nn.Parameter(w.detach().float()) for w in self.weights]
        self.optimizer = make_optimizer(job.options, self.masters)

    def logprobs(self, batch: Batch) -> torch.Tensor:
        """See `backend.Backend.logprobs`."""
        return self.scorer(batch.to(self.device))

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add this micro-step's gradients, in float32."""
        loss.backward()
        if self.masters is self.weights:
            return
        for master, weight in zip(self.masters, self.weights, strict=True):
            if weight.grad is None:
                continue
            if master.grad is None:
                master.grad = weight.grad.float()
            else:
                master.grad.add_(weight.grad)  # in float32, without a copy of it
            weight.grad = None

    def step(self, learning_rate: float) -> float:
        """Clip, update the master weights, copy them to the model."""
        norm = torch.nn.utils.clip_grad_norm_(self.masters, self.max_grad_norm)
        set_learning_rate(self.optimizer, learning_rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._copy_masters()
        return float(norm)

    def _copy_masters(self) -> None:
        if self.masters is not self.weights:
            with torch.no_grad():
                for master, weight in zip(self.masters, self.weights, strict=True):
                    weight.copy_(master)

    def add_up(self, values: np.ndarray) -> np.ndarray:
        """One worker: the values themselves."""
        return values

    def save_state(self, folder: Path, step: int) -> None:
        """Master weights and optimizer state in one file."""
        state = {
            "step": step,
            "weights": [m.detach() for m in self.masters],
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, folder / "state.pt")

    def load_state(self, folder: Path) -> int:
        """Restore what `save_state` wrote; only tensors and plain values are unpickled."""
        state = torch.load(folder / "state.pt", map_location=self.device, weights_only=True)
        with torch.no_grad():
            for master, saved in zip(self.masters, state["weights"], strict=True):
                master.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self._copy_masters()
        return int(state["step"])

    def save_model(self, folder: Path, source: str) -> None:
        """The model as a folder, in the type that it computed in."""
        write_model(self.scorer, None, folder, source)
