"""Prompts that say the same as an earlier one: dropped, with the reason and what they repeat.

Row in: `Prompt`. Out: None to keep it, or a `Failure`. Near-duplicates are found by locality-sensitive hashing of
MinHash signatures and then confirmed by the exact Jaccard similarity of their shingles, so that no prompt is dropped
for a chance collision. Texts and bands are in a scratch database on disk: memory does not grow with the prompts.

Source: Broder, On the resemblance and containment of documents (1997); Leskovec, Rajaraman and Ullman, Mining of
Massive Datasets, section 3.4 (bands).
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from rayflow.config.refresh import DedupOptions, NearOptions
from rayflow.core.rows import Failure, Prompt
from rayflow.errors import MissingPackageError

REPEATED, SAME, NEAR = "duplicate prompt", "duplicate after normalisation", "near-duplicate prompt"
MAX_CANDIDATES = 64
"""Earlier prompts compared with a new one, those first that share most bands."""
_RECALL = (0.1, 0.9)
"""Weights of false finds, which the exact comparison removes, and of misses: at a threshold of 0.8, 87% of the prompts
that are just so alike are found, and 97% of those at 0.85."""


class Deduplicator:
    """Keeps the first of prompts that say the same. A context manager: its scratch space goes with it."""

    def __init__(self, options: DedupOptions) -> None:
        self._options = options
        self._near = None if options.near is None else NearIndex(options.near)
        self._folder = tempfile.TemporaryDirectory(prefix="rayflow-dedup-")
        self._scratch = sqlite3.connect(Path(self._folder.name) / "scratch.sqlite", isolation_level=None)
        # Lost with the process anyway: no journal, no waiting for the disk, one transaction that never ends.
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536"):
            self._scratch.execute(f"PRAGMA {setting}")
        self._scratch.execute("CREATE TABLE seen (hash BLOB PRIMARY KEY, id TEXT) WITHOUT ROWID")
        self._scratch.execute("CREATE TABLE texts (number INTEGER PRIMARY KEY, id TEXT, text TEXT)")
        self._scratch.execute("CREATE TABLE bands (band INTEGER, number INTEGER)")
        self._scratch.execute("CREATE INDEX by_band ON bands (band)")
        self._scratch.execute("BEGIN")
        self._count = 0

    def __enter__(self) -> Deduplicator:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.close()
        self._folder.cleanup()

    def check(self, prompt: Prompt) -> Failure | None:
        """Why a prompt is to be dropped; None keeps it, and later ones are compared with it."""
        text = normalized(prompt.text) if self._options.normalize else prompt.prompt_id
        digest = hashlib.sha256(text.encode()).digest()
        found = self._scratch.execute("SELECT id FROM seen WHERE hash = ?", (digest,)).fetchone()
        if found is not None:
            reason = REPEATED if found[0] == prompt.prompt_id else SAME
            return Failure(prompt_id=prompt.prompt_id, reason=reason, detail=f"says the same as {found[0]}")
        if self._near is not None:
            near = self._add_unless_near(self._near, prompt)
            if near is not None:
                return near
        self._scratch.execute("INSERT INTO seen VALUES (?, ?)", (digest, prompt.prompt_id))
        return None

    def _add_unless_near(self, index: NearIndex, prompt: Prompt) -> Failure | None:
        text = normalized(prompt.text)
        shingles = index.shingles(text)
        if not shingles:  # punctuation only: it resembles nothing
            return None
        bands = index.bands(shingles)
        for other_id, other in self._candidates(bands):
            similarity = jaccard(shingles, index.shingles(other))
            if similarity >= index.threshold:
                detail = f"{similarity:.0%} like {other_id}"
                return Failure(prompt_id=prompt.prompt_id, reason=NEAR, detail=detail)
        self._count += 1
        self._scratch.execute("INSERT INTO texts VALUES (?, ?, ?)", (self._count, prompt.prompt_id, text))
        self._scratch.executemany("INSERT INTO bands VALUES (?, ?)", [(band, self._count) for band in bands])
        return None

    def _candidates(self, bands: list[int]) -> list[tuple[str, str]]:
        marks = ",".join("?" * len(bands))
        found = self._scratch.execute(
            f"SELECT number FROM bands WHERE band IN ({marks}) GROUP BY number "
            f"ORDER BY COUNT(*) DESC, number LIMIT {MAX_CANDIDATES}",
            bands,
        ).fetchall()
        one = "SELECT id, text FROM texts WHERE number = ?"
        return [self._scratch.execute(one, number).fetchone() for number in found]


class NearIndex:
    """Signatures and their bands for one choice of threshold and shingles."""

    def __init__(self, options: NearOptions) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError:
            raise MissingPackageError.of("datasketch", "Removing near-duplicate prompts", "refresh") from None
        self.threshold = options.threshold
        self._options = options
        # The library's best cut of a signature into bands for this threshold.
        plan = MinHashLSH(threshold=options.threshold, num_perm=options.num_permutations, weights=_RECALL)
        self._num_bands, self._rows = plan.b, plan.r
        self._empty: Any = MinHash(num_perm=options.num_permutations, seed=1)

    def recall(self, similarity: float) -> float:
        """Probability that two texts of this similarity are compared."""
        return 1 - (1 - similarity**self._rows) ** self._num_bands

    def shingles(self, text: str) -> set[str]:
        """The runs of words or characters of a normalised text; a short text is one run."""
        word = self._options.unit == "word"
        parts = re.findall(r"\w+", text) if word else list(text)
        size = min(self._options.size, len(parts))
        joint = " " if word else ""
        return {joint.join(parts[i : i + size]) for i in range(len(parts) - size + 1)} if parts else set()

    def bands(self, shingles: set[str]) -> list[int]:
        """One signed 64-bit number per band: two texts that share one are compared."""
        sketch = self._empty.copy()
        sketch.update_batch([shingle.encode() for shingle in sorted(shingles)])
        used = np.ascontiguousarray(sketch.hashvalues[: self._num_bands * self._rows], dtype="<u8")
        rows = used.reshape(self._num_bands, self._rows)
        return [_number(b"%d:" % band + row.tobytes()) for band, row in enumerate(rows)]


def _number(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def normalized(text: str) -> str:
    """Case, Unicode form and white space evened out."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def jaccard(a: set[str], b: set[str]) -> float:
    """Size of the intersection over the size of the union."""
    return len(a & b) / len(a | b)
