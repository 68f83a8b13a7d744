"""The first stage: what it stores of a file, and what belongs to its identity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rayflow.config import PromptSource, RunConfig
from rayflow.core.given_rows import Example
from rayflow.core.rows import Prompt
from rayflow.core.schema import from_table
from rayflow.errors import ArtifactError, DataError, StageError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.export import write_trl
from rayflow.pipeline.progress import StageCount
from rayflow.pipeline.prompts import PromptStage
from rayflow.pipeline.shards import Shards
from rayflow.pipeline.stage import StageContext
from rayflow.sources.read import read
from tests.pipeline.helpers import run_data

ROWS = [
    {"prompt": "Sky?", "chosen": "blue", "rejected": "green", "score_chosen": 2.5},
    {"prompt": "Sky?", "chosen": "blue", "rejected": "red"},
    {"prompt": "Sky?", "chosen": "blue", "rejected": "red"},
    {"prompt": "Sea?", "chosen": "wet"},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def stage(path: Path, writes: type[Prompt], **settings: object) -> PromptStage:
    return PromptStage("prompts", PromptSource(path=str(path), **settings), shard_size=1, writes=writes)


def stored(path: Path, writes: type[Prompt], **settings: object) -> Artifact:
    artifact = Artifact(path.parent / f"01-{writes.__name__}")
    stage(path, writes, **settings).run(StageContext(artifact, {}, {}, None, Console()))
    artifact.commit(0.0, 0.0)
    return artifact


def test_examples_are_stored_with_all_they_were_given(path: Path) -> None:
    artifact = stored(path, Example)
    rows = [row for i in range(artifact.num_shards) for row in from_table(artifact.shards.read(i), Example)]
    assert [row.responses for row in rows] == [("blue", "green"), ("blue", "red")]
    assert [row.pairs[0].tolist() for row in rows] == [[0, 1], [0, 1]]
    np.testing.assert_array_equal([row.rewards for row in rows], [[2.5, np.nan], [np.nan, np.nan]])
    reasons = [failure.reason for failure in artifact.shards.failures()]
    assert reasons == ["duplicate example", "missing key"]


def test_prompts_are_stored_without_the_responses(path: Path) -> None:
    artifact = stored(path, Prompt, layout="trl")
    assert artifact.num_shards == 1
    assert artifact.shards.read(0).column_names == ["prompt_id", "prompt", "messages", "target"]


def test_what_is_left_out_on_purpose_does_not_count_as_failed(path: Path) -> None:
    count = StageCount(stored(path, Example), total=len(ROWS))
    count.refresh()
    assert (count.rows, count.failed) == (2, 1)
    with pytest.raises(
        StageError, match=r"1 of 4 rows failed.*Reasons: missing key \(1\)\. First: .*"
    ) as error:
        count.check(0.0)
    assert "duplicate" not in str(error.value)


def test_layout_and_kind_of_row_belong_to_the_identity(path: Path) -> None:
    whole = stage(path, Example).identity()
    assert whole["config"]["layout"] == {"kind": "auto"} and whole["rows"] == "Example"
    assert stage(path, Prompt).identity() != whole
    assert stage(path, Example, layout="trl").identity() != whole
    plain = stage(path, Example, layout={"kind": "hh", "chat": False}).identity()
    assert plain["config"]["layout"] == {"kind": "hh", "chat": False}


def test_what_a_run_exports_is_read_back(config: RunConfig, tmp_path: Path) -> None:
    plan, _ = run_data(config)
    total, cut = write_trl(plan.artifacts, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    found = list(read(PromptSource(path=str(tmp_path / "out.jsonl"))))
    assert len(found) == len(lines) == total
    seen: set[tuple[str, ...]] = set()  # the fake engine repeats itself, so some pairs do
    for row, line in zip(found, lines, strict=True):
        texts = (line["prompt"], line["chosen"], line["rejected"])
        if texts in seen or texts[1] == texts[2]:
            assert row.reason in ("duplicate example", "identical responses")
            continue
        seen.add(texts)
        assert (row.prompt, *row.responses) == texts
        assert row.rewards.tolist() == [line["score_chosen"], line["score_rejected"]]
    assert len(seen) > total / 2


def test_a_file_without_a_usable_row_is_an_error_with_the_first_reason(path: Path) -> None:
    with pytest.raises(
        DataError, match="holds no prompts .rows refused: 4; the first: .*row 1: needs 'info'"
    ):
        stored(path, Example, layout="tldr")


def shards(artifact: Artifact) -> list[tuple[list[str], list[str]]]:
    """Of each shard the prompts, and the reasons of its refused rows."""
    return [
        (
            artifact.shards.read(i).column("prompt").to_pylist(),
            [failure.reason for failure in artifact.shards.marker(i).failures],
        )
        for i in range(artifact.num_shards)
    ]


def many(path: Path, rows: list[object], shard_size: int = 2) -> PromptStage:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return PromptStage("prompts", PromptSource(path=str(path), layout="prompts"), shard_size)


def run(made: PromptStage, folder: Path) -> Artifact:
    artifact = Artifact(folder)
    made.run(StageContext(artifact, {"id": 1}, {}, None, Console()))
    return artifact


def test_refused_rows_are_kept_with_the_shard_in_which_they_were_met(path: Path) -> None:
    rows = [
        {"no": 0},
        {"prompt": "a"},
        {"prompt": "a"},
        {"prompt": "b"},
        {"no": 1},
        {"prompt": "c"},
        {"no": 2},
    ]
    artifact = run(many(path, rows), path.parent / "01-prompts")
    assert shards(artifact) == [
        (["a", "b"], ["missing key", "duplicate prompt", "missing key"]),
        (["c"], ["missing key"]),
    ]
    assert artifact.commit(0.0, 0.0).num_failed == 4


def test_two_shards_of_rows_are_in_memory_at_most(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is written, and the next one, which is being read."""
    import gc
    import weakref

    made = many(path, [{"prompt": f"number {i}"} for i in range(50)], shard_size=5)
    real, alive, most = PromptStage.read, weakref.WeakSet(), []

    class Alive(Prompt):
        __hash__ = object.__hash__

    def watched(self: PromptStage):
        for row in real(self):
            row = Alive(**vars(row))
            alive.add(row)
            gc.collect()
            most.append(len(alive))
            yield row

    monkeypatch.setattr(PromptStage, "read", watched)
    gc.freeze()  # what was there before is not looked through every time
    artifact = run(made, path.parent / "01-prompts")
    gc.unfreeze()
    assert artifact.num_shards == 10 and len(most) == 50
    assert max(most) <= 2 * 5 + 1  # and the row that has just been read


