"""The user's own Python files that a configuration names as "module:name", for a machine that lacks them."""

from __future__ import annotations

import ast
import importlib.util
import re
import site
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayflow.errors import ConfigError

_NAMED = re.compile(r"([A-Za-z_]\w*)((?:\.\w+)*):[A-Za-z_]\w*")
_KEYS = frozenset({"kind", "function"})
"""Settings whose value must be importable; any other text of that form is a plug-in only if it can be found."""


@dataclass
class Plugins:
    """What a configuration's own code consists of.

    Attributes:
        sources: files and package folders to send, by the name that they are imported under.
        installed: packages that were installed here, and so must be installed on the cluster too.
    """

    sources: dict[str, Path] = field(default_factory=dict)
    installed: set[str] = field(default_factory=set)


def find_plugins(settings: dict[str, Any]) -> Plugins:
    """Every module that the settings name, and the local modules that those import.

    Args:
        settings: the resolved configuration, as JSON values.

    Raises:
        ConfigError: a named module is nowhere to be found.
    """
    found = Plugins()
    for key, value in _leaves(settings):
        match = _NAMED.fullmatch(value)
        if match and match[1] != "rayflow":
            known = _add(match[1], found)
            if not known and key in _KEYS:
                raise ConfigError(
                    f"{key} '{value}': module '{match[1]}' is not found here, so it cannot be sent to the cluster. "
                    "Is its folder on PYTHONPATH?"
                )
    return found


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, key)
    elif isinstance(value, str):
        yield key, value


def _add(name: str, found: Plugins) -> bool:
    """Add a top-level module, and, if it is the user's, what it imports; whether it exists."""
    if name in found.sources or name in found.installed or name in sys.stdlib_module_names:
        return True
    path = _location(name)
    if path is None:
        return False
    if _is_installed(path):
        found.installed.add(name)
        return True
    found.sources[name] = path
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        for imported in sorted(_imports(file) - {"rayflow"}):
            _add(imported, found)
    return True


def _location(name: str) -> Path | None:
    """The file of a module or the folder of a package, without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None


def _is_installed(path: Path) -> bool:
    own = site.getusersitepackages()  # `pip install --user`
    places = {*site.getsitepackages(), own, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return any(path.resolve().is_relative_to(Path(place).resolve()) for place in places)


def _imports(file: Path) -> set[str]:
    """Top-level names that a file imports anywhere; none of one that is compiled."""
    if file.suffix != ".py":
        return set()
    try:
        tree = ast.parse(file.read_bytes(), str(file))  # bytes: the file may name its own encoding
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{file}, which would be sent to the cluster, is not Python: {error}") from None
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names
