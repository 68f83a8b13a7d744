"""The blocks of a run's configuration, each a frozen set of settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from rayflow.core.options import EngineOptions, InvalidChoiceError, LayoutOptions, Options
from rayflow.engines.base import SamplingOptions


class PromptSource(Options):
    """Where prompts, and the responses given with them, come from.

    Attributes:
        path: a .jsonl, .json (either also .gz) or .parquet file, a folder with such files of one form at any depth,
            or a Hugging Face dataset saved with `save_to_disk`.
        layout: how a row is read; by default as its keys tell.
        split: which split, where the folder holds several.
        limit: use only the first rows; None uses all.
    """

    path: str
    layout: LayoutOptions = Field(default={"kind": "auto"}, validate_default=True)
    split: str | None = None
    limit: int | None = Field(default=None, gt=0)


class PromptOptions(Options):
    """Prompts to train on.

    Attributes:
        train: what is learned from.
        validation: held-out prompts by which `train.choose` picks the checkpoint.
        evaluation: held-out prompts for the final comparison (None: no evaluation).
    """

    train: PromptSource
    validation: PromptSource | None = None
    evaluation: PromptSource | None = None


class SampleOptions(SamplingOptions):
    """How candidates are drawn, by which engine, from which model, with which seed (None: the run's own).

    With a seed of its own, runs that differ in `seed` learn from the same samples.
    """

    engine: EngineOptions = Field(default={"kind": "vllm"}, validate_default=True)
    model: str | None = None
    seed: int | None = Field(default=None, ge=0)

    def drawing(self, num_candidates: int | None = None) -> SamplingOptions:
        """Only how responses are drawn, with another number of them if given."""
        fields = {name: getattr(self, name) for name in SamplingOptions.model_fields}
        return SamplingOptions(**fields | ({"num_candidates": num_candidates} if num_candidates else {}))


class ReferenceOptions(Options):
    """The frozen policy's log-probabilities of the accepted responses.

    Attributes:
        model: the reference policy; None is the run's model.
        source: "recompute", a pass of the reference over every response; or "sampler", the log-probabilities
            that the engine returned with its samples, which cost nothing. Given responses are always recomputed.
        check_fraction: share of prompts recomputed all the same under "sampler", to measure the difference.
        max_difference: nats; the report warns when the mean absolute difference of a response's summed
            log-probability is larger.
        precision: dtype of the forward pass; the log-softmax is always float32.
        batch_tokens: padded tokens per forward pass.
    """

    model: str | None = None
    source: Literal["recompute", "sampler"] = "recompute"
    check_fraction: float = Field(default=0.05, ge=0, le=1)
    max_difference: float = Field(default=0.5, gt=0)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    batch_tokens: int = Field(default=4096, gt=0)


class EvaluationOptions(Options):
    """The trained policy against the policy it started from, on held-out prompts.

    Attributes:
        baseline: what the policy is compared with: "sft", samples of the policy it started from, or
            "target", the prompts' own targets (RSO's proxy win rate).
        baseline_model: the policy behind "sft"; None is the run's model.
        num_samples: responses per prompt and policy; every pair of them is compared.
        confidence: of the bootstrap interval over prompts.
        num_resamples: bootstrap resamples.
    """

    # What a model holds is in the fingerprint of the stage that samples from it, not where it lies.
    HARDWARE = frozenset({"baseline_model"})

    baseline: Literal["sft", "target"] = "sft"
    baseline_model: str | None = None
    num_samples: int = Field(default=8, gt=0)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    num_resamples: int = Field(default=10_000, gt=0)


class WorkerRange(Options):
    """A pool that grows while shards wait for it, and shrinks when they do not.

    Attributes:
        min: workers from the start, and always.
        max: workers at most.
    """

    min: int = Field(default=1, gt=0)
    max: int = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> WorkerRange:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self

    def __str__(self) -> str:
        return f"{self.min}-{self.max}"


def _workers(value: Any) -> Any:
    """One sentence for a mistake, not one for each of the two forms."""
    if isinstance(value, WorkerRange):
        return value
    if isinstance(value, dict):
        try:
            return WorkerRange.model_validate(value)
        except ValidationError as error:
            raise InvalidChoiceError(error, WorkerRange) from error
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("Input should be a whole number, or {min: .., max: ..}")
    if value <= 0:
        raise ValueError("Input should be greater than 0")
    return value


class PoolOptions(Options):
    """The machines of one stage. Outside the fingerprint: results do not depend on it.

    Attributes:
        num_workers: actors (each holds one engine or model), or training processes; {min: .., max: ..} for a
            pool of actors that follows its queue.
        num_cpus, num_gpus: of each worker; fractions share a device. All GPUs of a worker are of one machine. On
            Ray a worker of no GPU sees none. Actors with less than a core and no GPU compute, on a machine of up to
            8 cores, on all of these behind the others.
        in_flight: shards that one worker works on at the same time.
        resources: Ray's custom resources of each worker, which pin it to the machines that offer them.
    """

    num_workers: Annotated[int | WorkerRange, BeforeValidator(_workers)] = 1
    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    in_flight: int = Field(default=1, gt=0)
    resources: dict[str, Annotated[float, Field(gt=0)]] = {}

    @property
    def fewest_workers(self) -> int:
        """How many there are from the start."""
        return self.num_workers.min if isinstance(self.num_workers, WorkerRange) else self.num_workers

    @property
    def most_workers(self) -> int:
        """How many there may be at the same time."""
        return self.num_workers.max if isinstance(self.num_workers, WorkerRange) else self.num_workers


class NodeOptions(Options):
    """Machines of a cluster that are alike.

    Attributes:
        name: of the group.
        count: how many, at most, where the cluster grows and shrinks.
        num_cpus, num_gpus: of each, as Ray sees them.
        resources: the custom resources that each offers.
    """

    name: str
    count: int = Field(default=1, gt=0)
    num_cpus: float = Field(ge=0)
    num_gpus: int = Field(default=0, ge=0)
    resources: dict[str, Annotated[float, Field(gt=0)]] = {}


class ComputeOptions(Options):
    """Where and how wide the run is executed; never part of a fingerprint.

    Attributes:
        runner: "ray", or "local" for one process without Ray.
        address: a running cluster ("auto" or host:port); None starts Ray on this machine.
        shard_size: prompts per shard, the unit of commit and resume. Fixed when a run's prompts are stored.
        sample, encode, score, reference: actor pools; `transform` runs selection and pairing as tasks.
        label: actor pool that holds a pairwise reward a second time, to label pairs and to compare policies.
        train: training workers, each on one GPU or on none.
        max_restarts: how often an actor, or the training group, is started again after its process was lost.
        nodes: the cluster's machines. Given, every stage is placed on them before anything starts, and a stage
            that finds no room is refused; empty, they are not known beforehand.
        stall_minutes: on Ray, a step that finishes no shard and no training step for so long is ended with an
            error and can be gone on with; longer than a model's start and the slowest shard. 0 waits for ever.
    """

    runner: Literal["ray", "local"] = "ray"
    address: str | None = None
    shard_size: int = Field(default=8, gt=0)
    sample: PoolOptions = PoolOptions(in_flight=3)
    score: PoolOptions = PoolOptions(num_cpus=0.5)
    label: PoolOptions = PoolOptions(num_cpus=0.25)
    encode: PoolOptions = PoolOptions(num_cpus=0.25)
    transform: PoolOptions = PoolOptions(num_cpus=0.25)
    reference: PoolOptions = PoolOptions()
    train: PoolOptions = PoolOptions(num_workers=2)
    max_restarts: int = Field(default=3, ge=0)
    nodes: tuple[NodeOptions, ...] = ()
    stall_minutes: float = Field(default=60.0, ge=0)

    @field_validator("train")
    @classmethod
    def _training_workers_are_so_many_and_on_one_gpu_each(cls, pool: PoolOptions) -> PoolOptions:
        if isinstance(pool.num_workers, WorkerRange):
            raise ValueError(
                "num_workers must be a number: training workers compute every step together. Stop the run "
                "and go on with another number where the cluster has changed"
            )
        if pool.num_gpus > 1 or (pool.num_gpus % 1 and pool.num_workers > 1):
            raise ValueError(
                f"num_gpus is {pool.num_gpus:g}, and each training worker computes on one GPU of its own: set it to 1, "
                "and num_workers to the number of GPUs"
            )
        return pool


class RoundOptions(Options):
    """Repetitions of the whole job, each from the policy that the last one trained.

    Attributes:
        num: rounds.
        reference: the frozen policy of later rounds: the "previous" round's, or the "original" SFT policy. With
            `reference.source: sampler` it must be the one that samples.
        resample: draw and score anew in every round; false learns from the first round's samples throughout.
        overrides: settings of each round, in order, such as [{select.threshold: 0.7}, {select.threshold: 0.8}].
    """

    num: int = Field(default=1, gt=0)
    reference: Literal["previous", "original"] = "previous"
    resample: bool = True
    overrides: tuple[dict[str, Any], ...] = ()
