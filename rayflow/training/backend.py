"""What the training loop asks of a backend, and what all backends share."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from rayflow.core.model_folder import loadable
from rayflow.training.checkpoints import committed_folder, write_checksums

if TYPE_CHECKING:
    from rayflow.training.loop import TrainJob
    from rayflow.training.options import TrainOptions
    from rayflow.training.pack import Batch


class Backend(Protocol):
    """Owner of the weights and the optimizer on one worker.

    Attributes:
        rank: this worker's number; 0 writes the metrics and the model.
        world_size: number of workers.
        config: the model's transformers configuration (after `setup`).
    """

    rank: int
    world_size: int
    config: Any

    def setup(self, job: TrainJob) -> None:
        """Load the model that the job starts from and make the optimizer."""

    def logprobs(self, batch: Batch) -> torch.Tensor:
        """One number per response [m] float32, with gradients: what the job's objective reads.

        Of a policy the summed log-probabilities in nats, of a reward model the scores.
        """

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Accumulate gradients: their sum over micro-steps and workers, divided by nothing.

        Args:
            loss: this micro-step's share of the global loss.
            last: whether it is the last micro-step of the optimizer step.
        """

    def step(self, learning_rate: float) -> float:
        """Clip, update, forget the gradients. Returns the global gradient norm before clipping."""

    def add_up(self, values: np.ndarray) -> np.ndarray:
        """Sum of float64 values over the workers."""

    def save_state(self, folder: Path, step: int) -> None:
        """This worker's shard of the weights and optimizer state."""

    def load_state(self, folder: Path) -> int:
        """The inverse of `save_state`. Returns the number of optimizer steps done."""

    def save_model(self, folder: Path, source: str) -> None:
        """The trained model as a model folder (see `write_model`), rank 0 writing."""


def make_optimizer(options: TrainOptions, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of `options.optimizer`. Its learning rate is set before every step."""
    if options.optimizer == "adamw":
        settings = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
        # One pass over weights and moments instead of one for each operation: several times as fast, on CPU too.
        return torch.optim.AdamW(parameters, betas=(0.9, 0.95), fused=True, **settings)
    from transformers import Adafactor

    # A fixed schedule from outside, not Adafactor's own relative steps, as in the RSO paper.
    return Adafactor(
        parameters,
        lr=options.learning_rate,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
        weight_decay=options.weight_decay,
    )


def learning_rate(options: TrainOptions, step: int, total: int) -> float:
    """Learning rate of optimizer step `step` (0-based) of `total`: a pure function, so a resume is exact."""
    warmup = math.ceil(options.warmup_fraction * total)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if options.lr_scheduler == "linear":
        return options.learning_rate * (1 - progress)
    if options.lr_scheduler == "cosine":
        return options.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    return options.learning_rate


def set_learning_rate(optimizer: Any, value: float) -> None:
    """Set the rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = value


def write_model(scorer: Any, state: dict[str, torch.Tensor] | None, folder: Path, source: str) -> None:
    """A model folder that transformers and vLLM load, complete or not there at all.

    safetensors weights, configuration, generation settings of a policy, the tokenizer, and SHA-256 of every file.

    Args:
        scorer: holds the transformers model, and knows which tokenizer belongs to it (see `objective`).
        state: the model's weights by name, or None to take them from the scorer.
        folder: replaced when the new one is complete.
        source: the model that training started from.
    """
    path = loadable(source)
    with committed_folder(Path(folder)) as partial:
        scorer.model.save_pretrained(partial, state_dict=state, max_shard_size="5GB")
        scorer.tokenizer(source).save_pretrained(partial)
        generation = Path(path) / "generation_config.json"
        if generation.is_file() and scorer.model.can_generate():
            shutil.copy(generation, partial)
        write_checksums(partial)
