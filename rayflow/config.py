"""The border: one YAML file becomes one frozen `RunConfig`, or a sentence that says what to mend.

Nothing heavy is imported here, so a configuration is checked in well under a second, before any cluster.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from rayflow.core.options import (
    EngineOptions,
    InvalidChoiceError,
    LayoutOptions,
    Options,
    PairingOptions,
    RewardOptions,
    SelectionOptions,
)
from rayflow.engines.base import SamplingOptions
from rayflow.errors import ConfigError
from rayflow.training.options import TrainOptions

Config = TypeVar("Config", bound="JobConfig")


class PromptSource(Options):
    """Where prompts, and the responses given with them, come from.

    Attributes:
        path: a .jsonl, .json (either also .gz) or .parquet file, a folder of such files, or a Hugging Face
            dataset saved with `save_to_disk`.
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
    """How candidates are drawn, by which engine, and from which model (None: the run's own)."""

    engine: EngineOptions = Field(default={"kind": "vllm"}, validate_default=True)
    model: str | None = None

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

    baseline: Literal["sft", "target"] = "sft"
    baseline_model: str | None = None
    num_samples: int = Field(default=8, gt=0)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    num_resamples: int = Field(default=10_000, gt=0)


class PoolOptions(Options):
    """The machines of one stage. Outside the fingerprint: results do not depend on it.

    Attributes:
        num_workers: actors (each holds one engine or model), or training processes.
        num_cpus, num_gpus: of each worker; fractions share a device.
        in_flight: shards that one worker works on at the same time.
    """

    num_workers: int = Field(default=1, gt=0)
    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    in_flight: int = Field(default=1, gt=0)


class ComputeOptions(Options):
    """Where and how wide the run is executed; never part of a fingerprint.

    Attributes:
        runner: "ray", or "local" for one process without Ray.
        address: a running cluster ("auto" or host:port); None starts Ray on this machine.
        shard_size: prompts per shard, the unit of commit and resume. Fixed when a run's prompts are stored.
        sample, encode, score, reference: actor pools; `transform` runs selection and pairing as tasks.
        label: actor pool that holds a pairwise reward a second time, to label pairs and to compare policies.
        train: training workers.
        max_restarts: how often an actor, or the training group, is started again after its process was lost.
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


class RoundOptions(Options):
    """Repetitions of the whole job, each from the policy that the last one trained.

    Attributes:
        num: rounds.
        reference: the frozen policy of later rounds: the "previous" round's, or the "original" SFT policy.
        resample: draw and score anew in every round; false learns from the first round's samples throughout.
        overrides: settings of each round, in order, such as [{select.threshold: 0.7}, {select.threshold: 0.8}].
    """

    num: int = Field(default=1, gt=0)
    reference: Literal["previous", "original"] = "previous"
    resample: bool = True
    overrides: tuple[dict[str, Any], ...] = ()


class JobConfig(Options):
    """What every job has.

    Attributes:
        name: names the run's folder, `<runs_dir>/<name>`.
        seed: every random draw derives from it, the stage and the prompt.
        model: what training starts from: a local folder or a hub id.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    runs_dir: str = "runs"
    seed: int = Field(default=0, ge=0)
    model: str

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
            here), "direct" (preferences that the data brings, no reward model), or "targets" (supervised).
        reward: what scores responses; "direct" and "targets" need it only to evaluate.
        select, pair: of sampled responses only: the data's own pairs are taken as they are.
        max_failed_fraction: a stage stops when more than this share of its rows failed.
        The blocks are documented at their classes.
    """

    source: Literal["sampled", "direct", "targets"] = "sampled"
    prompts: PromptOptions
    sample: SampleOptions = SampleOptions()
    reward: RewardOptions = Field(default=None, validate_default=True)
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
            for block, kind in (("select", "rejection"), ("pair", "first_round")):
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

    @property
    def sources(self) -> tuple[PromptSource, ...]:
        """Every file or folder that rows are read from."""
        given = (self.prompts.train, self.prompts.validation, self.prompts.evaluation)
        return tuple(source for source in given if source is not None)


def load_config(
    path: str | Path, overrides: list[str] | None = None, schema: type[Config] = RunConfig
) -> Config:
    """Read, override and check a configuration.

    Args:
        path: the YAML file; its key `extends` names another one whose settings it changes.
        overrides: "a.b=value" settings, the value read as YAML.
        schema: the job that it must describe.

    Raises:
        ConfigError: the file is missing or not YAML, or a key, kind, type or value does not fit. The message
            names the file and every offending key.
    """
    data = _with_base(Path(path))
    for text in overrides or []:
        _apply_override(data, *_parse_override(text))
    return _validate(data, schema, str(path))


def override(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    """The configuration with some settings changed, each named by its dotted path, and checked again.

    Raises:
        ConfigError: as `load_config`.
    """
    data = config.model_dump(mode="json")
    for key, value in settings.items():
        _apply_override(data, key, value)
    return _validate(data, RunConfig, f"The configuration of {config.name}")


def _validate(data: dict[str, Any], schema: type[Config], what: str) -> Config:
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, loc)) or '(top)'}: {text}" for loc, text in _describe(error, schema)]
        raise ConfigError(f"{what} cannot be used:\n" + "\n".join(lines)) from None


def _with_base(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings of a file over those of the file that it `extends`, which is named from its own folder.

    Raises:
        ConfigError: a file is missing or unusable, or a file extends itself.
    """
    if path.resolve() in above:
        raise ConfigError(f"Configuration file '{path}' extends itself.")
    data = _read_yaml(path)
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ConfigError(f"'extends' in '{path}' must name one file, not {base!r}.")
    return _merge(_with_base(path.parent / base, (*above, path.resolve())), data)


