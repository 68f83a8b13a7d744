"""The first stage: what it stores of a file, and what belongs to its identity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rayflow.config import PromptSource, RunConfig
from rayflow.core.rows import Example, Prompt
from rayflow.core.schema import from_table
from rayflow.errors import DataError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.export import write_trl
from rayflow.pipeline.progress import StageCount
from rayflow.pipeline.prompts import PromptStage
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
    rows = [row for i in range(artifact.num_shards) for row in from_table(artifact.read_shard(i), Example)]
    assert [row.responses for row in rows] == [("blue", "green"), ("blue", "red")]
    assert [row.pairs[0].tolist() for row in rows] == [[0, 1], [0, 1]]
    np.testing.assert_array_equal([row.rewards for row in rows], [[2.5, np.nan], [np.nan, np.nan]])
    reasons = [failure.reason for failure in artifact.failures()]
    assert reasons == ["duplicate example", "missing key"]


def test_prompts_are_stored_without_the_responses(path: Path) -> None:
    artifact = stored(path, Prompt, layout="trl")
    assert artifact.num_shards == 1
    assert artifact.read_shard(0).column_names == ["prompt_id", "prompt", "messages", "target"]


def test_what_is_left_out_on_purpose_does_not_count_as_failed(path: Path) -> None:
    count = StageCount(stored(path, Example), total=len(ROWS))
    count.refresh()
    assert (count.rows, count.failed) == (2, 1)


def test_layout_and_kind_of_row_belong_to_the_identity(path: Path) -> None:
    whole = stage(path, Example).identity()
    assert whole["config"]["layout"] == {"kind": "auto"} and whole["rows"] == "Example"
    assert stage(path, Prompt).identity() != whole
    assert stage(path, Example, layout="trl").identity() != whole
    plain = stage(path, Example, layout={"kind": "hh", "chat": False}).identity()
    assert plain["config"]["layout"] == {"kind": "hh", "chat": False}


def test_what_a_run_exports_is_read_back(config: RunConfig, tmp_path: Path) -> None:
    plan, _ = run_data(config)
    total = write_trl(plan.artifacts, tmp_path / "out.jsonl")
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
    with pytest.raises(DataError, match="holds no prompts .4 rows were refused: .*row 1: needs 'info'"):
        stored(path, Example, layout="tldr")
