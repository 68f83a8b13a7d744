"""Whether the machines of a cluster reach the models that a configuration names: they are never sent along."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rayflow.errors import ConfigError
from rayflow.pipeline.named import Keys, dotted

Found = Iterable[tuple[Keys, Any]]
_MODEL_KEYS = ("model", "baseline_model")
_RUN_KEYS = (("policy", "run"), ("baseline", "run"))


def check_models(found: Found) -> None:
    """Models and runs stay where they are, so a path among them must mean the same there.

    Raises:
        ConfigError: one of them is a relative path.
    """
    for keys, value in found:
        if not isinstance(value, str) or value.startswith(("/", "~")):
            continue
        is_model = keys[-1] in _MODEL_KEYS and (value.startswith(".") or Path(value).exists())
        if is_model or keys[-2:] in _RUN_KEYS:
            raise ConfigError(
                f"{dotted(keys)} '{value}' is a relative path, and models are not sent. Give "
                f"{'a hub id, or ' if is_model else ''}the absolute path of a folder that the cluster's machines see."
            )


def laptop_models(found: Found, shared: Sequence[str]) -> dict[str, list[str]]:
    """Models that may lie on this machine alone: in a home, or in a folder that is here.

    Args:
        found: settings with the keys that lead to them.
        shared: folders that the cluster's machines see too.

    Returns:
        By path, the settings that name it.
    """
    named: dict[str, list[str]] = {}
    for keys, value in found:
        if keys[-1] in _MODEL_KEYS and isinstance(value, str) and _is_ours(value, shared):
            named.setdefault(value, []).append(dotted(keys))
    return named


def _is_ours(model: str, shared: Sequence[str]) -> bool:
    path = Path(model).expanduser()
    if not path.is_absolute() or any(path.is_relative_to(Path(each).expanduser()) for each in shared):
        return False
    return model.startswith("~") or path.exists()


def doubts(found: Found, shared: Sequence[str], runner: str | None) -> list[str]:
    """What a person should hear before a job is sent, as sentences.

    Args:
        found, shared: see `laptop_models`.
        runner: of the job's compute block, if it has one.
    """
    told = [
        f"{', '.join(names)}: '{path}' is a path of this machine, and models are not sent: every machine of the "
        f"cluster must have it. If not: --set {names[0]}=ORG/NAME, an id of the hub. If they see that folder: "
        "--shared FOLDER."
        for path, names in laptop_models(found, shared).items()
    ]
    if runner == "local":
        told.append(
            "compute.runner is local: the whole job would be one process on the cluster's head. For all of its "
            "machines: --set compute.runner=ray."
        )
    return told
