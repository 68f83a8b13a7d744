"""Training on several workers with DeepSpeed ZeRO.

The process group is there already (Ray Train makes it). ZeRO-1 splits the optimizer state between the
workers, ZeRO-2 the gradients too, ZeRO-3 the weights too; the losses are the same.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rayflow.core.arithmetic import computed_in
from rayflow.errors import StageError
from rayflow.training import universal
from rayflow.training.backend import make_optimizer, set_learning_rate, write_model
from rayflow.training.checkpoints import SHAPE
from rayflow.training.deepspeed_library import compile_collectives, import_deepspeed, tensors_only
from rayflow.training.objective import build_scorer

if TYPE_CHECKING:
    from rayflow.training.loop import TrainJob
    from rayflow.training.options import TrainOptions
    from rayflow.training.pack import Batch

_BUCKET = 10_000_000  # elements that one collective carries: 40 MB of float32, several buffers per worker
_TAG = "state"


class DeepSpeedBackend:
    """See `backend.Backend`; one instance per worker, made after torch.distributed is initialised."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()

    def setup(self, job: TrainJob) -> None:
        """Load the model and hand it with a client optimizer to DeepSpeed.

        A client optimizer, because those that DeepSpeed names in its configuration are compiled with a C++
        toolchain for minutes at the first use.
        """
        deepspeed = import_deepspeed()
        compile_collectives()
        options = job.options.model_copy(update={"precision": self._precision(job.options.precision)})
        scorer = build_scorer(replace(job, options=options))
        if options.optimizer == "adafactor" and self.rank == 0:
            warnings.warn(
                "Adafactor on ZeRO's flattened partitions is not the paper's Adafactor.", stacklevel=2
            )
        self.config = scorer.model.config
        self.stage, self.precision = options.zero_stage, options.precision
        self._optimizer_name = options.optimizer
        self._converted = job.converted_dir
        config = engine_config(options)
        if self.stage == 3:
            split_weights(scorer, config)
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=scorer,
            optimizer=make_optimizer(options, list(scorer.parameters())),
            config=config,
            dist_init_required=False,
        )

    def _precision(self, asked: str) -> str:
        """What all workers compute in, since they add up their gradients: float32 as soon as one of them must."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        half = asked != "float32" and computed_in(getattr(torch, asked), device) != torch.float32
        everywhere = torch.tensor(int(half), device=device)
        torch.distributed.all_reduce(everywhere, op=torch.distributed.ReduceOp.MIN)
        return asked if everywhere else "float32"

    def logprobs(self, batch: Batch) -> torch.Tensor:
        """See `backend.Backend.logprobs`."""
        return self.engine(batch.to(self.engine.device))

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Accumulate; reduce between the workers at the end of the optimizer step.

        The number of micro-steps differs between optimizer steps, so the boundary is set by hand. DeepSpeed
        averages over the workers, and the loss is already a share of the global one: multiply it back.
        """
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * self.world_size, scale_wrt_gas=False)
        if not last:
            self.engine.step()  # no update: moves DeepSpeed's own bookkeeping to the next micro-step

    def step(self, learning_rate: float) -> float:
        """Clip and update."""
        set_learning_rate(self.optimizer, learning_rate)
        self.engine.set_gradient_accumulation_boundary(True)
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def add_up(self, values: np.ndarray) -> np.ndarray:
        """All-reduced sum over the workers."""
        tensor = torch.from_numpy(values.copy()).to(self.engine.device)
        torch.distributed.all_reduce(tensor)
        return tensor.cpu().numpy()

    def save_state(self, folder: Path, step: int) -> None:
        """This worker's files of DeepSpeed's sharded checkpoint, and on rank 0 what they are split by."""
        self.engine.save_checkpoint(
            str(folder), tag=_TAG, client_state={"rayflow_step": step}, save_latest=False
        )
        if self.rank == 0:
            (folder / SHAPE).write_text(json.dumps(self._shape()))

    def load_state(self, folder: Path) -> int:
        """Restore what any number of workers saved.

        Other than it was saved, it is first made into a universal checkpoint, a file for every weight. The batches
        do not depend on the workers, so training goes on with the step and the groups that come next.

        Raises:
            StageError: DeepSpeed cannot convert it: another ZeRO stage with 3 on one side, Adafactor, or workers whose
                processors compute in another type.
        """
        saved = json.loads((folder / SHAPE).read_text())
        if saved == self._shape():
            if self.rank == 0:
                shutil.rmtree(self._converted, ignore_errors=True)  # left by a try with other workers
            return self._load(folder)
        self._check_convertible(saved)
        with self._universal(folder) as converted:
            done = self._load(converted)
        universal.own_steps(self.optimizer)
        return done

    def _load(self, folder: Path) -> int:
        with tensors_only():
            _, client = self.engine.load_checkpoint(str(folder), tag=_TAG)
        return int(client["rayflow_step"])

    def _shape(self) -> dict[str, Any]:
        return {"num_workers": self.world_size, "zero_stage": self.stage, "precision": self.precision}

    def _check_convertible(self, saved: dict[str, Any]) -> None:
        reason = None
        if saved["precision"] != self.precision:
            reason = (
                "these workers' processors compute in another type: go on with workers like the ones before"
            )
        elif saved["zero_stage"] != self.stage and 3 in (saved["zero_stage"], self.stage):
            reason = "ZeRO-3 splits weights in another way than ZeRO-1 and 2: keep the zero_stage"
        elif self._optimizer_name == "adafactor":
            reason = "Adafactor's state cannot be split anew: keep the number of workers and the zero_stage"
        if reason is not None:
            raise StageError(
                f"The checkpoint is of {saved}, this run has {self._shape()}. {reason}, or delete the unfinished "
                "training folder to start again."
            )

    @contextlib.contextmanager
    def _universal(self, folder: Path) -> Iterator[Path]:
        """The checkpoint in DeepSpeed's universal form, for as long as all workers read it."""
        if self.rank == 0:
            universal.convert(folder, _TAG, self._converted)
        else:
            universal.wait_for(folder, self._converted)
        # DeepSpeed reads this setting when it loads. It is not part of `engine_config`, because a checkpoint of
        # the same shape is read as it is.
        self.engine._config.load_universal_checkpoint = True
        try:
            yield self._converted
        finally:
            self.engine._config.load_universal_checkpoint = False
        torch.distributed.barrier()
        if self.rank == 0:
            shutil.rmtree(self._converted)

    def save_model(self, folder: Path, source: str) -> None:
        """Gather the weights where they are split, and write the model folder on rank 0."""
        scorer = self.engine.module
        state = self._gathered(scorer.model) if self.stage == 3 else None
        if self.rank == 0:
            write_model(scorer, state, folder, source)
        torch.distributed.barrier()

    def _gathered(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Whole weights on rank 0, one parameter at a time; an empty dictionary on the other ranks."""
        gathered = import_deepspeed().zero.GatheredParameters
        state = {}
        for name, parameter in model.named_parameters():
            with gathered([parameter]):
                if self.rank == 0:
                    state[name] = parameter.detach().cpu().clone()
        if self.rank == 0:
            state |= {
                name: buffer.cpu() for name, buffer in model.named_buffers() if name in model.state_dict()
            }
        return state


def split_weights(module: torch.nn.Module, config: dict[str, Any]) -> None:
    """Leave each worker its part of every weight, on its device, as ZeRO-3 does.

    DeepSpeed would first move the whole module to the device, where a large one has no room. Here only one weight
    after the other is there as a whole. The main memory of a machine still holds a copy for each of its workers while
    they load it.
    """
    deepspeed = import_deepspeed()
    deepspeed.init_distributed(torch.distributed.get_backend(), dist_init_required=False)
    device = deepspeed.zero.Init(module=module, config_dict_or_path=config).local_device
    for buffer in module.buffers():  # DeepSpeed leaves them where they are once the weights are split
        buffer.data = buffer.data.to(device)


def engine_config(options: TrainOptions) -> dict[str, Any]:
    """DeepSpeed's configuration for our settings.

    Gradients that a model computes in bfloat16 are added up in float32, over the micro-steps and between the workers:
    many small ones would be rounded away one by one, and how many depends on the micro-batches. DeepSpeed's own choice
    is the model's type for both.
    """
    zero: dict[str, Any] = {
        "stage": options.zero_stage,
        "reduce_bucket_size": _BUCKET,
        "allgather_bucket_size": _BUCKET,
        "overlap_comm": False,  # same order of additions every time, and nothing to overlap with on CPU
    }
    return {
        "train_micro_batch_size_per_gpu": 1,  # bookkeeping only: our micro-batches are cut by tokens
        "gradient_accumulation_steps": 1,
        "gradient_clipping": options.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "bf16": {
            "enabled": options.precision == "bfloat16",
            "immediate_grad_update": True,  # under ZeRO-1: no bfloat16 gradient outlives its addition
        },
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "steps_per_print": 2**31,
    }