def test_very_many_refused_rows_do_not_pile_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayflow.pipeline.prompts.MAX_FAILURES", 3)
    rows = [*[{"no": i} for i in range(4)], {"prompt": "a"}, {"prompt": "b"}, *[{"prompt": "a"}] * 4]
    artifact = run(many(path, rows), path.parent / "01-prompts")
    found = shards(artifact)
    assert sum((texts for texts, _ in found), []) == ["a", "b"]
    assert max(len(reasons) for _, reasons in found) == 3
    assert sum(len(reasons) for _, reasons in found) == 8


def test_a_stopped_stage_goes_on_with_the_shards_that_it_was_begun_with(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"number {i}"} for i in range(7)]
    whole = shards(run(many(path, rows), path.parent / "whole"))
    real = Shards.write

    def dies(self: Shards, index: int, *args: object, **kwargs: object) -> None:
        if index == 2:
            raise KeyboardInterrupt
        real(self, index, *args, **kwargs)

    folder = path.parent / "01-prompts"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Shards, "write", dies)
        run(many(path, rows), folder)
    first = Artifact(folder).shards.marker(0)
    with pytest.raises(ArtifactError, match="not finished"):
        _ = Artifact(folder).num_shards
    artifact = run(many(path, rows, shard_size=5), folder)
    assert artifact.shards.marker(0) == first and shards(artifact) == whole


def test_a_file_that_breaks_off_leaves_nothing_behind(path: Path) -> None:
    made = many(path, [{"prompt": f"number {i}"} for i in range(5)])
    with open(path, "a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError, match="line 6 is not JSON"):
        run(made, path.parent / "01-prompts")
    assert not (path.parent / "01-prompts").exists()
