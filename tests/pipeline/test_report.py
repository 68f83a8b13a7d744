"""What the report says of a run's parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest import approx

from rayflow.core.options import KindOptions
from rayflow.core.rows import Row
from rayflow.errors import ArtifactError
from rayflow.pairing.first_round import FirstRound
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.report import timing_of, title
from rayflow.pipeline.report_columns import Endings, cut_share
from rayflow.pipeline.report_steps import logged_steps
from rayflow.selection.rejection import RejectionSampling
from tests.pipeline.test_distributions import store


class Extended(KindOptions):
    """A plug-in's settings, whose identity also says what a file of its own holds."""

    kind: str = "plug_in:Extended"
    words: str = "few"
    limit: int = 3

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "content": "abc", "rows": 7, "parts": ["a"]}


def test_a_plug_in_that_says_more_than_its_settings_is_named_with_it() -> None:
    assert title(Extended()) == "Extended (limit 3, content abc, rows 7)"
    assert title(Extended(words="many")) == "Extended (words many, limit 3, content abc, rows 7)"


def test_numbers_are_told_but_for_a_zero_that_is_the_default() -> None:
    assert title(FirstRound.Config()) == "first_round"
    drawn = FirstRound.Config(labels="sample", temperature=0.5)
    assert title(drawn) == "first_round (labels sample, temperature 0.5)"
    assert title(RejectionSampling.Config()) == "rejection (num_accepted 8, beta 0.5)"
    assert title(RejectionSampling.Config(beta=0)) == "rejection (num_accepted 8, beta 0.0)"


def answers(folder: Path, reasons: list[list[list[str]] | None]) -> Artifact:
    """Shards of two prompts each; None: without how they ended."""
    known = [
        [Endings(prompt_id=f"{i}-{j}", finish_reasons=tuple(row)) for j, row in enumerate(shard)]
        for i, shard in enumerate(reasons)
        if shard is not None
    ]
    if known:
        return store(Artifact(folder), Endings, known)
    return store(
        Artifact(folder),
        Row,
        [[Row(prompt_id=f"{i}-{j}") for j in range(2)] for i in range(len(reasons))],
    )


def test_cut_responses_are_counted_of_the_prompts_that_have_a_verdict(tmp_path: Path) -> None:
    said = answers(tmp_path / "sample", [[["length", "stop"], ["length", "length"]], [["stop"], ["length"]]])
    all_of_them = answers(tmp_path / "all", [None, None])
    assert cut_share([said, all_of_them]) == approx(4 / 6)
    judged = store(Artifact(tmp_path / "some"), Row, [[Row(prompt_id="0-0")], [Row(prompt_id="1-0")]])
    assert cut_share([said, judged]) == approx(1 / 3)


def test_given_responses_have_no_share_of_cut_ones(tmp_path: Path) -> None:
    verdicts = answers(tmp_path / "verdicts", [None])
    assert cut_share([answers(tmp_path / "without", [None]), verdicts]) is None
    assert cut_share([answers(tmp_path / "untold", [[[], []]]), verdicts]) is None


def trained(folder: Path, text: str | bytes) -> Artifact:
    """A finished training with this log."""
    made = Artifact(folder / "07-train")
    made.begin({}, 0)
    log = made.folder / "metrics.jsonl"
    log.write_bytes(text if isinstance(text, bytes) else text.encode())
    made.commit(0.0, 10.0, {"num_groups": 64, "num_steps": 2})
    return made


STEPS = (
    '{"step": 1, "tokens_per_second": 40.0, "epoch": 1.0}\n{"step": 2, "tokens_per_second": 60, "epoch": 2}\n'
)


def test_a_half_written_last_line_of_a_trainings_log_is_left_out(tmp_path: Path) -> None:
    assert [row["step"] for row in logged_steps(trained(tmp_path, STEPS + '{"step": 3, "lo'))] == [1, 2]


@pytest.mark.parametrize("garbage", ["}{\n", "3\n", '{"loss": 1}\n', b"\xff\xfe\n"])
def test_garbage_in_a_trainings_log_is_named_with_its_line(tmp_path: Path, garbage: str | bytes) -> None:
    first, second = STEPS.encode().splitlines(keepends=True)
    bad = garbage if isinstance(garbage, bytes) else garbage.encode()
    with pytest.raises(ArtifactError, match=r"07-train/metrics\.jsonl, line 2, is no step"):
        logged_steps(trained(tmp_path, first + bad + second))


def test_a_training_says_what_went_through_it(tmp_path: Path) -> None:
    timing = timing_of(trained(tmp_path, STEPS))
    assert (timing.rows, timing.step_tokens_per_second, timing.tokens) == (128, 50.0, None)
    unlogged = timing_of(trained(tmp_path / "none", ""))
    assert (unlogged.rows, unlogged.step_tokens_per_second) == (None, None)
