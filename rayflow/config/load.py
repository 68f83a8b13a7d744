"""From a YAML file to a checked configuration, or a sentence that says what to mend."""

from __future__ import annotations

import copy
import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from rayflow.config.run import JobConfig, RunConfig
from rayflow.core.options import InvalidChoiceError
from rayflow.core.private import hide, secret_settings, shown
from rayflow.core.registry import load_object
from rayflow.errors import ConfigError

_SCHEMAS = {
    "data": "rayflow.config.reward:RewardConfig",
    "policy": "rayflow.config.evaluate:EvaluateConfig",
    "refresh": "rayflow.config.refresh:RefreshConfig",
    "rows": "rayflow.config.study:StudyConfig",
}
"""Blocks that only another job than a run has; by name, because their modules know this one."""
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
            names the file and every offending key.
    """
    return _validate(_overridden(_with_base(Path(path)), overrides), schema, str(path))


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings of a file over those of the files that it extends, unchecked.

    Raises:
        ConfigError: a file is missing or not YAML.
    """
    return _with_base(Path(path))


def load_options(data: dict[str, Any], overrides: list[str] | None, schema: type[Model], what: str) -> Model:
    """Check settings that are not from a file, with overrides as in `load_config`.

    Args:
        what: names the settings in the error message.

    Raises:
        ConfigError: as `load_config`.
    """
    return _validate(_overridden(data, overrides), schema, what)


def _overridden(data: dict[str, Any], overrides: list[str] | None) -> dict[str, Any]:
    for text in overrides or []:
        if text.startswith("@"):
            data = _merge(data, _with_base(Path(text[1:])))
        else:
            _apply_override(data, *_parse_override(text))
    return data


def schema_of(path: str | Path) -> type[JobConfig]:
    """The job that a file describes, by its keys: a run, unless a block says otherwise.

    Raises:
        ConfigError: as `load_config`.
    """
    data = _with_base(Path(path))
    target = next((schema for key, schema in _SCHEMAS.items() if key in data), None)
    return RunConfig if target is None else load_object(target, "configuration")


def override(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    """The configuration with some settings changed, each named by its dotted path, and checked again.

    Raises:
        ConfigError: as `load_config`.
    """
    data = config.model_dump(mode="json")
    for key, value in copy.deepcopy(
        settings
    ).items():  # a later one may reach into the block of an earlier one
        _apply_override(data, key, value)
    return _validate(data, RunConfig, f"The configuration of {config.name}")


def _validate(data: dict[str, Any], schema: type[Model], what: str) -> Model:
    try:
        config = schema.model_validate(data)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, loc)) or '(top)'}: {text}" for loc, text in _describe(error, schema)]
        raise ConfigError(f"{what} cannot be used:\n" + "\n".join(lines)) from None
    # Other settings, such as a cluster's, are not stored, and name the places where secrets are kept.
    if isinstance(config, JobConfig) and (held := secret_settings(config.model_dump(mode="json"))):
        raise ConfigError(
            f"{what} cannot be used:\n  {held[0]}: is a secret, and a configuration is stored with its run. Put it "
            "into an environment variable; Hugging Face's libraries read HF_TOKEN."
        )
    return config


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
        raise ConfigError(f"--set '{text}' must have the form a.b=value, or @file.yaml.")
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
                else f" (given: {shown(loc[-1] if loc else '', item['input'])})"
            )
            found.append((loc, hide(text) + given))
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
