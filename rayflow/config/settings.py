"""Settings before they are checked: of a YAML file, of the files that it extends, and of `--set`.

A block that names its `kind` is that kind's alone, wherever it stands: the settings of another kind, which would be
unknown to it or mean something else, go with the other kind.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from functools import reduce
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from rayflow.core.options import DEFAULT_KINDS
from rayflow.errors import ConfigError

_FAMILIES = {
    "engine": "engine",
    "select": "selection",
    "pair": "pairing",
    "loss": "loss",
    "layout": "layout",
    "track": "tracker",
}
"""Families of the blocks that may leave their kind out."""


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings of a file over those of the files that it extends, unchecked.

    Raises:
        ConfigError: a file is missing or not YAML, has a key twice, or extends itself.
    """
    return reduce(_merge, _layers(Path(path)))


def overridden(data: dict[str, Any], overrides: Iterable[str] | None) -> dict[str, Any]:
    """Settings with others over them, in order.

    Args:
        data: what is changed; it may be changed in place.
        overrides: "a.b=value", the value read as YAML; or "@file", the settings of another file. Where that file
            `extends` others, `data` takes the place of the one at the bottom: a method goes over any configuration.

    Raises:
        ConfigError: one of them has another form, or its file is unusable.
    """
    for is_file, texts in groupby(overrides or (), key=lambda text: text.startswith("@")):
        if is_file:
            for text in texts:
                layers = _layers(Path(text[1:]))
                data = reduce(_merge, layers[1:] or layers, data)
        else:
            apply(data, dict(_parse_override(text) for text in texts), whole=True)
    return data


def as_override(key: str, text: str | Path) -> str:
    """The override that sets `key` to a text, whatever YAML would take it for: a date, a number, a comment."""
    return f"{key}={json.dumps(str(text), ensure_ascii=False)}"


def apply(data: dict[str, Any], settings: dict[str, Any], whole: bool = False) -> None:
    """Change some settings in place, each named by its dotted path.

    Kinds come first, since a new kind empties its block; of the others, a later one may reach into a block that an
    earlier one has set.

    Args:
        data: what is changed.
        settings: what they become.
        whole: a block takes the place of the one that is there; else it changes only what it names, as a block of a
            file does with the file that it extends.

    Raises:
        ConfigError: a path leads through a value.
    """
    for key in sorted(settings, key=lambda key: not key.endswith(".kind")):
        _apply(data, key, settings[key], whole)


def _apply(data: dict[str, Any], key: str, value: Any, whole: bool) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        below = data.get(parent)
        if isinstance(below, str):  # `pair: tournament` is short for `pair: {kind: tournament}`
            below = {"kind": below}
        data[parent] = below = {} if below is None else below
        if not isinstance(below, dict):
            raise ConfigError(f"Setting '{key}': '{parent}' is a value, not a block of settings.")
        data = below
    if last == "kind" and parents and value != _kind_of(data, parents[-1]):
        data.clear()
    data[last] = value if whole else _over(data.get(last), value, last)


def _kind_of(block: dict[str, Any], name: str) -> Any:
    return block.get("kind", DEFAULT_KINDS.get(_FAMILIES.get(name, "")))


def _layers(path: Path, above: tuple[Path, ...] = ()) -> list[dict[str, Any]]:
    """The settings of a file, last, and of the files that it `extends`, each named from the folder of the next one.

    Raises:
        ConfigError: a file is missing or unusable, or a file extends itself.
    """
    if path.resolve() in above:
        raise ConfigError(f"Configuration file '{path}' extends itself.")
    data = _read_yaml(path)
    base = data.pop("extends", None)
    if base is None:
        return [data]
    if not isinstance(base, str):
        raise ConfigError(f"'extends' in '{path}' must name one file, not {base!r}.")
    return [*_layers(path.parent / base, (*above, path.resolve())), data]


def _merge(base: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Block by block; one that names its `kind` replaces the whole block, whose settings were another kind's."""
    return base | {key: _over(base.get(key), value, key) for key, value in data.items()}


def _over(below: Any, value: Any, name: str) -> Any:
    """One setting over another: a block changes what it names of the block below, unless it names a `kind`."""
    if isinstance(below, str) and name in _FAMILIES:
        below = {"kind": below}
    inside = isinstance(value, dict) and isinstance(below, dict) and "kind" not in value
    return _merge(below, value) if inside else value


class _Loader(yaml.SafeLoader):
    """YAML of plain values, in which a key that stands twice in a block is an error: the first would be lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A block as it is written: what `<<` takes over from another one comes later, and may be written again."""
        node = super().compose_mapping_node(anchor)
        first: dict[str, yaml.ScalarNode] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and first.setdefault(key.value, key) is not key:
                lines = f"lines {first[key.value].start_mark.line + 1} and {key.start_mark.line + 1}"
                raise yaml.YAMLError(f"'{key.value}' stands twice, in {lines}; join the two")
        return node


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506, it is a safe loader
    except FileNotFoundError:
        near = difflib.get_close_matches(
            path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1, cutoff=0.8
        )
        hint = f" Did you mean '{path.parent / near[0]}'?" if near else ""
        raise ConfigError(f"Configuration file '{path}' does not exist.{hint}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"Configuration file '{path}' is not a text file.") from None
    except IsADirectoryError:
        raise ConfigError(f"Configuration file '{path}' is a folder; give a YAML file.") from None
    except OSError as error:
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
