"""The configuration of `rayflow train-reward`: preferences in, a reward model out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rayflow.config.blocks import ComputeOptions, PromptSource
from rayflow.config.run import JobConfig
from rayflow.core.options import Options
from rayflow.training.options import TrainOptions

LOSSES = {"classifier": "bradley_terry", "ranker": "cross_entropy"}
"""The loss that each kind is trained with."""


class PreferenceOptions(Options):
    """Preference pairs to train on, and pairs to evaluate on.

    Attributes:
        train: rows with responses and the preferences between them, in any layout that gives both.
        evaluation: held-out pairs of a file of their own; training leaves out every prompt that is in it.
        holdout_fraction: without such a file, the share of the prompts of `train` that is held out instead.
            It is drawn by prompt: all pairs of a prompt are on one side.
    """

    train: PromptSource
    evaluation: PromptSource | None = None
    holdout_fraction: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _hold_out(cls, data: Any) -> Any:
        """A tenth of the prompts, where nothing else is said."""
        if isinstance(data, dict) and data.get("evaluation") is None and data.get("holdout_fraction") is None:
            data = {**data, "holdout_fraction": 0.1}
        return data

    @model_validator(mode="after")
    def _one_way(self) -> PreferenceOptions:
        if self.evaluation is not None and self.holdout_fraction is not None:
            raise ValueError("evaluation and holdout_fraction are two ways to hold pairs out: give one")
        return self


class QualityOptions(Options):
    """The trained reward model on the held-out pairs.

    Attributes:
        num_bins: bins of the predicted probability, for the calibration error and the reliability diagram.
        confidence: of the bootstrap interval over prompts.
        num_resamples: bootstrap resamples.
    """

    num_bins: int = Field(default=10, gt=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    num_resamples: int = Field(default=10_000, gt=0)


class RewardComputeOptions(ComputeOptions):
    """As for a run; `encode`, `train` and `score` are used. Rows are quick, so that shards hold more of them."""

    shard_size: int = Field(default=256, gt=0)


class RewardConfig(JobConfig):
    """The training of one reward model. Its model is a decoder-only language model.

    Attributes:
        kind: "classifier" scores one response (Bradley-Terry, a head on the model); "ranker" reads two and
            names the better one by a letter (RSO's pairwise ranker).
        train: as for a policy; the loss follows from the kind.
        max_failed_fraction: a stage stops when more than this share of its rows failed.
        The other blocks are documented at their classes.
    """

    kind: Literal["classifier", "ranker"]
    data: PreferenceOptions
    train: TrainOptions = Field(default={}, validate_default=True)
    evaluate: QualityOptions = QualityOptions()
    max_failed_fraction: float = Field(default=0.05, ge=0, le=1)
    compute: RewardComputeOptions = RewardComputeOptions()

    @model_validator(mode="before")
    @classmethod
    def _loss_of_kind(cls, data: Any) -> Any:
        """The loss need not be named: there is one for each kind."""
        if isinstance(data, dict) and data.get("kind") in LOSSES:
            train = data.get("train") or {}
            if isinstance(train, dict):
                data = {**data, "train": {"loss": {"kind": LOSSES[data["kind"]]}, **train}}
        return data

    @model_validator(mode="after")
    def _fits_kind(self) -> RewardConfig:
        if self.train.loss.kind != LOSSES[self.kind]:
            raise ValueError(f"a {self.kind} is trained with {LOSSES[self.kind]}: remove train.loss")
        if self.train.choose is not None:
            raise ValueError("train.choose compares policies, not reward models: remove it")
        return self

    @property
    def sources(self) -> tuple[PromptSource, ...]:
        """Every file or folder that rows are read from."""
        return tuple(source for source in (self.data.train, self.data.evaluation) if source is not None)
