"""Raters' answers to ratings of systems: files of the rating page or of a crowd platform, and the key.

Row in: JSON as the page saves it, or CSV with `task_id, rater, quality_a, quality_b, .., best`. Row out: `Rating`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayflow.core.files import read_json
from rayflow.errors import ArtifactError, DataError
from rayflow.evaluation.human import (
    NO_PREFERENCE,
    NOT_GIVEN,
    QUALITIES,
    HumanResult,
    Rating,
    human_result,
)
from rayflow.pipeline.human import KEY
from rayflow.report.human import LETTERS, write_human_report

_RATER = ("rater", "workerid", "worker_id", "rater_id")
_NONE = ("none", "no preference", "no_preference", "n")


@dataclass(frozen=True)
class Said:
    """One rater on one task as it stands in a file, in the order that was shown.

    Attributes:
        where: file and row, for a message.
        rater, task: as written.
        quality: one value per response; None or "" where not given.
        best: a letter, "none", or None or "" where not given.
    """

    where: str
    rater: str
    task: str
    quality: tuple[Any, ...]
    best: Any


def import_human(folder: Path, files: Sequence[Path]) -> tuple[HumanResult, Path]:
    """Aggregate answers and write the report beside the key.

    Args:
        folder: what `export_human` wrote.
        files: raters' files; none takes those in the folder whose names begin with "answers".

    Returns:
        The result, and the report's path.

    Raises:
        ArtifactError: the folder has no key.
        DataError: no file, one that cannot be read or belongs to other tasks, or a rating twice.
    """
    if not (folder / KEY).exists():
        raise ArtifactError(f"{folder} has no {KEY}. Give the folder that `rayflow human export` wrote.")
    key = read_json(folder / KEY)
    paths = list(files) or sorted(p for p in folder.glob("answers*") if p.suffix in (".json", ".csv"))
    if not paths:
        raise DataError(
            f"No answers in {folder}: name the raters' files, or put them there as answers*.json."
        )
    ratings, seen = [], {}
    for path in paths:
        for said in _read(path, key):
            name = said.rater.strip(), said.task
            if name in seen:
                raise DataError(
                    f"{said.where}: rater '{said.rater}' has rated {said.task} before, in {seen[name]}. Keep the newer "
                    "file only, or tell two raters of one name apart."
                )
            seen[name] = said.where
            ratings.append(_rating(said, key))
    if not ratings:
        raise DataError(
            f"No ratings in {', '.join(map(str, paths))}: name files in which raters have answered at least one task."
        )
    result = human_result(key["systems"], ratings, seed=key["seed"])
    facts = {"export": key["export"], "runs": key["runs"], "files": [path.name for path in paths]}
    _write_ratings(folder / "ratings.jsonl", ratings)
    return result, write_human_report(result, facts, folder)


def _read(path: Path, key: dict[str, Any]) -> Iterator[Said]:
    if not path.exists():
        raise DataError(f"{path} does not exist. Name the files that the raters sent back, .json or .csv.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        return iter(_of_csv(path, text, key) if path.suffix == ".csv" else _of_page(path, text, key))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as answers: {error}") from error


def _of_page(path: Path, text: str, key: dict[str, Any]) -> list[Said]:
    data = json.loads(text)
    if not isinstance(data, dict) or not isinstance(data.get("answers"), list):
        raise DataError(f"{path} is not a file that the rating page saved: it has no 'answers'.")
    if data.get("export") != key["export"]:
        raise DataError(
            f"{path} answers other tasks (export {data.get('export')}) than this folder's ({key['export']})."
        )
    try:
        return [
            Said(f"{path}, answer {i}", str(data["rater"]), a["task"], tuple(a["quality"]), a["best"])
            for i, a in enumerate(data["answers"], start=1)
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a file that the rating page saved: {error!r}.") from error


def _of_csv(path: Path, text: str, key: dict[str, Any]) -> list[Said]:
    """Also as Mechanical Turk names its columns: `Input.task_id`, `Answer.quality_a`, `WorkerId`."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    names = {_plain(name): name for name in reader.fieldnames or ()}
    letters = [letter.lower() for letter in LETTERS[: len(key["systems"])]]
    rater = next((names[name] for name in _RATER if name in names), None)
    missing = [n for n in ("task_id", "best", *(f"quality_{x}" for x in letters)) if n not in names]
    if missing or rater is None:
        raise DataError(
            f"{path} has no column '{missing[0] if missing else 'rater'}'. It needs task_id, rater (or WorkerId), "
            f"{', '.join(f'quality_{x}' for x in letters)} and best."
        )
    return [
        Said(
            f"{path}, row {number}",
            row[rater] or "",
            row[names["task_id"]] or "",
            tuple(row[names[f"quality_{x}"]] for x in letters),
            row[names["best"]],
        )
        for number, row in enumerate(reader, start=1)
    ]


def _plain(column: str) -> str:
    return column.strip().lower().removeprefix("input.").removeprefix("answer.")


def _rating(said: Said, key: dict[str, Any]) -> Rating:
    """What was said, of the systems rather than of places on the page.

    Raises:
        DataError: an unknown task, a quality or a letter that the page does not have, or no rater.
    """
    task = key["tasks"].get(said.task)
    if task is None:
        raise DataError(f"{said.where}: '{said.task}' is no task of this export.")
    if not said.rater.strip():
        raise DataError(f"{said.where}: the rater's name is empty.")
    order = task["order"]
    if len(said.quality) != len(order):
        raise DataError(f"{said.where}: {len(said.quality)} qualities for {len(order)} responses.")
    quality = np.full(len(order), np.nan)
    for place, value in enumerate(said.quality):
        quality[order[place]] = _quality(value, said.where)
    return Rating(said.rater.strip(), said.task, quality, _best(said.best, order, said.where))


def _quality(value: Any, where: str) -> float:
    if value is None or value == "":
        return float("nan")
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or number not in QUALITIES:
        raise DataError(f"{where}: quality {value!r} is not one of 1, 2, 3, 4, 5.")
    return number


def _best(value: Any, order: list[int], where: str) -> int:
    if value is None or value == "":
        return NOT_GIVEN
    word = str(value).strip().lower()
    if word in _NONE:
        return NO_PREFERENCE
    letters = LETTERS[: len(order)].lower()
    if len(word) != 1 or word not in letters:
        raise DataError(f"{where}: best {value!r} is neither {', '.join(letters.upper())} nor none.")
    return order[letters.index(word)]


def _write_ratings(path: Path, ratings: Sequence[Rating]) -> None:
    """The ratings with the systems in the key's order, for one's own statistics; null where not given."""
    lines = []
    for each in ratings:
        quality = [None if np.isnan(value) else int(value) for value in each.quality]
        best = {NO_PREFERENCE: "none", NOT_GIVEN: None}.get(each.best, each.best)
        lines.append(json.dumps({**asdict(each), "quality": quality, "best": best}, ensure_ascii=False))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
