"""Data files to raw rows: JSON lines, JSON arrays, Parquet, and Hugging Face datasets saved on disk.

Rows stream, in the order of the sorted files; only a JSON array is held whole while it is read.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.errors import DataError
from rayflow.sources.folder import files_of

if TYPE_CHECKING:
    from rayflow.config import PromptSource

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_DATA_SUFFIXES = (*SUFFIXES, ".gz", ".arrow", ".csv", ".tsv", ".txt", ".yaml", ".yml")
"""A missing path that ends so is a file's, mistyped or looked for from elsewhere, and no dataset of the hub."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class RawRow(NamedTuple):
    """A row as the file holds it, and where it stands: `number` counts the file's rows from 1."""

    path: Path
    number: int
    values: dict[str, Any]


def source_digest(source: PromptSource) -> str:
    """Content hash of the files behind a source, so that a changed file is noticed.

    Raises:
        DataError: nothing readable is there.
    """
    digest = hashlib.sha256()
    for path in data_files(source):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def data_files(source: PromptSource) -> list[Path]:
    """The data files behind a source, sorted.

    Raises:
        DataError: nothing there, or of an unknown form.
    """
    if "://" in source.path:
        raise DataError(
            f"'{source.path}' is no path: data is read from a file system. Copy it to a disk that all machines see, or "
            "mount the bucket there."
        )
    path = Path(source.path).expanduser()
    if path.is_file():
        if source.split:
            raise DataError(
                f"'split: {source.split}' chooses among a folder's files, and '{path}' is one file. Remove it, or, "
                f"where the rows name their split, set layout: {{kind: tldr, split: {source.split}}}."
            )
        if path.name.endswith(SUFFIXES):
            return [path]
        raise DataError(f"Data file '{path}' must be .jsonl, .json (either also .gz) or .parquet.")
    if not path.is_dir():
        raise DataError(f"Data file '{path.absolute()}' does not exist. {_missing(source.path)}")
    return files_of(path, source.split)


def _missing(given: str) -> str:
    """What to do about a path where nothing is, as it was written."""
    path = Path(given).expanduser()
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    if near := difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.75):
        return f"Did you mean '{path.parent / near[0]}'?"
    if _HUB_ID.fullmatch(given) and not given.endswith(_DATA_SUFFIXES):
        return (
            "Data is read from disk. Of a dataset on the Hugging Face hub: "
            f"hf download --repo-type dataset {given} --local-dir data, then path: data."
        )
    if path.is_absolute():
        return "Correct the path."
    return (
        "A relative path starts in the folder where the command is run: run it where the data lies, or, to go on with "
        "a stored run, where that was made."
    )


def read_rows(source: PromptSource) -> Iterator[RawRow]:
    """All rows of a source in order.

    Raises:
        DataError: a file is not there, or cannot be read.
    """
    for path in data_files(source):
        try:
            for number, values in enumerate(_values(path), start=1):
                yield RawRow(path, number, values if isinstance(values, dict) else {"prompt": values})
        except (OSError, pa.ArrowException, ValueError, OverflowError, EOFError, zlib.error) as error:
            # Arrow's dates may lie beyond Python's, which is an OverflowError.
            raise DataError(f"Data file '{path}' cannot be read: {error}") from error


def _values(path: Path) -> Iterator[Any]:
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            _refuse_foreign_types(file.schema_arrow)
            yield from (row for batch in file.iter_batches() for row in batch.to_pylist())
    elif path.suffix == ".arrow":
        with pa.memory_map(str(path)) as file:
            stream = pa.ipc.open_stream(file)
            _refuse_foreign_types(stream.schema)
            yield from (row for batch in stream for row in batch.to_pylist())
    else:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            array = _json_array(path, file) if ".json" in path.suffixes else None
            yield from _json_lines(path, file) if array is None else array


def _refuse_foreign_types(schema: pa.Schema) -> None:
    """Let only Arrow's own types through.

    Reading another one runs the code of whichever library has registered it, and some of them (Ray's pickled
    objects) would run code that the file brings.

    Raises:
        pa.ArrowInvalid: a column holds an extension type.
    """
    for field in schema:
        name = _foreign(field)
        if name:
            raise pa.ArrowInvalid(
                f"column '{field.name}' has the extension type '{name}', which is not read from data: write it as "
                "plain strings, numbers and lists"
            )


def _foreign(field: pa.Field) -> str:
    """Name of an extension type in a column, at any depth; "" where there is none but Arrow's own."""
    kind = field.type
    name = kind.extension_name if isinstance(kind, pa.BaseExtensionType) else ""
    # A type that nobody has registered here is read as what it is stored as; its name is still there.
    name = name or (field.metadata or {}).get(b"ARROW:extension:name", b"").decode(errors="replace")
    if name and not name.startswith("arrow."):
        return name
    inner = [kind.field(i) for i in range(kind.num_fields)] if pa.types.is_nested(kind) else []
    if pa.types.is_dictionary(kind):
        inner.append(pa.field("values", kind.value_type))
    return next((found for child in inner if (found := _foreign(child))), "")


def _json_array(path: Path, file: IO[str]) -> list[Any] | None:
    """The rows of a file that is one JSON array; None, and the file rewound, where it is JSON lines."""
    begin = ""
    while not begin.strip() and (begin := file.read(1)):
        pass
    file.seek(0)
    if begin != "[":
        return None
    try:
        return json.load(file)
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data":  # a value per line, and each is a list
            file.seek(0)
            return None
        raise DataError(f"Data file '{path}' is not a JSON array: {error}") from None


def _json_lines(path: Path, file: IO[str]) -> Iterator[Any]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (
            ValueError,
            RecursionError,
        ) as error:  # JSON's own, a number of too many digits, lists too deep
            raise DataError(f"Data file '{path}', line {number} is not JSON: {error}") from None
