"""A file's responses to the prompts of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

from pytest import approx
from rich.console import Console

from rayflow.config import PromptSource
from rayflow.core.ids import prompt_id
from rayflow.core.rows import Prompt, Responses
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.report_columns import cut_share
from rayflow.pipeline.stage import StageContext, read_rows
from rayflow.pipeline.stages.given import GivenStage
from tests.pipeline.test_distributions import store


def given(folder: Path, rows: list[dict]) -> tuple[list[Responses], float | None]:
    """What the stage stores for the prompts of these rows, and the share of it that was cut."""
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = dict.fromkeys(row["prompt"] for row in rows)
    asked = [Prompt(prompt_id=prompt_id(text, ()), prompt=text, messages=(), target=None) for text in texts]
    prompts = store(Artifact(folder / "prompts"), Prompt, [asked])
    stage = GivenStage("given", ("prompts",), PromptSource(path=str(folder / "answers.jsonl")))
    made = Artifact(folder / "given")
    stage.run(StageContext(made, {}, {"prompts": prompts}, None, Console(quiet=True)))
    return read_rows([prompts, made], 0, Responses), cut_share([prompts, made])


def test_how_a_response_ended_is_not_known_where_no_row_says_it(tmp_path: Path) -> None:
    rows, share = given(tmp_path, [{"prompt": "a", "completion": "x"}, {"prompt": "a", "completion": "y"}])
    assert rows[0].responses == ("x", "y") and rows[0].finish_reasons == ()
    assert share is None and rows[0].cut.tolist() == [False, False]


def test_where_a_row_says_it_the_prompts_others_ended_by_themselves(tmp_path: Path) -> None:
    rows, share = given(
        tmp_path,
        [
            {"prompt": "a", "responses": ["x", "y"], "finish_reasons": ["length", "stop"]},
            {"prompt": "a", "responses": ["z"]},
            {"prompt": "b", "responses": ["x", "y", "z"]},
        ],
    )
    assert [row.finish_reasons for row in rows] == [("length", "stop", "stop"), ()]
    assert [row.cut.tolist() for row in rows] == [[True, False, False], [False, False, False]]
    assert share == approx(1 / 3)  # of those that are told
