"""The training data on disk: one record per prompt, random access through a memory map.

Every worker opens the same file and reads only the groups of its own micro-batches, so nothing of the data
set stays in memory, however large it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from rayflow.core.files import read_json, sha256_of, sync, write_json
from rayflow.errors import ArtifactError, DataError

_GROUPS_PER_BATCH = 256
_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("response_token_ids", pa.list_(pa.list_(pa.int32()))),
        ("rewards", pa.list_(pa.float64())),
        ("ref_logprobs", pa.list_(pa.float32())),
        ("pairs", pa.list_(pa.int32())),  # flattened [p * 2]
        ("target", pa.int32()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class TrainingGroup:
    """One prompt, its k responses and the preferences between them.

    Attributes:
        prompt_id: content hash of the prompt.
        prompt_token_ids: [P] int32, P >= 1, chat template applied.
        response_token_ids: k arrays [R_i] int32, EOS included where the response ended by itself.
        rewards: [k] float64; NaN where the data has none.
        ref_logprobs: [k] float32, nats, summed over the response under the frozen reference; NaN where the
            loss reads none, so that none was computed.
        pairs: [p, 2] int32, (chosen, rejected) as positions into the k responses; p may be 0.
        target: position of the supervised target among the k responses, -1 where there is none.
    """

    prompt_id: str
    prompt_token_ids: np.ndarray
    response_token_ids: tuple[np.ndarray, ...]
    rewards: np.ndarray
    ref_logprobs: np.ndarray
    pairs: np.ndarray
    target: int = -1

    @property
    def branches(self) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """The prompt and its responses (`pack.Branches`)."""
        return self.prompt_token_ids, self.response_token_ids

    def check(self) -> None:
        """Refuse a group that training cannot use.

        Raises:
            DataError: an empty prompt, arrays of unequal length, an infinite number, or a pair or target that
                names a response that is not there.
        """
        k = len(self.response_token_ids)
        pairs = np.asarray(self.pairs)
        if len(self.prompt_token_ids) == 0:
            problem = "has an empty prompt, so nothing predicts the first response token"
        elif len(self.rewards) != k or len(self.ref_logprobs) != k:
            sizes = (
                f"{k} responses, {len(self.rewards)} rewards, {len(self.ref_logprobs)} reference log-probs"
            )
            problem = f"has unequal lengths ({sizes})"
        elif np.isinf(self.rewards).any() or not self._reference_is_whole():
            problem = "has a reward or reference log-probability that is not finite"
        elif not -1 <= self.target < k:
            problem = f"has a target outside its {k} responses"
        elif pairs.size and (pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.min() < 0 or pairs.max() >= k):
            problem = f"has a pair outside its {k} responses"
        else:
            return
        raise DataError(f"Training group {self.prompt_id} {problem}.")

    def _reference_is_whole(self) -> bool:
        """All of the reference, or none of it; the target never has one."""
        values = np.delete(np.asarray(self.ref_logprobs), self.target if self.target >= 0 else [])
        return bool(np.isfinite(values).all() or np.isnan(values).all())


@dataclass(frozen=True)
class GroupLengths:
    """Sizes of all groups, what the schedule and the layout are made from. Each is [g] int64 but `responses`.

    Attributes:
        prompt: prompt tokens.
        num_responses: responses.
        response_total: tokens of all responses together.
        response_max: tokens of the longest response.
        num_pairs: pairs.
        responses: tokens of every response, group after group: [sum of num_responses] int32.
    """

    prompt: np.ndarray
    num_responses: np.ndarray
    response_total: np.ndarray
    response_max: np.ndarray
    num_pairs: np.ndarray
    responses: np.ndarray

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum(self.num_responses)

    def responses_of(self, index: int) -> list[int]:
        """Tokens of each response of one group."""
        end = int(self._ends[index])
        return self.responses[end - int(self.num_responses[index]) : end].tolist()


def write_groups(path: str | Path, groups: Iterable[TrainingGroup]) -> int:
    """Write groups to an uncompressed Arrow file, in bounded memory; the file appears when it is complete.

    Its SHA-256 is written beside it, for `are_whole`.

    Returns:
        The number of groups.

    Raises:
        DataError: a group that training cannot use (see `TrainingGroup.check`).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    source, total = iter(groups), 0
    with pa.ipc.new_file(str(partial), _SCHEMA) as writer:
        while chunk := list(islice(source, _GROUPS_PER_BATCH)):
            writer.write_batch(_to_batch(chunk))
            total += len(chunk)
    sync(partial)
    digest = sha256_of(partial)
    os.replace(partial, path)
    write_json(_digest_path(path), {"sha256": digest})
    return total


