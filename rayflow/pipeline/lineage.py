"""Where a row came from: which policy, reward, seed and settings made a pair, out of what the stages stored.

Nothing is taken from the configuration: every stage's own record (`stage.json`) says what made it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayflow.core.files import read_json
from rayflow.errors import ArtifactError, DataError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.folders import no_job
from rayflow.pipeline.identity import fingerprint
from rayflow.pipeline.lineage_sides import held_out, is_held_out

_ID = re.compile(r"(?P<prompt>[^/]+)(/(?P<chosen>\d+)(>(?P<rejected>\d+))?)?")
_BY_CANDIDATE = ("responses", "logprobs", "finish_reasons", "rewards", "variances", "scores")
"""Columns with one value for each candidate, as the stages name them."""


@dataclass(frozen=True)
class PairPath:
    """An id as a path: a prompt, one of its candidates, or a pair of them.

    Attributes:
        prompt: the prompt's id.
        candidates: none, one, or (chosen, rejected).
    """

    prompt: str
    candidates: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> PairPath:
        """From "p17", "p17/3" or "p17/3>5".

        Raises:
            DataError: another form.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise DataError(
                f"'{text}' is not an id. Ids are paths: PROMPT, PROMPT/3 or PROMPT/3>5 (in quotes, for >)."
            )
        given = (match["chosen"], match["rejected"])
        return cls(match["prompt"], tuple(int(each) for each in given if each is not None))


def trace(folder: Path, text: str) -> dict[str, Any]:
    """Everything that a run knows of a row.

    Args:
        folder: the run's folder.
        text: an id: PROMPT, PROMPT/3 or PROMPT/3>5.

    Returns:
        JSON values: `id`, `run`, `prompt`; `stages`, by name what made each one (its record, fingerprint, shard and
        the time of that shard's commit); `candidates`, by index; `pair`, where the id names one; `held_out`, of a
        prompt that an evaluation asked, both sides' responses (see `lineage_sides`), else null.

    Raises:
        ArtifactError: not a run's folder.
        DataError: no such prompt, candidate or pair.
    """
    path = PairPath.parse(text)
    stages = _stages(folder)
    rows, records = _rows(stages, path.prompt)
    if not rows:
        raise DataError(
            f"{folder} has no prompt '{path.prompt}'. `rayflow export` writes the ids of all pairs."
        )
    own = {name: row for name, row in rows.items() if not is_held_out(name)}
    columns = {key: value for row in own.values() for key, value in row.items()}
    asked = {name: row for name, row in rows.items() if name not in own}
    learned = "responses" in columns
    # Of a prompt that was learned from, an index is that of a candidate.
    sides = None if learned and path.candidates else held_out(asked, path.prompt, path.candidates, _candidate)
    trained = next((a for a in stages if a.name == "train" and a.identity), None)
    if trained is not None and own:
        records["train"] = _record(trained, None)
    told = columns or asked.get("eval-prompts", {})
    return {
        "id": text,
        "run": read_json(folder / "run.json"),
        "prompt": {key: told.get(key) for key in ("prompt_id", "prompt", "messages", "target")},
        "seed": columns.get("seed"),
        "candidates": {} if sides and not learned else candidates_of(columns, path),
        "pair": pair_of(columns, path) if len(path.candidates) == 2 else None,
        "held_out": sides,
        "stages": records,
    }


def _rows(stages: list[Artifact], prompt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A prompt's row in each stage that has one, and that stage's record."""
    rows, records = {}, {}
    for artifact in stages:
        if artifact.name.startswith("valid-"):
            continue
        found = _find(artifact, prompt)
        if found is not None:
            shard, rows[artifact.name] = found
            records[artifact.name] = _record(artifact, shard)
    return rows, records


def _stages(folder: Path) -> list[Artifact]:
    """The stored stages, in order; of two of a name, as a changed plan leaves them, the one that was begun last."""
    begun = {path.parent: path.stat().st_mtime_ns for path in folder.glob("[0-9][0-9]-*/stage.json")}
    newest = {path.name[3:]: path for path in sorted(begun, key=begun.__getitem__)}
    found = [Artifact(each) for each in sorted(newest.values())]
    if not (folder / "run.json").exists():
        raise no_job(folder)
    if not found:
        raise ArtifactError(f"Nothing is stored in {folder} yet.")
    return found


def _find(artifact: Artifact, prompt: str) -> tuple[int, dict[str, Any]] | None:
    """A prompt's shard and row in a stage; only the column of ids is read until it is found."""
    for index in sorted(artifact.shards.committed()):
        ids = artifact.shards.read(index, ("prompt_id",))
        if "prompt_id" not in ids.column_names:
            return None
        names = ids.column("prompt_id").to_pylist()
        if prompt in names:
            return index, artifact.shards.read(index).slice(names.index(prompt), 1).to_pylist()[0]
    return None


def _record(artifact: Artifact, shard: int | None) -> dict[str, Any]:
    identity = artifact.identity or {}
    return {
        "made_from": identity,
        "fingerprint": fingerprint(identity),
        "committed": artifact.committed,
        "shard": shard,
        "finished": None if shard is None else artifact.shards.marker(shard).finished,
    }


def candidates_of(columns: dict[str, Any], path: PairPath) -> dict[str, dict[str, Any]]:
    """What is stored of the candidates that the id names; of all of them for a prompt."""
    total = len(columns.get("responses") or ())
    for index in path.candidates:
        if index >= total:
            raise DataError(f"Prompt {path.prompt} has candidates 0 to {total - 1}, not {index}.")
    return {str(index): _candidate(columns, index) for index in path.candidates or range(total)}


def _candidate(columns: dict[str, Any], index: int) -> dict[str, Any]:
    known = {name: columns[name][index] for name in _BY_CANDIDATE if len(columns.get(name) or ()) > index}
    found: dict[str, Any] = {name.removesuffix("s"): _finite(value) for name, value in known.items()}
    if columns.get("token_ids"):
        found["num_tokens"] = len(columns["token_ids"][index])
    elif columns.get("num_tokens"):
        found["num_tokens"] = columns["num_tokens"][index]
    if columns.get("component_rewards"):
        found["component_rewards"] = [part[index] for part in columns["component_rewards"]]
    accepted = list(columns.get("accepted") or ())
    found["accepted_as"] = accepted.index(index) if index in accepted else None
    if found["accepted_as"] is not None:
        for name, short in (("ref_logprobs", "ref_logprob"), ("sampler_differences", "sampler_difference")):
            if columns.get(name):
                found[short] = _finite(columns[name][found["accepted_as"]])
    return found


def pair_of(columns: dict[str, Any], path: PairPath) -> dict[str, Any]:
    """What is stored of the pair that the id names."""
    pairs = [tuple(pair) for pair in columns.get("pairs") or ()]
    if path.candidates not in pairs:
        have = ", ".join(f"{a}>{b}" for a, b in pairs) or "none"
        raise DataError(
            f"Prompt {path.prompt} has no pair {'>'.join(map(str, path.candidates))}. Its pairs: {have}."
        )
    place = pairs.index(path.candidates)
    chosen, rejected = path.candidates
    margins = columns.get("margins")
    return {
        "chosen": chosen,
        "rejected": rejected,
        "place": place,
        "label_source": columns.get("label_source", "data"),
        "margin": _finite(margins[place]) if margins else None,
        "acceptance_rate": columns.get("acceptance_rate"),
        "num_rounds": columns.get("num_rounds"),
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN: a number that is not known is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
