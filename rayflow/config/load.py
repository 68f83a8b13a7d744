"""From a YAML file to a checked configuration, or a sentence that says what to mend."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rayflow.config.hints import fields_at, unknown_key
from rayflow.config.run import JobConfig, RunConfig
from rayflow.config.settings import apply, overridden, read_settings
from rayflow.core.options import InvalidChoiceError
from rayflow.core.private import hide, secret_settings, shown
from rayflow.core.registry import load_object
from rayflow.errors import ConfigError

_JOBS = {
    "data": ("rayflow.config.reward:RewardConfig", "train-reward"),
    "policy": ("rayflow.config.evaluate:EvaluateConfig", "evaluate"),
    "refresh": ("rayflow.config.refresh:RefreshConfig", "refresh"),
    "rows": ("rayflow.config.study:StudyConfig", "study run"),
}
"""Blocks that only another job than a run has: its schema, by name because that module knows this one, and command."""
_MOST = 5
"""Mistakes that are named at once; a file with more of them is most likely for something else."""
Config = TypeVar("Config", bound=JobConfig)
Model = TypeVar("Model", bound=BaseModel)


def load_config(
    path: str | Path, overrides: list[str] | None = None, schema: type[Config] = RunConfig
) -> Config:
    """Read, override and check a configuration.

    Args:
        path: the YAML file; its key `extends` names another one whose settings it changes.
        overrides: "a.b=value" settings, the value read as YAML; or "@file", all settings of another file.
        schema: the job that it must describe.

    Raises:
        ConfigError: the file is missing or not YAML, or a key, kind, type or value does not fit. The message
            names the file and every offending key, or the command that the file is for.
    """
    data = overridden(read_settings(path), overrides)
    other = next((block for block in _JOBS if block in data and block not in schema.model_fields), None)
    if other is not None:
        raise ConfigError(f"{path} has a block '{other}': it is for `rayflow {_JOBS[other][1]}`.")
    if "prompts" in data and "prompts" not in schema.model_fields and not data.keys() & _JOBS.keys():
        raise ConfigError(f"{path} has a block 'prompts' and none of another job: it is for `rayflow run`.")
    return _validate(data, schema, str(path))


def load_options(data: dict[str, Any], overrides: list[str] | None, schema: type[Model], what: str) -> Model:
    """Check settings that are not from a file, with overrides as in `load_config`.

    Args:
        what: names the settings in the error message.

    Raises:
        ConfigError: as `load_config`.
    """
    return _validate(overridden(data, overrides), schema, what)


def schema_of(path: str | Path) -> type[JobConfig]:
    """The job that a file describes, by its keys: a run, unless a block says otherwise.

    Raises:
        ConfigError: as `load_config`.
    """
    data = read_settings(path)
    target = next((schema for block, (schema, _) in _JOBS.items() if block in data), None)
    return RunConfig if target is None else load_object(target, "configuration")


def command_of(path: str | Path) -> str:
    """The command that a file is for, found as in `schema_of`: "run", "evaluate", "train-reward", ..."""
    data = read_settings(path)
    return next((command for block, (_, command) in _JOBS.items() if block in data), "run")


def override(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    """The configuration with some settings changed, each named by its dotted path, and checked again.

    Raises:
        ConfigError: as `load_config`.
    """
    data = config.model_dump(mode="json")
    apply(data, copy.deepcopy(settings))
    return _validate(data, RunConfig, f"The configuration of {config.name}")


def _validate(data: dict[str, Any], schema: type[Model], what: str) -> Model:
    try:
        config = schema.model_validate(data)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, loc)) or '(top)'}: {text}"
            for loc, text in _describe(error, schema, schema)
        ]
        if len(lines) > _MOST:
            lines[_MOST:] = [f"  and {len(lines) - _MOST} more"]
        raise ConfigError(f"{what} cannot be used:\n" + "\n".join(lines)) from None
    # Other settings, such as a cluster's, are not stored, and name the places where secrets are kept.
    if isinstance(config, JobConfig) and (held := secret_settings(config.model_dump(mode="json"))):
        raise ConfigError(
            f"{what} cannot be used:\n  {held[0]}: is a secret, and a configuration is stored with its run. Put it "
            "into an environment variable; Hugging Face's libraries read HF_TOKEN."
        )
    return config


def _describe(
    error: ValidationError, model: type[BaseModel], job: type[BaseModel]
) -> list[tuple[tuple[Any, ...], str]]:
    """One (location, sentence) per mistake; mistakes inside a chosen kind carry their full location."""
    found = []
    for item in error.errors():
        loc = item["loc"]
        inner = item.get("ctx", {}).get("error")
        if isinstance(inner, InvalidChoiceError):
            found += [((*loc, *below), text) for below, text in _describe(inner.error, inner.model, job)]
        elif item["type"] == "extra_forbidden":
            hint = unknown_key(str(loc[-1]), fields_at(model, loc[:-1]), job)
            found.append((loc, f"unknown key. {hint}"))
        elif item["type"] == "missing":
            found.append((loc, "is required"))
        elif item["type"] == "model_type":
            found.append((loc, f"must be a block of settings, not {shown(loc[-1], item['input'])}"))
        else:
            text = item["msg"].removeprefix("Value error, ")
            given = (
                ""
                if item["input"] is None or isinstance(item["input"], dict)
                else f" (given: {shown(loc[-1] if loc else '', item['input'])})"
            )
            found.append((loc, hide(text) + given))
    return found
