"""Which files of a folder are data: of one split, and of one form."""

from __future__ import annotations

import json
import re
from pathlib import Path

from rayflow.errors import DataError

_SPLIT = re.compile(r"(train|test|validation|valid|val|dev|eval)(_[^-.]*)?([-.]|$)")
"""How the file of a split is named, or the folder of its files: "train.jsonl", "test_prefs-00000-of-00001.parquet"."""
_FORMS = {".parquet": "Parquet", ".jsonl": "JSON lines", ".json": "JSON"}
_ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""Files that datasets have beside their data, about it."""


def files_of(path: Path, split: str | None) -> list[Path]:
    """The data files of a folder, sorted: saved Hugging Face data, or files of one form at any depth.

    Args:
        path: the folder.
        split: which split of it; None where it holds one.

    Raises:
        DataError: none, several splits and none is named, or several forms.
    """
    folder = path / split if split and (path / split).is_dir() else path
    if (path / "dataset_dict.json").exists() and folder == path:
        splits = ", ".join(json.loads((path / "dataset_dict.json").read_text())["splits"])
        raise DataError(f"'{path}' holds several splits: set 'split' to one of {splits}.")
    files = sorted(folder.glob("data-*.arrow")) or _in_folder(folder)
    if split and folder == path:
        files = [file for file in files if _is_of_split(file.relative_to(path), split)]
    elif folder == path:
        _refuse_several_splits(path, files)
    if not files:
        of = f" of split '{split}'" if split else ""
        raise DataError(f"Folder '{path}' holds no Parquet, JSON or saved Hugging Face data{of}.")
    _refuse_several_forms(folder, files)
    return files


def _in_folder(folder: Path) -> list[Path]:
    """Its data files at any depth, sorted; hidden folders, such as a download's cache, hold none."""
    named = (path for path in folder.rglob("*") if _form(path) and path.name not in _ABOUT and path.is_file())
    return sorted(p for p in named if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _form(path: Path) -> str:
    """What a file's name says it holds; "" for nothing that is read from folders."""
    name = path.name.removesuffix(".gz") if path.name.endswith((".jsonl.gz", ".json.gz")) else path.name
    return _FORMS.get(Path(name).suffix, "")


def _refuse_several_forms(folder: Path, files: list[Path]) -> None:
    """The same rows twice, or a file that is no data: nobody can tell which is meant.

    Raises:
        DataError: the files are of several forms; it names one of each.
    """
    first: dict[str, Path] = {}
    for file in files:
        first.setdefault(_form(file), file)
    if len(first) > 1:
        named = ", ".join(f"{form} ('{file.relative_to(folder)}')" for form, file in first.items())
        raise DataError(
            f"Folder '{folder}' holds files of several forms: {named}. Move all but one form away, or name a file."
        )


def _is_of_split(file: Path, split: str) -> bool:
    """Whether a file is named "train-..." or "train.jsonl", as the hub's data sets name theirs, or lies in "train"."""
    return file.name.startswith((f"{split}-", f"{split}.")) or split in file.parts[:-1]


def _refuse_several_splits(folder: Path, files: list[Path]) -> None:
    """Nobody means to read a test split with the training split.

    Raises:
        DataError: the files' names, or their folders', are those of several splits.
    """
    parts = [part for file in files for part in file.relative_to(folder).parts]
    splits = sorted({re.split(r"[-.]", part)[0] for part in parts if _SPLIT.match(part)})
    if len(splits) > 1:
        raise DataError(f"'{folder}' holds several splits: set 'split' to one of {', '.join(splits)}.")
