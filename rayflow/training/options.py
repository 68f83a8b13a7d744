"""Settings of the training stage. Imports no torch, so that a configuration is checked in milliseconds."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from rayflow.core.options import LossOptions, Options

Objective = Literal["policy", "reward"]
"""What is trained: a policy, or a reward model (see `objective`)."""


class ChoiceOptions(Options):
    """Choose the checkpoint by its proxy win rate on the validation prompts (`prompts.validation`).

    One at which more of these prompts than `max_failed_fraction` have no score is not chosen: its rate is another's.

    Attributes:
        every_steps: optimizer steps between evaluations; the last step is always evaluated.
        patience: stop after so many evaluations in a row without a better one; None trains to the end.
        num_samples: responses per validation prompt.
        baseline: what the policy is compared with: "target", the validation prompts' own targets (RSO, section 4),
            or "sft", samples of the policy it started from (`evaluate.baseline_model`).
    """

    every_steps: int = Field(gt=0)
    patience: int | None = Field(default=None, gt=0)
    num_samples: int = Field(default=4, gt=0)
    baseline: Literal["target", "sft"] = "target"


class TrainOptions(Options):
    """How the policy is trained. The defaults suit small models; RSO (section 4) has Adafactor and a rate of 1e-5.

    Attributes:
        loss: the loss and its settings.
        num_epochs: passes over the groups.
        batch_size: prompts (groups) of one optimizer step, over all workers. A prompt counts once, however
            many responses and pairs it has.
        learning_rate: the peak, reached at the end of the warmup.
        lr_scheduler: what follows the warmup: linear or cosine decay to 0, or constant.
        warmup_fraction: share of all optimizer steps with a linearly rising rate.
        weight_decay: decoupled decay of every parameter (AdamW's).
        max_grad_norm: the global gradient norm is clipped to this; 0 turns clipping off.
        optimizer: "adamw", or "adafactor" (less memory; the paper's). Under DeepSpeed, Adafactor sees
            flattened partitions, so its update is not the paper's and depends on the number of workers.
        precision: of the forward and backward pass. Gradients are always added up in float32, over micro-batches and
            workers, and the optimizer keeps float32 master weights. On processors without arithmetic for bfloat16, in
            training and everywhere else, it stands for float32 (`core.arithmetic`).
        micro_batch_tokens: padded tokens of one forward pass on one worker; memory grows with it (raise it
            on a GPU), results do not depend on it. A group that is longer is split by response, each part with
            a copy of the prompt; a loss needs the whole group, so it is then read twice (`training.split`).
        gradient_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        share_prompt: compute each prompt once for all of its responses. "auto": where the model's family is
            tested for it and a prompt has several; true: insist; false: one sequence per response.
        attention: how branches attend: "sdpa", stacked, to their prompts and to themselves
            (`core.branch_attention`); or, on GPUs, "flex": PyTorch's FlexAttention, the whole pass in one kernel.
        zero_stage: DeepSpeed's partitioning between workers: 1 optimizer state, 2 and gradients, 3 and
            weights. The losses are the same; 1 is the fastest on CPU.
        checkpoint_every_steps: optimizer steps between checkpoints; 0 keeps none.
        keep_checkpoints: how many of the newest checkpoints stay on disk.
        choose: keep the best model by proxy win rate, and stop early; None keeps the last one.
    """

    HARDWARE: ClassVar[frozenset[str]] = frozenset(
        {"micro_batch_tokens", "gradient_checkpointing", "share_prompt", "zero_stage", "attention"}
        | {"checkpoint_every_steps", "keep_checkpoints"}
    )

    loss: LossOptions = Field(default={"kind": "sigmoid_norm"}, validate_default=True)
    num_epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-5, gt=0)
    lr_scheduler: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, ge=0)
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    micro_batch_tokens: int = Field(default=2048, ge=1)
    gradient_checkpointing: bool = False
    share_prompt: Literal["auto"] | bool = "auto"
    attention: Literal["sdpa", "flex"] = "sdpa"
    zero_stage: Literal[1, 2, 3] = 1
    checkpoint_every_steps: int = Field(default=50, ge=0)
    keep_checkpoints: int = Field(default=2, ge=1)
    choose: ChoiceOptions | None = None
