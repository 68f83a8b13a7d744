"""The border: one YAML file becomes one frozen `RunConfig`, or a sentence that says what to mend.

Nothing heavy is imported here, so a configuration is checked in well under a second, before any cluster.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError

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
    """Prompts to train on, and held-out prompts to evaluate on (None: no evaluation)."""

    train: PromptSource
    evaluation: PromptSource | None = None


class SampleOptions(SamplingOptions):
    """How candidates are drawn, and by which engine."""

    engine: EngineOptions = Field(default={"kind": "vllm"}, validate_default=True)


class ReferenceOptions(Options):
    """The frozen policy's log-probabilities of the accepted responses.

    Attributes:
        precision: dtype of the forward pass; the log-softmax is always float32.
        batch_tokens: padded tokens per forward pass.
    """

    precision: Literal["float32", "bfloat16"] = "bfloat16"
    batch_tokens: int = Field(default=4096, gt=0)


class EvaluationOptions(Options):
    """The trained policy against the policy it started from, on held-out prompts.

    Attributes:
        num_samples: responses per prompt and policy; every pair of them is compared.
        confidence: of the bootstrap interval over prompts.
        num_resamples: bootstrap resamples.
    """

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
        sample, score, reference: actor pools; `transform` runs selection and pairing as tasks.
        train: training workers.
        max_restarts: how often an actor, or the training group, is started again after its process was lost.
    """

    runner: Literal["ray", "local"] = "ray"
    address: str | None = None
    shard_size: int = Field(default=8, gt=0)
    sample: PoolOptions = PoolOptions(in_flight=3)
    score: PoolOptions = PoolOptions(num_cpus=0.5)
    transform: PoolOptions = PoolOptions(num_cpus=0.25)
    reference: PoolOptions = PoolOptions()
    train: PoolOptions = PoolOptions(num_workers=2)
    max_restarts: int = Field(default=3, ge=0)


class RunConfig(Options):
    """One run, whole.

    Attributes:
        name: names the run's folder, `<runs_dir>/<name>`.
        seed: every random draw derives from it, the stage and the prompt.
        model: the SFT policy: a local folder or a hub id. It samples, it is the reference, it is trained.
        max_failed_fraction: a stage stops when more than this share of its rows failed.
        The blocks are documented at their classes.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    runs_dir: str = "runs"
    seed: int = Field(default=0, ge=0)
    model: str
    prompts: PromptOptions
    sample: SampleOptions = SampleOptions()
    reward: RewardOptions
    select: SelectionOptions = Field(default={"kind": "rejection"}, validate_default=True)
    pair: PairingOptions = Field(default={"kind": "first_round"}, validate_default=True)
    reference: ReferenceOptions = ReferenceOptions()
    train: TrainOptions = TrainOptions()
    evaluate: EvaluationOptions = EvaluationOptions()
    max_failed_fraction: float = Field(default=0.05, ge=0, le=1)
    compute: ComputeOptions = ComputeOptions()

    @property
    def root(self) -> Path:
        """The run's folder."""
        return Path(self.runs_dir).expanduser().absolute() / self.name

    def to_yaml(self) -> str:
        """The resolved configuration, every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_config(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """Read, override and check a configuration.

    Args:
        path: the YAML file.
        overrides: "a.b=value" settings, the value read as YAML.

    Raises:
        ConfigError: the file is missing or not YAML, or a key, kind, type or value does not fit. The message
            names the file and every offending key.
    """
    data = _read_yaml(Path(path))
    for override in overrides or []:
        _apply_override(data, override)
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, loc)) or '(top)'}: {text}" for loc, text in _describe(error, RunConfig)
        ]
        raise ConfigError(f"{path} cannot be used:\n" + "\n".join(lines)) from None


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


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set '{override}' must have the form a.b=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set '{override}': the value is not valid YAML: {error}") from None
    *parents, last = key.strip().split(".")
    for parent in parents:
        below = data.get(parent)
        if isinstance(below, str):  # `pair: tournament` is short for `pair: {kind: tournament}`
            below = {"kind": below}
        data[parent] = below = {} if below is None else below
        if not isinstance(below, dict):
            raise ConfigError(f"--set '{override}': '{parent}' is a value, not a block of settings.")
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
            given = "" if isinstance(item["input"], dict) else f" (given: {item['input']!r})"
            found.append((loc, text + given))
    return found


def _fields_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    for name in loc:
        field = model.model_fields.get(str(name))
        candidates = [field.annotation] if field else []
        candidates += getattr(candidates[0], "__args__", ()) if candidates else ()
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return sorted(model.model_fields)