def _merge(base: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Block by block; one that names its `kind` replaces the whole block, whose settings were another kind's."""
    merged = dict(base)
    for key, value in data.items():
        inside = isinstance(value, dict) and isinstance(base.get(key), dict) and "kind" not in value
        merged[key] = _merge(base[key], value) if inside else value
    return merged


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1)
        hint = f" Did you mean '{path.parent / near[0]}'?" if near else ""
        raise ConfigError(f"Configuration file '{path}' does not exist.{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Configuration file '{path}' cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"Configuration file '{path}' is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"Configuration file '{path}' must hold a mapping of settings.")
    return data


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set '{text}' must have the form a.b=value.")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set '{text}': the value is not valid YAML: {error}") from None


def _apply_override(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        below = data.get(parent)
        if isinstance(below, str):  # `pair: tournament` is short for `pair: {kind: tournament}`
            below = {"kind": below}
        data[parent] = below = {} if below is None else below
        if not isinstance(below, dict):
            raise ConfigError(f"Setting '{key}': '{parent}' is a value, not a block of settings.")
        data = below
    data[last] = value


def _describe(error: ValidationError, model: type[BaseModel]) -> list[tuple[tuple[Any, ...], str]]:
    """One (location, sentence) per mistake; mistakes inside a chosen kind carry their full location."""
    found = []
    for item in error.errors():
        loc = item["loc"]
        inner = item.get("ctx", {}).get("error")
        if isinstance(inner, InvalidChoiceError):
            found += [((*loc, *below), text) for below, text in _describe(inner.error, inner.model)]
        elif item["type"] == "extra_forbidden":
            known = _fields_at(model, loc[:-1])
            near = difflib.get_close_matches(str(loc[-1]), known, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."
            found.append((loc, f"unknown key. {hint}"))
        elif item["type"] == "missing":
            found.append((loc, "is required"))
        else:
            text = item["msg"].removeprefix("Value error, ")
            given = (
                ""
                if item["input"] is None or isinstance(item["input"], dict)
                else f" (given: {item['input']!r})"
            )
            found.append((loc, text + given))
    return found


def _fields_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    for name in (part for part in loc if not isinstance(part, int)):  # places in a list change nothing
        field = model.model_fields.get(str(name))
        candidates = [field.annotation] if field else []
        candidates += getattr(candidates[0], "__args__", ()) if candidates else ()
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return sorted(model.model_fields)
