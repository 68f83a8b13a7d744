"""What the files of a stage's folder hold: markers, manifests, and the content of a shard with its checksum."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.core.files import read_json
from rayflow.core.rows import Failure
from rayflow.errors import ArtifactError

FORMAT = 2
"""Of what is stored. A change that this version's reader would not understand raises it."""
HASHED_BYTES = 8 << 20
"""Up to this size a shard is read whole and held against its SHA-256; of a larger one, read column by column,
the pages carry checksums of their own."""
OTHER_VERSION = "Use the version that wrote it, or give the run a new name."


@dataclass(frozen=True)
class Marker:
    """What is known of a committed shard.

    Attributes:
        file: name of the data file, beside the marker.
        rows: rows that came out.
        failures: rows that did not, with reasons.
        seconds: time the worker spent on it.
        tokens: tokens generated or processed; 0 where that has no meaning.
        finished: Unix time of the commit.
        size: bytes of the data file; 0 where it was not noted.
        sha256: of the data file; "" where it was not noted.
    """

    file: str
    rows: int
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0
    tokens: int = 0
    finished: float = 0.0
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """What is known of a committed stage; `extra` holds what the stage itself adds."""

    name: str
    fingerprint: str
    identity: dict[str, Any]
    num_shards: int
    num_rows: int
    num_failed: int
    num_tokens: int
    started: float
    seconds: float
    extra: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def read_stored(path: Path) -> dict[str, Any]:
    """`stage.json` or `manifest.json`, of the format that this version reads.

    Raises:
        ArtifactError: unreadable, or an older or newer version's.
    """
    data = read_json(path)
    found = data.get("format", FORMAT if path.name == "stage.json" else None)
    if found != FORMAT:
        raise ArtifactError(f"{path} has format {found}, this version reads {FORMAT}. {OTHER_VERSION}")
    return data


def to_parquet(table: pa.Table) -> pa.Buffer:
    """In memory, as shards are small: so that its digest costs no second reading."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def checked(path: Path, marker: Marker) -> pa.BufferReader:
    """A shard's content, held against what was noted at its commit.

    Raises:
        OSError: it cannot be read, or is not what was committed.
    """
    content = path.read_bytes()
    if marker.size and len(content) != marker.size:
        raise OSError(f"{len(content)} bytes, where {marker.size} were committed")
    if marker.sha256 and hashlib.sha256(content).hexdigest() != marker.sha256:
        raise OSError("its SHA-256 is not the committed one")
    return pa.BufferReader(content)
