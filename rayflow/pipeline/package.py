"""What a submitted job takes along: one folder with this code, the resolved configuration, its data and plug-ins.

    rayflow/          this package, so that the cluster runs what was submitted
    jobs/             its entry points
    config.yaml       the configuration: `extends` and --set resolved, every default written out
    parts/            the configurations that a study is made of, likewise
    inputs/           the local data files, named by their content
    my_reward.py ..   the user's modules that the configuration names, and the local modules they import

Data files are put beside the runs when the job starts (see `arrival`), because the folder itself lives only as
long as the job. Models are not sent: a model is a hub id, or a folder that the cluster's machines see.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

import rayflow
from rayflow.config import JobConfig, PromptSource
from rayflow.errors import ConfigError, DataError
from rayflow.pipeline.named import Keys, dotted, sources_of, walk
from rayflow.pipeline.plugins import find_plugins
from rayflow.pipeline.reach import check_models, doubts
from rayflow.sources.files import data_files

INPUTS, PARTS = "inputs", "parts"
STORE = ".inputs"
"""Folder beside the runs where the data of submitted jobs lies, under names of its content."""
MAX_INPUT_BYTES = 200 << 20
_MADE = re.compile(r"\{\w+\}")
"""What the parts of a study write for the files that the study itself makes."""
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
        doubts: sentences on what may go wrong there, for whoever sends it.
    """

    folder: Path
    config: JobConfig
    digest: str
    inputs: tuple[str, ...]
    elsewhere: tuple[str, ...]
    plugins: tuple[str, ...]
    doubts: tuple[str, ...]


def pack(
    config: JobConfig, folder: Path, shared: Sequence[str] = (), parts: Mapping[str, JobConfig] | None = None
) -> Package:
    """Fill `folder` with what a job needs.

    Args:
        config: the checked configuration.
        folder: an empty folder.
        shared: folders that the cluster's machines see under the same path; files in them are not sent.
        parts: further configurations that it is made of, a study's, by their names under its key `parts`.

    Raises:
        ConfigError: the runs would be written where only one machine sees them, or a plug-in is not found.
        DataError: a data file is nowhere, or too large to send.
    """
    parts = parts or {}
    _check_runs_dir(config)
    found = [*walk(config), *(each for name, part in parts.items() for each in walk(part, (name,)))]
    check_models(found)
    runner = getattr(getattr(config, "compute", None), "runner", None)
    own = config.model_dump(mode="json")
    dumped = {name: part.model_dump(mode="json") for name, part in parts.items()}
    settings = own | dumped  # no part is named like a setting of the study
    plugins = find_plugins(settings)
    store = PurePosixPath(config.runs_dir, STORE)
    sources = [(k, source) for k, source in sources_of(found) if not (parts and _MADE.fullmatch(source.path))]
    inputs, elsewhere = _take_inputs(sources, settings, folder, shared, store)
    inputs += _take_templates(found, settings, folder, store)
    _write_settings(own, dumped, folder)
    _take_code(folder, plugins.sources)
    return Package(
        folder=folder,
        config=type(config).model_validate(own),
        digest=_digest(folder),
        inputs=tuple(inputs),
        elsewhere=(*elsewhere, *(f"package {name}" for name in sorted(plugins.installed))),
        plugins=tuple(plugins.sources),
        doubts=tuple(doubts(found, (*shared, config.runs_dir), runner)),
    )


def _write_settings(own: dict[str, Any], parts: dict[str, dict[str, Any]], folder: Path) -> None:
    """The configuration, and those that it is made of, which it names from its own folder."""
    if parts:
        own["parts"] = {name: f"{PARTS}/{name}.yaml" for name in parts}
        (folder / PARTS).mkdir()
    files = {"config.yaml": own} | {f"{PARTS}/{name}.yaml": part for name, part in parts.items()}
    for name, settings in files.items():
        _on_cluster(settings)
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (folder / name).write_text(text, encoding="utf-8")


def _check_runs_dir(config: JobConfig) -> None:
    if not config.runs_dir.startswith(("/", "~")):
        raise ConfigError(
            f"runs_dir '{config.runs_dir}' is relative, and a job's own folder vanishes with it. Name storage that "
            "every machine of the cluster sees: --set runs_dir=/shared/runs"
        )


def _take_inputs(
    sources: Iterable[tuple[Keys, PromptSource]],
    settings: dict[str, Any],
    folder: Path,
    shared: Sequence[str],
    store: PurePosixPath,
) -> tuple[list[str], list[str]]:
    """Copy the data files, and name them in the settings as the cluster will see them."""
    taken, elsewhere, size = [], [], 0
    for keys, source in sources:
        path = Path(source.path).expanduser().absolute()
        if _is_shared(path, shared):
            elsewhere.append(f"data {path}")
            _set(settings, keys, str(path))
            continue
        files = [file.absolute() for file in _files(keys, source)]
        size += sum(file.stat().st_size for file in files)
        if size > MAX_INPUT_BYTES:
            raise DataError(
                f"{dotted(keys[:-1])}: with '{path}' the data is larger than {MAX_INPUT_BYTES >> 20} MiB, too much "
                "to send with a job. Put it on storage that the cluster's machines see; name that with --shared FOLDER."
            )
        name = _take(path, files, folder / INPUTS)
        _set(settings, keys, str(store / name))
        taken.append(str(path))
    return taken, elsewhere


def _take_templates(
    found: Iterable[tuple[Keys, Any]], settings: dict[str, Any], folder: Path, store: PurePosixPath
) -> list[str]:
    """Copy the judges' own templates, likewise; a name of one that comes with rayflow is no file."""
    taken = []
    for keys, value in found:
        if keys[-1] == "template" and isinstance(value, str) and (path := Path(value).expanduser()).is_file():
            path = path.absolute()
            _set(settings, keys, str(store / _take(path, [path], folder / INPUTS)))
            taken.append(str(path))
    return taken


def _files(keys: Keys, source: PromptSource) -> list[Path]:
    try:
        return data_files(source)
    except DataError as error:
        raise DataError(
            f"{dotted(keys[:-1])}: {error} If only the cluster's machines have it: --shared FOLDER."
        ) from None


def _set(settings: Any, keys: Keys, value: str) -> None:
    *above, last = keys
    for key in above:
        settings = settings[key]
    settings[last] = value


def _is_shared(path: Path, shared: Iterable[str]) -> bool:
    return any(path.absolute().is_relative_to(Path(each).expanduser().absolute()) for each in shared)


def _take(path: Path, files: Sequence[Path], folder: Path) -> str:
    """Copy a data file, or the data files of a folder and nothing that lies beside them.

    What else such a folder holds is nobody's to send, and its .gitignore would keep data behind: Ray heeds it.

    Returns:
        The name there, which begins with the hash of the content.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path)}\0".encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    name = f"{digest.hexdigest()[:16]}-{path.name}"
    for file in files:
        target = folder / name / file.relative_to(path)  # of a single file that is the name itself
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
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