def are_whole(path: str | Path) -> bool:
    """Whether a file is there and what `write_groups` wrote: a flipped bit would be trained on silently."""
    try:
        return read_json(_digest_path(Path(path)))["sha256"] == sha256_of(Path(path))
    except (ArtifactError, KeyError, OSError):
        return False


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _to_batch(groups: list[TrainingGroup]) -> pa.RecordBatch:
    for group in groups:
        group.check()
    columns = [
        [g.prompt_id for g in groups],
        [g.prompt_token_ids for g in groups],
        [list(g.response_token_ids) for g in groups],
        [g.rewards for g in groups],
        [g.ref_logprobs for g in groups],
        [np.asarray(g.pairs, dtype=np.int32).reshape(-1) for g in groups],
        [g.target for g in groups],
    ]
    return pa.record_batch(
        [pa.array(c, type=f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
    )


class GroupFile:
    """Random access to a file of `write_groups` through a memory map.

    Raises:
        DataError: the file is missing or is not such a file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"Training data '{self.path}' cannot be read: {error}") from error
        if reader.schema != _SCHEMA:
            raise DataError(f"'{self.path}' is not a file of training groups: its columns differ.")
        self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._ends = np.cumsum([batch.num_rows for batch in self._batches], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> TrainingGroup:
        if not 0 <= index < len(self):
            raise IndexError(f"group {index} of {len(self)}")
        which = int(np.searchsorted(self._ends, index, side="right"))
        batch = self._batches[which]
        row = index - (int(self._ends[which]) - batch.num_rows)
        responses = batch.column(2)[row].values
        return TrainingGroup(
            prompt_id=batch.column(0)[row].as_py(),
            prompt_token_ids=_numbers(batch.column(1)[row].values),
            response_token_ids=tuple(_numbers(responses[i].values) for i in range(len(responses))),
            rewards=_numbers(batch.column(3)[row].values),
            ref_logprobs=_numbers(batch.column(4)[row].values),
            pairs=_numbers(batch.column(5)[row].values).reshape(-1, 2),
            target=batch.column(6)[row].as_py(),
        )

    def lengths(self) -> GroupLengths:
        """Sizes of all groups, from the offsets alone: no token is read."""
        parts = [_batch_lengths(batch) for batch in self._batches]
        empty = np.zeros((5, 0), dtype=np.int64), np.zeros(0, dtype=np.int32)
        columns, responses = zip(empty, *parts, strict=True)
        return GroupLengths(*np.concatenate(columns, axis=1), np.concatenate(responses))


def _numbers(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=True)


def _batch_lengths(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """The fields of GroupLengths for one record batch: [5, rows] int64, and [responses] int32."""
    nested = batch.column(2)
    outer = nested.offsets.to_numpy().astype(np.int64)  # response index at each group's border
    inner = nested.values.offsets.to_numpy()[: outer[-1] + 1].astype(
        np.int64
    )  # token index at each response's
    per_response = np.diff(inner)
    longest = [per_response[a:b].max(initial=0) for a, b in zip(outer[:-1], outer[1:], strict=True)]
    columns = [
        np.diff(batch.column(1).offsets.to_numpy()),
        np.diff(outer),
        inner[outer[1:]] - inner[outer[:-1]],
        np.asarray(longest, dtype=np.int64),
        np.diff(batch.column(5).offsets.to_numpy()) // 2,
    ]
    return np.stack(columns).astype(np.int64), per_response[outer[0] :].astype(np.int32)
