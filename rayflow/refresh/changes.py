"""What a refresh has to do: which prompts are computed, which rows stay, and why.

Decided once, written down in the attempt's folder, and then only carried out, so that a refresh that is resumed after
a kill does the same work even if the data files have grown meanwhile.

    carried.txt    ids of rows that stay as they are
    restored.txt   ids of rows that come back from the promoted version, where a later one had replaced them
    todo.jsonl     prompts to compute
    dropped.jsonl  prompts that were left out, with reasons
    plan.json      identity and counts; written last
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rayflow.config import PromptSource
from rayflow.config.refresh import RefreshConfig
from rayflow.core.files import write_json
from rayflow.core.rows import Failure, Prompt
from rayflow.core.schema import from_table, schema_of
from rayflow.errors import DataError
from rayflow.refresh.dedup import Deduplicator
from rayflow.refresh.recipe import Recipe, content_of
from rayflow.refresh.table import PreferenceTable
from rayflow.refresh.todo import line, read_back
from rayflow.sources.read import read

NEW, PROMPT = "new", "prompt"
TODO = "todo.jsonl"
FILES = ("carried.txt", "restored.txt", TODO, "dropped.jsonl")
"""What a decision is written to, beside plan.json; nothing but TODO is read once its attempt is done."""
Known = dict[str, tuple[str, str | None]]
"""Prompt id -> content hash of its row, and the part of the recipe that has changed since (None: up to date)."""


@dataclass(frozen=True)
class Base:
    """What a refresh starts from.

    Attributes:
        table: the table.
        head: its newest version, whose rows are carried over; None before there is a table.
        latest: the promoted one, whose rows may come back; None before the first promotion.
        tried: the prompts that the head's refresh was to compute, as `todo` writes them. Those that the head lacks
            have failed. None before the first refresh.
    """

    table: PreferenceTable
    head: int | None
    latest: int | None
    tried: Path | None


class Changes:
    """Sorts prompts into what becomes of them, and writes that down.

    Args:
        config: what was asked for.
        recipe: of today.
        base: what is there.
        folder: the attempt's.
    """

    def __init__(self, config: RefreshConfig, recipe: Recipe, base: Base, folder: Path) -> None:
        self._config = config
        self._base = base
        self._folder = folder
        self._head = known_rows(base.table, base.head, recipe)
        self._latest = {} if base.latest == base.head else known_rows(base.table, base.latest, recipe)
        self._kept: set[str] = set()
        self._todo: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()

    def write(self, identity: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Decide, and write the files; returns what plan.json holds.

        Args:
            identity: what the decision follows from, by which a resumed attempt is recognised.
            settings: what each part of the recipe is made of, for the version's record.

        Raises:
            DataError: the data holds no usable prompt.
        """
        with ExitStack() as stack:
            files = {
                Path(name).stem: stack.enter_context(open(self._folder / name, "w", encoding="utf-8"))
                for name in FILES
            }
            dedup = stack.enter_context(Deduplicator(self._config.refresh.dedup))
            for item in self._prompts():
                failure = item if isinstance(item, Failure) else dedup.check(item)
                if failure is not None:
                    self._dropped[failure.reason] += 1
                    files["dropped"].write(json.dumps(asdict(failure), ensure_ascii=False) + "\n")
                    continue
                assert isinstance(item, Prompt)
                where = self._place(item)
                files[where].write(line(item) if where == "todo" else f"{item.prompt_id}\n")
                self._totals[where] += 1
                self._kept.add(item.prompt_id)
        if not self._kept:
            raise DataError(
                f"{self._config.prompts.train.path} holds no usable prompt: {dict(self._dropped)}."
            )
        data = {"identity": identity, "settings": settings, "counts": self._counts()}
        write_json(self._folder / "plan.json", data)
        return data

    def _place(self, prompt: Prompt) -> str:
        """Which file a prompt belongs into."""
        wanted = (content_of(prompt), None)
        row, before = self._head.get(prompt.prompt_id), self._latest.get(prompt.prompt_id)
        if row == wanted:
            return "carried"
        if before == wanted:
            return "restored"
        row = row or before
        self._todo[NEW if row is None else PROMPT if row[0] != wanted[0] else str(row[1])] += 1
        return "todo"

    def _prompts(self) -> Iterator[Prompt | Failure]:
        """All prompts, those that the table has first: a newcomer never displaces the prompt it resembles."""
        source, seen = self._config.prompts.train, set()
        for item in read(source, Prompt):
            if isinstance(item, Prompt):
                seen.add(item.prompt_id)
                if item.prompt_id in self._head:
                    yield item
        self._totals["read"] = len(seen)
        if self._config.refresh.missing == "keep":
            yield from self._missing(seen)
        yield from self._newcomers(source)

    def _missing(self, seen: set[str]) -> Iterator[Prompt]:
        """Prompts that the data does not have, and that stay: the head's, and those that the head should have.

        A prompt that failed is in no row of the head, and the day's file that brought it is not read again.
        """
        base = self._base
        if base.head is not None:
            yield from stored_prompts(base.table, base.head, without=seen)
            seen.update(self._head)
        if base.latest is not None and self._latest:
            yield from stored_prompts(base.table, base.latest, without=seen)
            seen.update(self._latest)
        if base.tried is not None and base.tried.exists():
            yield from (prompt for prompt in read_back(base.tried) if prompt.prompt_id not in seen)

    def _newcomers(self, source: PromptSource) -> Iterator[Prompt | Failure]:
        for item in read(source, Prompt):
            if isinstance(item, Failure) or item.prompt_id not in self._head:
                yield item

    def _counts(self) -> dict[str, Any]:
        gone = sum(key not in self._kept for key in self._head)
        return {
            "read": self._totals["read"],
            "dropped": dict(self._dropped),
            "carried": self._totals["carried"],
            "restored": self._totals["restored"],
            "todo": dict(self._todo),
            "gone": gone,
        }


def known_rows(table: PreferenceTable, version: int | None, recipe: Recipe) -> Known:
    """The rows of a version, and whether today's recipe would make them again; none of no version."""
    known: Known = {}
    if version is None:
        return known
    for batch in table.batches(version, ["prompt_id", "content", *recipe.to_dict()]):
        for row in batch.to_pylist():
            made_by = Recipe(**{name: row[name] for name in recipe.to_dict()})
            known[row["prompt_id"]] = (row["content"], recipe.changed_part(made_by))
    return known


def stored_prompts(table: PreferenceTable, version: int, without: Collection[str]) -> Iterator[Prompt]:
    """The prompts of a version's rows, except some."""
    for batch in table.batches(version, schema_of(Prompt).names):
        for prompt in from_table(pa.Table.from_batches([batch]), Prompt):
            if prompt.prompt_id not in without:
                yield prompt


def rows_of(table: PreferenceTable, version: int, ids: list[str]) -> Iterator[pa.Table]:
    """Some rows of a version, whole."""
    if ids:
        chosen = pc.field("prompt_id").isin(ids)
        yield from (pa.Table.from_batches([batch]) for batch in table.batches(version, where=chosen))


def read_ids(path: Path) -> list[str]:
    """The ids in one of the files."""
    return path.read_text(encoding="utf-8").split()
