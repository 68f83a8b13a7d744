"""The training data file: what goes in comes out, and bad groups are named."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rayflow.errors import DataError
from rayflow.training import groups as module
from rayflow.training.groups import GroupFile, TrainingGroup, are_whole, write_groups


def group(i: int, k: int = 3) -> TrainingGroup:
    rng = np.random.default_rng(i)
    return TrainingGroup(
        prompt_id=f"p{i}",
        prompt_token_ids=rng.integers(0, 99, 2 + i % 5).astype(np.int32),
        response_token_ids=tuple(rng.integers(0, 99, 1 + (i + j) % 4).astype(np.int32) for j in range(k)),
        rewards=rng.normal(size=k),
        ref_logprobs=rng.normal(size=k).astype(np.float32),
        pairs=np.array([[0, 1]] * (i % 3), dtype=np.int32).reshape(-1, 2),
    )


@pytest.mark.parametrize("num_groups", [0, 1, 7])
def test_groups_come_back_as_they_were_written(tmp_path, monkeypatch, num_groups):
    monkeypatch.setattr(module, "_GROUPS_PER_BATCH", 3)  # several record batches
    written = [group(i) for i in range(num_groups)]
    assert write_groups(tmp_path / "g.arrow", iter(written)) == num_groups
    file = GroupFile(tmp_path / "g.arrow")
    assert len(file) == num_groups
    for i, expected in enumerate(written):
        for field in dataclasses.fields(TrainingGroup):
            got, want = getattr(file[i], field.name), getattr(expected, field.name)
            np.testing.assert_equal(got, want)


def test_lengths_are_those_of_the_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_GROUPS_PER_BATCH", 3)
    written = [group(i) for i in range(7)]
    write_groups(tmp_path / "g.arrow", written)
    lengths = GroupFile(tmp_path / "g.arrow").lengths()
    assert lengths.prompt.tolist() == [len(g.prompt_token_ids) for g in written]
    assert lengths.num_responses.tolist() == [3] * 7
    assert [lengths.responses_of(i) for i in range(7)] == [
        [len(ids) for ids in g.response_token_ids] for g in written
    ]
    assert lengths.response_total.tolist() == [sum(map(len, g.response_token_ids)) for g in written]
    assert lengths.response_max.tolist() == [max(map(len, g.response_token_ids)) for g in written]
    assert lengths.num_pairs.tolist() == [len(g.pairs) for g in written]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_token_ids": np.array([], dtype=np.int32)}, "empty prompt"),
        ({"rewards": np.zeros(2)}, "unequal lengths"),
        ({"ref_logprobs": np.array([0, np.nan, 0], dtype=np.float32)}, "not finite"),
        ({"pairs": np.array([[0, 3]])}, "outside its 3 responses"),
    ],
)
def test_a_group_that_cannot_be_used_is_named_and_leaves_no_file(tmp_path, change, message):
    with pytest.raises(DataError, match=f"p4.*{message}"):
        write_groups(tmp_path / "g.arrow", [group(0), dataclasses.replace(group(4), **change)])
    assert not (tmp_path / "g.arrow").exists()


@pytest.mark.parametrize("content", [None, b"", b"not arrow at all"])
def test_a_missing_or_foreign_file_is_a_data_error(tmp_path, content):
    if content is not None:
        (tmp_path / "g.arrow").write_bytes(content)
    with pytest.raises(DataError, match=r"g\.arrow"):
        GroupFile(tmp_path / "g.arrow")


def test_a_file_that_is_not_what_was_written_is_known(tmp_path):
    path = tmp_path / "g.arrow"
    assert not are_whole(path)
    write_groups(path, [group(i) for i in range(4)])
    assert are_whole(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not are_whole(path)
    write_groups(path, [group(i) for i in range(3)])
    assert are_whole(path)
    (tmp_path / "g.arrow.json").unlink()
    assert not are_whole(path)
