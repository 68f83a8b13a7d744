"""What a submitted job takes along: one folder with this code, the resolved configuration, its data and plug-ins.

    rayflow/          this package, so that the cluster runs what was submitted
    jobs/             its entry points
    config.yaml       the configuration: `extends` and --set resolved, every default written out
    inputs/           the local data files, named by their content
    my_reward.py ..   the user's modules that the configuration names, and the local modules they import

Data files are put beside the runs when the job starts (see `arrival`), because the folder itself lives only as
long as the job. Models are not sent: a model is a hub id, or a folder that the cluster's machines see.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import BaseModel

import rayflow
from rayflow.config import JobConfig, PromptSource
from rayflow.errors import ConfigError, DataError
from rayflow.pipeline.plugins import find_plugins
from rayflow.sources.files import data_files

INPUTS = "inputs"
STORE = ".inputs"
"""Folder beside the runs where the data of submitted jobs lies, under names of its content."""
MAX_INPUT_BYTES = 200 << 20
Keys = tuple[str | int, ...]
_MODEL_KEYS = ("model", "baseline_model")
_SKIP = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


@dataclass(frozen=True)
class Package:
    """A folder that is ready to be sent.

    Attributes:
        folder: what is sent.
        config: the configuration that it holds.
        digest: 12 hexadecimal digits over everything in it: the same for the same job.
        inputs: data files that go along, by their path here.
        elsewhere: paths and packages that the cluster must have itself.
        plugins: the user's modules that go along.
    """

    folder: Path
    config: JobConfig
    digest: str
    inputs: tuple[str, ...]
    elsewhere: tuple[str, ...]
    plugins: tuple[str, ...]


def pack(config: JobConfig, folder: Path, shared: Sequence[str] = ()) -> Package:
    """Fill `folder` with what a job needs.

    Args:
        config: the checked configuration.
        folder: an empty folder.
        shared: folders that the cluster's machines see under the same path; files in them are not sent.

    Raises:
        ConfigError: the runs would be written where only one machine sees them, or a plug-in is not found.
        DataError: a data file is nowhere, or too large to send.
    """
    _check_runs_dir(config)
    _check_models(config)
    settings = config.model_dump(mode="json")
    plugins = find_plugins(settings)
    inputs, elsewhere = _take_inputs(config, settings, folder, shared)
    _on_cluster(settings)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    _take_code(folder, plugins.sources)
    return Package(
        folder=folder,
        config=type(config).model_validate(settings),
        digest=_digest(folder),
        inputs=tuple(inputs),
        elsewhere=(*elsewhere, *(f"package {name}" for name in sorted(plugins.installed))),
        plugins=tuple(plugins.sources),
    )


def _check_runs_dir(config: JobConfig) -> None:
    if not config.runs_dir.startswith(("/", "~")):
        raise ConfigError(
            f"runs_dir '{config.runs_dir}' is relative, and a job's own folder vanishes with it. Name storage that "
            "every machine of the cluster sees: --set runs_dir=/shared/runs"
        )


def _check_models(config: JobConfig) -> None:
    """Models stay where they are, so a path among them must mean the same there."""
    for keys, value in _walk(config):
        if keys[-1] not in _MODEL_KEYS or not isinstance(value, str):
            continue
        if value.startswith(".") or (Path(value).exists() and not value.startswith(("/", "~"))):
            raise ConfigError(
                f"{_dotted(keys)} '{value}' is a relative path, and models are not sent. Give a hub id, or the "
                "absolute path of a folder that the cluster's machines see."
            )


def _walk(value: Any, above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every setting and block inside a configuration, with the keys that lead to it."""
    if isinstance(value, BaseModel):
        inside: Iterable[tuple[str | int, Any]] = (
            (name, getattr(value, name)) for name in type(value).model_fields
        )
    else:
        inside = enumerate(value) if isinstance(value, tuple) else ()
    for key, item in inside:
        yield (*above, key), item
        yield from _walk(item, (*above, key))


def _take_inputs(
    config: JobConfig, settings: dict[str, Any], folder: Path, shared: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Copy the data files, and name them in the settings as the cluster will see them."""
    taken, elsewhere, size = [], [], 0
    for keys, source in _walk(config):
        if not isinstance(source, PromptSource):
            continue
        path = Path(source.path).expanduser().absolute()
        if _is_shared(path, shared):
            elsewhere.append(f"data {path}")
            _set_path(settings, keys, str(path))
            continue
        size += sum(file.stat().st_size for file in _files(keys, source))
        if size > MAX_INPUT_BYTES:
            raise DataError(
                f"{_dotted(keys)}: with '{path}' the data is larger than {MAX_INPUT_BYTES >> 20} MiB, too much to send "
                "with a job. Put it on storage that the cluster's machines see, and name that with --shared FOLDER."
            )
        name = _take(path, folder / INPUTS)
        _set_path(settings, keys, str(PurePosixPath(config.runs_dir, STORE, name)))
        taken.append(str(path))
    return taken, elsewhere


def _files(keys: Keys, source: PromptSource) -> list[Path]:
    try:
        return data_files(source)
    except DataError as error:
        raise DataError(
            f"{_dotted(keys)}: {error} If only the cluster's machines have it: --shared FOLDER."
        ) from None


def _dotted(keys: Keys) -> str:
    return ".".join(map(str, keys))


def _set_path(settings: Any, keys: Keys, path: str) -> None:
    for key in keys:
        settings = settings[key]
    settings["path"] = path


def _is_shared(path: Path, shared: Iterable[str]) -> bool:
    return any(path.absolute().is_relative_to(Path(each).expanduser().absolute()) for each in shared)


def _take(path: Path, folder: Path) -> str:
    """Copy a data file or folder; returns its name there, which begins with its content's hash."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path)}\0".encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    name = f"{digest.hexdigest()[:16]}-{path.name}"
    folder.mkdir(exist_ok=True)
    if not (folder / name).exists():  # the same file may be named twice
        (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / name)
    return name


def _on_cluster(settings: dict[str, Any]) -> None:
    """A job is on the cluster already: its own address would lead somewhere else."""
    compute = settings.get("compute", {})
    if compute.get("runner") == "ray":
        compute["address"] = "auto"


def _take_code(folder: Path, plugins: dict[str, Path]) -> None:
    package = Path(rayflow.__file__).parent
    for source in (package, *plugins.values()):
        if source.is_dir():
            shutil.copytree(source, folder / source.name, ignore=_SKIP)
        else:
            shutil.copy(source, folder / source.name)
    entries = sorted((package.parent / "jobs").glob("*.py"))
    if (package.parent / "pyproject.toml").exists() and entries:  # a checkout, not an installed wheel
        (folder / "jobs").mkdir(exist_ok=True)
        for entry in entries:
            shutil.copy(entry, folder / "jobs")


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:12]


def safe_name(text: str) -> str:
    """A name that a submission id can begin with: a job server refuses other signs in paths."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)
