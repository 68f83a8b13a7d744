"""One run, whole: the blocks together, and what does not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationInfo, field_validator, model_validator

from rayflow.config.blocks import (
    ComputeOptions,
    EvaluationOptions,
    PromptOptions,
    PromptSource,
    ReferenceOptions,
    RoundOptions,
    SampleOptions,
)
from rayflow.config.gpus import check_engine, check_room, computed_by_vllm
from rayflow.core.options import (
    DEFAULT_KINDS,
    KindOptions,
    Options,
    PairingOptions,
    RewardOptions,
    SelectionOptions,
    TrackerOptions,
)
from rayflow.core.registry import resolve
from rayflow.errors import ConfigError
from rayflow.training.options import TrainOptions


class JobConfig(Options):
    """What every job has.

    Attributes:
        name: names the run's folder, `<runs_dir>/<name>`.
        seed: every random draw derives from it, the stage and the prompt.
        model: what training starts from: a local folder or a hub id.
        track: where training metrics and the report's numbers go besides the report; never part of a fingerprint.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    runs_dir: str = "runs"
    seed: int = Field(default=0, ge=0)
    model: str
    track: TrackerOptions = Field(default={"kind": "none"}, validate_default=True)

    @field_validator("runs_dir")
    @classmethod
    def _is_mounted(cls, value: str) -> str:
        if "://" in value:
            raise ValueError(
                f"'{value}' is no folder: runs are written to a file system, with renames and locks. Mount the bucket, "
                "or use shared storage (NFS, EFS, Filestore)"
            )
        return value

    @property
    def root(self) -> Path:
        """The run's folder."""
        return Path(self.runs_dir).expanduser().absolute() / self.name

    def to_yaml(self) -> str:
        """The resolved configuration, every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class RunConfig(JobConfig):
    """One run, whole. Its model is the SFT policy: it samples, it is the reference, it is trained.

    Attributes:
        source: where the responses to learn from come from: "sampled" (drawn, scored, selected and paired
            here), "direct" (responses that the data brings), or "targets" (supervised).
        reward: what scores responses. "direct" and "targets" need it to evaluate, and "direct" for a loss that
            reads rewards of data without scores.
        score: whether sampled candidates are scored: "needed", only where selection, pairing or the loss
            reads their rewards; or "always", for the report and for choosing beta later.
        select, pair: of sampled responses only: the data's own pairs are taken as they are. Left out, they are the
            RSO paper's; no pairs are made for a loss that reads none.
        max_failed_fraction: a stage stops when more than this share of its rows failed.
        The blocks are documented at their classes.
    """

    source: Literal["sampled", "direct", "targets"] = "sampled"
    prompts: PromptOptions
    sample: SampleOptions = SampleOptions()
    reward: RewardOptions = Field(default=None, validate_default=True)
    score: Literal["needed", "always"] = "needed"
    select: SelectionOptions = None
    pair: PairingOptions = None
    reference: ReferenceOptions = ReferenceOptions()
    train: TrainOptions = TrainOptions()
    evaluate: EvaluationOptions = EvaluationOptions()
    rounds: RoundOptions = RoundOptions()
    max_failed_fraction: float = Field(default=0.05, ge=0, le=1)
    compute: ComputeOptions = ComputeOptions()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_source(cls, data: Any) -> Any:
        """The paper's selection and pairing, where responses are sampled."""
        if isinstance(data, dict) and data.get("source", "sampled") == "sampled":
            data = dict(data)
            kinds = {"select": DEFAULT_KINDS["selection"], "pair": _default_pairing(data.get("train"))}
            for block, kind in kinds.items():
                if data.get(block) is None:
                    data[block] = {"kind": kind}
        return data

    @field_validator("reward")
    @classmethod
    def _sampled_responses_are_scored(cls, reward: Any, info: ValidationInfo) -> Any:
        if reward is None and info.data.get("source") == "sampled":
            raise ValueError("is required")
        return reward

    @model_validator(mode="after")
    def _fits_source(self) -> RunConfig:
        if self.source != "sampled" and (self.select or self.pair):
            raise ValueError(
                f"source '{self.source}' takes the data's responses as they are: remove select and pair"
            )
        if self.reward is None and (self.prompts.evaluation or self.train.choose):
            raise ValueError(
                "reward is required to evaluate; add one, or remove prompts.evaluation and train.choose"
            )
        if self.reference.source == "sampler":
            self._check_sampler_is_reference()
        if len(self.rounds.overrides) > self.rounds.num:
            raise ValueError(
                f"rounds.overrides has {len(self.rounds.overrides)} entries for {self.rounds.num} rounds"
            )
        check_engine("sample.engine", self.sample.engine, "compute.sample", self.compute.sample)
        check_room("sample", self.sample.engine, self.sample.max_tokens)
        if computed_by_vllm(self.reward):
            check_engine("reward", self.reward, "compute.score", self.compute.score)
        if self.train.choose and self.prompts.validation is None:
            raise ValueError("train.choose compares checkpoints on held-out prompts: set prompts.validation")
        return self

    def _check_sampler_is_reference(self) -> None:
        if self.source != "sampled":
            raise ValueError(
                f"reference.source 'sampler' needs samples; source '{self.source}' is always recomputed"
            )
        if (self.reference.model or self.model) != (self.sample.model or self.model):
            raise ValueError(
                "reference.source 'sampler' is the sampling policy; reference.model names another one"
            )
        rounds = self.rounds
        new_sampler = self.sample.model is None and rounds.resample
        new_reference = self.reference.model is None and rounds.reference == "previous"
        if rounds.num > 1 and new_sampler != new_reference:
            policy = {True: "the previous round's policy", False: "the first round's"}
            raise ValueError(
                f"reference.source 'sampler' is the sampling policy, but from round 2 on {policy[new_sampler]} "
                f"samples and {policy[new_reference]} is the reference: set reference.source: recompute, or let "
                "rounds.reference and rounds.resample agree (previous with true, original with false)"
            )

    @property
    def sources(self) -> tuple[PromptSource, ...]:
        """Every file or folder that rows are read from."""
        given = (self.prompts.train, self.prompts.validation, self.prompts.evaluation)
        return tuple(source for source in given if source is not None)


def learns_from_pairs(loss: KindOptions) -> bool:
    """Whether the items of a loss are pairs; others learn from the accepted responses, whatever is paired."""
    return getattr(resolve("loss", loss.kind), "unit", None) == "pairs"


def _default_pairing(train: Any) -> str:
    """The kind for a train block as it was written, which is checked, and perhaps refused, when its turn comes."""
    try:
        loss = TrainOptions.model_validate(train or {}).loss
    except (ValueError, ConfigError):
        return DEFAULT_KINDS["pairing"]
    return DEFAULT_KINDS["pairing"] if learns_from_pairs(loss) else "none"
