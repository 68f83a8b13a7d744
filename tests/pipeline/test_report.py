"""What the report says of a run's parts."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest import approx
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.core.options import KindOptions
from rayflow.core.rows import Row
from rayflow.errors import ArtifactError
from rayflow.pairing.first_round import FirstRound
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.report import model_name, timing_of, title, training_section
from rayflow.pipeline.report_answers import is_optimised, is_start
from rayflow.pipeline.report_columns import Endings, cut_share
from rayflow.pipeline.report_steps import logged_steps
from rayflow.pipeline.rounds import round_configs
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.stage import StageContext
from rayflow.selection.rejection import RejectionSampling
from tests.pipeline.helpers import run_data, tables
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


def trained(folder: Path, text: str | bytes, **told: int) -> Artifact:
    """A finished training with this log; `told` is in its manifest, too."""
    made = Artifact(folder / "07-train")
    made.begin({}, 0)
    log = made.folder / "metrics.jsonl"
    log.write_bytes(text if isinstance(text, bytes) else text.encode())
    made.commit(0.0, 10.0, {"num_groups": 64, "num_steps": 2} | told)
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
    some = timing_of(trained(tmp_path / "some", STEPS, num_trained=40))  # the others have nothing to train on
    assert some.rows == 80
    unlogged = timing_of(trained(tmp_path / "none", ""))
    assert (unlogged.rows, unlogged.step_tokens_per_second) == (None, None)


def test_a_training_that_stopped_early_says_how_far_it_came_and_what_was_kept(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    rates = (None, 0.5, None, 0.7, None, 0.7, None, 0.6)
    rows = [{"step": i, "epoch": i / 4} | ({"eval/win_rate": r} if r else {}) for i, r in enumerate(rates, 1)]
    train = trained(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    choose = {"choose": {"every_steps": 2, "patience": 2}}
    prompts = {**settings["prompts"], "validation": settings["prompts"]["train"]}
    for chosen, kept in ((choose, 4), ({}, None)):
        more = {"prompts": prompts, "train": {"num_epochs": 10, **chosen}}
        config = RunConfig.model_validate({**settings, **more})
        plan = SimpleNamespace(config=config, artifacts={"train": train})
        section = training_section(plan, config.train.loss)
        assert (section.num_epochs, section.kept_step) == (2.0, kept)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("sshleifer/tiny-gpt2", "tiny-gpt2"),
        ("fake", "fake"),
        ("/models/sft", "sft"),
        ("runs/first/07-train/model", "first"),
        ("/x/runs/first/round-1/07-train/model", "round-1"),
    ],
)
def test_a_model_that_was_trained_here_is_called_by_its_run(place: str, name: str) -> None:
    assert model_name(place) == name


def test_only_a_first_round_starts_from_its_baseline(settings: dict[str, Any]) -> None:
    first, second = round_configs(RunConfig.model_validate({**settings, "rounds": {"num": 2}}))
    assert is_start(first) and not is_start(second)
    for evaluate, expected in (({"baseline_model": "fake"}, True), ({"baseline_model": "other"}, False)):
        assert is_start(RunConfig.model_validate({**settings, "evaluate": evaluate})) is expected
    assert not is_start(RunConfig.model_validate({**settings, "evaluate": {"baseline": "target"}}))


FIRST = {"select": {"kind": "first_k", "num_accepted": 4}, "pair": {"kind": "none"}}
LIKELY = {"train": {"loss": "cross_entropy"}}
RANKED = {"reward": "tests.pipeline.judges:Counting"}
GIVEN = {"source": "direct", "select": None, "pair": None}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, True),
        (FIRST | LIKELY, False),
        (FIRST | LIKELY | {"score": "always"}, False),
        (FIRST | LIKELY | {"pair": {"kind": "tournament"}}, False),  # made, and learned from by nothing
        (FIRST | {"pair": {"kind": "tournament"}}, True),
        (FIRST | RANKED | {"pair": {"kind": "tournament"}}, True),  # asked, not scored
        (FIRST | LIKELY | {"select": {"kind": "top_k", "num_accepted": 1}}, True),
        (FIRST | LIKELY | RANKED | {"select": {"kind": "knockout"}}, True),
        (FIRST | {"train": {"loss": "rrhf"}}, True),
        (FIRST | {"train": {"loss": "cross_entropy", "choose": {"every_steps": 2}}}, True),
        (GIVEN, False),
        (GIVEN | {"train": {"loss": "rrhf"}}, True),
        (GIVEN | LIKELY | {"source": "targets"}, False),
    ],
)
def test_the_reward_is_said_to_be_optimised_where_training_depends_on_it(
    settings: dict[str, Any], more: dict[str, Any], expected: bool
) -> None:
    prompts = {**settings["prompts"], "validation": settings["prompts"]["train"]}
    assert is_optimised(RunConfig.model_validate({**settings, "prompts": prompts, **more})) is expected


def kind_to_three(prompt: str, response: str) -> float:
    """A reward by which only the responses to a few prompts differ: the others have no pair."""
    return float(len(response)) if any(f"number {i}." in prompt for i in range(3)) else 0.0


def test_what_training_stores_counts_the_prompts_that_it_trains_on(settings: dict[str, Any]) -> None:
    reward = {"kind": "rule", "function": f"{__name__}:kind_to_three"}
    train = {"loss": "simpo", "share_prompt": False}
    plan, _ = run_data(RunConfig.model_validate({**settings, "reward": reward, "train": train}))
    runner = SimpleNamespace(train=lambda *_: [])
    stage, artifact = build_run_plan(plan.config).stages["train"], Artifact(plan.config.root / "06-train")
    told = stage.run(StageContext(artifact, {}, plan.artifacts, runner, Console(quiet=True)))
    paired = sum(bool(row["pairs"]) for row in tables(plan)["pair"])
    assert (told["num_groups"], told["num_trained"]) == (10, paired) and 0 < paired < 10
