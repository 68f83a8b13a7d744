"""Looks at a version and at the last promoted one, and asks the gate. Row in: the table's. Out: `Findings`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rayflow.config.refresh import GateOptions
from rayflow.refresh.folder import VersionRecord
from rayflow.refresh.gate import Evidence, Verdict, judge
from rayflow.refresh.measure import COLUMNS, Drawn, Measures, compare, fresh, measure
from rayflow.refresh.table import PreferenceTable


@dataclass(frozen=True)
class Findings:
    """What was seen of a version.

    Attributes:
        evidence: the numbers.
        verdicts: the gate's.
        rewards, tokens: distributions beside the baseline's, for the report; None of an empty table.
    """

    evidence: Evidence
    verdicts: tuple[Verdict, ...]
    rewards: Drawn | None
    tokens: Drawn | None

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(verdict.passed for verdict in self.verdicts)

    def measures(self) -> dict[str, Any]:
        """As JSON: "whole", and "fresh" where those were looked at."""
        return {scope: found.to_dict() for scope, found in self.evidence.scopes.items()}


@dataclass(frozen=True)
class Tried:
    """What this refresh did: prompts the table should have, those that failed, and the reward's fingerprint."""

    wanted: int
    failed: int
    reward: str


@dataclass(frozen=True)
class _Version:
    """One version's rows, as often as they are asked for."""

    table: PreferenceTable
    version: int

    def __call__(self, columns: Sequence[str] = COLUMNS) -> Iterator[pa.RecordBatch]:
        return self.table.batches(self.version, columns)

    def attempts(self) -> set[str]:
        """Who computed its rows."""
        batches = self(["attempt"])
        return {name for batch in batches for name in batch.column("attempt").unique().to_pylist()}

    def ids(self) -> set[str]:
        """Its prompts."""
        batches = self(["prompt_id"])
        return {key for batch in batches for key in batch.column("prompt_id").to_pylist()}


def examine(
    table: PreferenceTable,
    version: int,
    baseline: VersionRecord | None,
    options: GateOptions,
    tried: Tried,
) -> Findings:
    """Measure a version and judge it.

    Args:
        table: the table.
        version: which.
        baseline: the last version promoted before it.
        options: the gate's.
        tried: what this refresh did.
    """
    wanted, failed = tried.wanted, tried.failed
    rows = _Version(table, version)
    whole = measure(rows())
    if baseline is None:
        evidence = Evidence(whole, wanted=wanted, failed=failed)
        drawn = {name: compare(name, (rows, whole), None) for name in ("rewards", "num_tokens")}
    else:
        old = _Version(table, baseline.version)
        before, known = measure(old()), old.attempts()
        drawn = {
            name: compare(name, (rows, whole), (old, before), known) for name in ("rewards", "num_tokens")
        }
        evidence = Evidence(
            whole=whole,
            fresh=_part(measure(fresh(rows(), known)), whole),
            before=before,
            version=baseline.version,
            distances={scope: found.distance for scope, found in drawn["rewards"].items()},
            wanted=wanted,
            failed=failed,
            lost=_lost(old.ids(), rows.ids()),
            reward_changed=baseline.recipe["reward"] != tried.reward,
        )
    shown = {name: each["whole"].coarse() if each else None for name, each in drawn.items()}
    return Findings(evidence, tuple(judge(options, evidence)), shown["rewards"], shown["num_tokens"])


def _part(found: Measures, whole: Measures) -> Measures | None:
    """The new rows, where looking at them says something that the whole table does not."""
    return found if 0 < found.rows < whole.rows else None


def _lost(before: set[str], after: set[str]) -> float:
    return len(before - after) / len(before) if before else 0.0
