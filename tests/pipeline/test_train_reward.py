"""`rayflow train-reward` on a tiny model: it learns, resumes, and its model is a reward at once."""

from __future__ import annotations

import gzip
import io
import json
import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from rayflow.config import RunConfig, load_config
from rayflow.config.reward import RewardConfig
from rayflow.core.given_rows import Comparisons, Example
from rayflow.core.ids import prompt_id
from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.core.stats import logit
from rayflow.errors import ArtifactError, ConfigError, DataError, StageError
from rayflow.pipeline import commands
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.reward_plan import build_reward_plan
from rayflow.pipeline.stage import read_rows
from rayflow.pipeline.stages.quality import JudgedRow
from rayflow.pipeline.stored import open_plan
from rayflow.training.groups import GroupFile
from rayflow.training.loop import TrainJob
from rayflow.training.metrics import read_metrics
from rayflow.training.steps import Steps
from tests.pipeline.reward_helpers import reward_settings, write_preferences

KINDS = ("classifier", "ranker")
EPOCHS = {"classifier": 3, "ranker": 12}


def trained(settings: dict[str, Any], force: tuple[str, ...] = ()) -> tuple[Plan, str]:
    """Run it; returns the plan and what was printed."""
    config, text = RewardConfig.model_validate(settings), io.StringIO()
    commands.train_reward(config, Console(file=text, width=200), force)
    return build_reward_plan(config), text.getvalue()


def rows_of(plan: Plan, names: tuple[str, ...], view: type) -> list[Any]:
    sources = [plan.artifacts[name] for name in names]
    return [row for i in range(sources[-1].num_shards) for row in read_rows(sources, i, view)]


def with_epochs(settings: dict[str, Any], epochs: int, **changes: Any) -> dict[str, Any]:
    return {**settings, "train": {**settings["train"], "num_epochs": epochs, **changes}}


@pytest.fixture(scope="module")
def runs(tiny_model, tmp_path_factory) -> dict[str, tuple[dict[str, Any], Plan]]:
    """One finished training of each kind on the same 240 pairs."""
    folder = tmp_path_factory.mktemp("reward")
    data = write_preferences(folder / "pairs.jsonl", num_prompts=240)
    made = {}
    for kind in KINDS:
        settings = with_epochs(reward_settings(folder, data, tiny_model, kind), EPOCHS[kind])
        made[kind] = settings, trained(settings)[0]
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_what_the_pairs_have_in_common(runs, kind):
    plan = runs[kind][1]
    summary = json.loads((plan.config.root / "summary.json").read_text())
    found = summary["evaluation"]
    assert 40 <= found["num_pairs"] <= 80 and summary["num_pairs"] == 240 - found["num_pairs"]
    assert found["accuracy"] > 0.85 and found["low"] > 0.7
    assert sum(b["count"] for b in found["bins"]) == found["num_pairs"]
    assert abs(found["length"]["spearman"]) < 0.5
    assert summary["training"]["last"]["loss"] < summary["training"]["first"]["loss"] / 2
    (timing,) = [timing for timing in summary["timings"] if timing["stage"] == "train"]
    assert timing["peak_memory_bytes"] == summary["training"]["peak_rss_bytes"] > 2**27
    assert (plan.config.root / "report.html").stat().st_size > 20_000


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_a_reward_at_once_and_agrees_with_the_stored_verdicts(runs, kind):
    plan = runs[kind][1]
    model = plan.artifacts["train"].folder / "model"
    options = RunConfig.model_validate(
        {
            "name": "r",
            "model": "m",
            "prompts": {"train": {"path": "p"}},
            "reward": {"kind": kind, "model": str(model)},
        }
    ).reward
    reward = build("reward", options)
    reward.setup()
    judged = rows_of(plan, ("eval-prompts", "eval-judge"), JudgedRow)
    given = rows_of(plan, ("eval-prompts",), Example)
    for row, example in list(zip(judged, given, strict=True))[:5]:
        if kind == "classifier":
            scores = reward.score(example, example.responses)
            assert row.scores == pytest.approx(scores, abs=1e-5)
            expected = [scores[chosen] - scores[rejected] for chosen, rejected in row.pairs]
        else:
            expected = logit(reward.compare(example, example.responses, np.stack(row.pairs)))
            assert not len(row.scores)
        assert row.margins == pytest.approx(expected, abs=1e-4)


def test_a_policys_run_scores_with_the_trained_classifier(runs, tiny_model, tmp_path):
    from tests.test_whole import finished_run, small_settings

    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"write review {i}:"}) + "\n" for i in range(4)))
    settings = small_settings(tmp_path, prompts, tiny_model)
    model = runs["classifier"][1].artifacts["train"].folder / "model"
    plan = finished_run(
        RunConfig.model_validate({**settings, "reward": {"kind": "classifier", "model": str(model)}})
    )
    summary = json.loads((plan.config.root / "summary.json").read_text())
    assert summary["selection"]["accepted_reward"] > summary["selection"]["candidate_reward"]


def test_a_second_run_computes_nothing_and_a_changed_field_is_named(runs):
    settings, plan = runs["classifier"]
    before = (plan.artifacts["train"].folder / "manifest.json").read_text()
    _, text = trained(settings)
    assert text.count("stored") == len(plan.stages) == 6
    assert (plan.artifacts["train"].folder / "manifest.json").read_text() == before
    with pytest.raises(ArtifactError, match=r"train\.learning_rate: stored 0\.001, now 0\.002"):
        trained(with_epochs(settings, EPOCHS["classifier"], learning_rate=2e-3))
    with pytest.raises(ArtifactError, match=r"held_out\.fraction: stored 0\.25, now 0\.5"):
        trained({**settings, "data": {**settings["data"], "holdout_fraction": 0.5}})


def test_a_stopped_training_goes_on_with_the_same_history(runs, tmp_path, monkeypatch):
    from rayflow.pipeline.progress import StepProgress

    settings, plan = runs["classifier"]
    whole = read_metrics(plan.artifacts["train"].folder / "metrics.jsonl")
    settings = {**settings, "runs_dir": str(tmp_path)}
    show = StepProgress.update

    def stop(self, metrics):
        show(self, metrics)
        if metrics["step"] == 13:  # the last checkpoint is that of step 10
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StepProgress, "update", stop)
        trained(settings)
    again, _ = trained(settings)
    found = read_metrics(again.artifacts["train"].folder / "metrics.jsonl")
    for key in ("step", "loss", "grad_norm", "rewards/margins"):
        assert [line[key] for line in found] == [line[key] for line in whole]
    quality = [p.artifacts["evaluate"].manifest().extra["quality"]["accuracy"] for p in (plan, again)]
    assert quality[0] == quality[1]


def test_a_forced_evaluation_leaves_the_training_alone(runs, tmp_path):
    settings, plan = runs["ranker"]
    before = (plan.artifacts["train"].folder / "manifest.json").read_text()
    changed = {**settings, "evaluate": {"num_resamples": 100, "num_bins": 4}}
    again, _ = trained(changed, force=("evaluate",))
    assert (plan.artifacts["train"].folder / "manifest.json").read_text() == before
    assert len(again.artifacts["evaluate"].manifest().extra["quality"]["bins"]) == 4


def test_all_pairs_of_a_prompt_are_on_one_side_and_every_pair_is_on_a_side(tiny_model, tmp_path):
    data = write_preferences(tmp_path / "pairs.jsonl", num_prompts=60, pairs_each=4)
    plan = build_reward_plan(
        RewardConfig.model_validate(reward_settings(tmp_path, data, tiny_model, "classifier"))
    )
    sides = [list(plan.stages[name].read()) for name in ("prompts", "eval-prompts")]
    assert [type(row) for side in sides for row in side].count(Example) == 240
    train, held_out = ({row.prompt for row in side} for side in sides)
    assert not train & held_out and len(train | held_out) == 60
    assert 5 <= len(held_out) <= 25  # a quarter of 60, each drawn by itself


def test_a_prompt_of_the_evaluation_file_is_not_trained_on(tiny_model, tmp_path):
    train = write_preferences(tmp_path / "train.jsonl", num_prompts=12, pairs_each=2)
    test = write_preferences(tmp_path / "test.jsonl", num_prompts=5, pairs_each=1, seed=7)
    stolen = [json.loads(line) for line in train.read_text().splitlines()][2:4]  # both pairs of one prompt
    with test.open("a") as file:
        file.write(json.dumps({**stolen[0], "chosen": " another answer"}) + "\n")
    settings = reward_settings(tmp_path, train, tiny_model, "classifier")
    settings["data"] = {"train": {"path": str(train)}, "evaluation": {"path": str(test)}}
    plan, text = trained(with_epochs(settings, 1))
    assert stolen[0]["prompt"] not in {row.prompt for row in rows_of(plan, ("prompts",), Prompt)}
    assert plan.artifacts["prompts"].manifest().num_rows == 22
    assert plan.artifacts["eval-prompts"].manifest().num_rows == 6
    assert {f.reason for f in plan.artifacts["prompts"].shards.failures()} == {"another split"}


def test_how_many_prompts_of_the_evaluation_file_are_held_out_is_part_of_what_is_trained_on(
    tiny_model, tmp_path
):
    data = write_preferences(tmp_path / "train.jsonl", num_prompts=8)
    test = tmp_path / "test.jsonl"
    test.write_text("".join(data.read_text().splitlines(keepends=True)[:4]))
    settings = reward_settings(tmp_path, data, tiny_model, "classifier")
    plans, left = [], []
    for limit in (1, 4):
        settings["data"] = {
            "train": {"path": str(data)},
            "evaluation": {"path": str(test), "limit": limit},
        }
        plans.append(build_reward_plan(RewardConfig.model_validate(settings)))
        left.append([type(row) for row in plans[-1].stages["prompts"].read()].count(Example))
    assert left == [7, 4]
    assert plans[0].identities["prompts"] != plans[1].identities["prompts"]


def test_the_letter_names_the_chosen_response_wherever_it_is_shown(runs, tiny_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    plan = runs["ranker"][1]
    rows = rows_of(plan, ("encode",), Comparisons)
    examples = {row.prompt_id: row for row in rows_of(plan, ("prompts",), Example)}
    for row in rows:
        example = examples[row.prompt_id]
        assert len(row.comparison_token_ids) == len(row.letters) == 2 * len(row.pairs)
        chosen, rejected = (example.responses[i].strip() for i in row.pairs[0])
        for flip in (0, 1):
            text = tokenizer.decode(row.comparison_token_ids[flip], skip_special_tokens=True)
            context, _, shown = text.partition("[RESPONSE A]")
            first, _, second = shown.partition("[RESPONSE B]")
            named, other = (second, first) if flip else (first, second)
            assert example.prompt in context and chosen in named and rejected in other
            assert tokenizer.decode([row.letters[flip]]).strip() == "AB"[flip]


def test_every_epoch_shows_each_pair_once_in_an_order_of_its_own(runs, tiny_model):
    from transformers import AutoConfig

    plan = runs["ranker"][1]
    groups = GroupFile(plan.artifacts["train"].folder / "groups.arrow")
    assert groups[0].prompt_id == groups[1].prompt_id != groups[2].prompt_id
    options = plan.config.train.model_copy(update={"num_epochs": 4})

    def orders(seed):
        """[epoch, pair]: 1 where the chosen response is shown second."""
        job = TrainJob(options, tiny_model, groups.path, plan.config.root, seed, orders=2)
        steps = Steps(
            job, groups, SimpleNamespace(config=AutoConfig.from_pretrained(tiny_model), world_size=1)
        )
        seen = defaultdict(list)
        for _, step in steps.plans(first=0):
            seen[step.epoch] += step.groups
        assert all(sorted(i // 2 for i in epoch) == list(range(len(groups) // 2)) for epoch in seen.values())
        return np.array([[i % 2 for i in sorted(epoch)] for epoch in seen.values()])

    shown = orders(seed=3)
    assert shown.shape == (4, len(groups) // 2)
    assert (np.abs(shown.mean(axis=1) - 0.5) < 0.2).all()
    assert all((shown[e] != shown[e - 1]).mean() > 0.25 for e in (1, 2, 3))
    assert (orders(seed=3) == shown).all() and (orders(seed=4) != shown).any()
    manifest = plan.artifacts["train"].manifest().extra
    assert manifest["num_groups"] == len(groups) // 2
    assert manifest["num_steps"] == plan.config.train.num_epochs * math.ceil(
        len(groups) / 2 / plan.config.train.batch_size
    )


def test_a_comparison_that_does_not_fit_is_counted_not_cut(tiny_model, tmp_path):
    data = write_preferences(tmp_path / "pairs.jsonl", num_prompts=40)
    with data.open("a") as file:
        row = {"prompt": "write review 0 0 0:", "chosen": " great" * 300, "rejected": " dull" * 300}
        file.write(json.dumps(row) + "\n")
    settings = reward_settings(tmp_path, data, tiny_model, "ranker")
    test = write_preferences(tmp_path / "test.jsonl", num_prompts=3, seed=7)
    settings["data"] = {"train": {"path": str(data)}, "evaluation": {"path": str(test)}}
    with pytest.raises(StageError, match="comparison longer than the context.*exceed the context of 512"):
        trained({**with_epochs(settings, 1), "max_failed_fraction": 0.01})
    plan, _ = trained({**with_epochs(settings, 1), "max_failed_fraction": 0.1})
    assert [f.reason for f in plan.artifacts["encode"].shards.failures()] == [
        "comparison longer than the context"
    ]


def test_rows_without_a_labelled_pair_are_refused_with_the_reason(tiny_model, tmp_path):
    data = tmp_path / "ranked.jsonl"
    rows = [{"prompt": f"number {i}", "responses": [" a", " b"], "scores": [1.0, 0.0]} for i in range(20)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    # The first prompt is held out.
    with pytest.raises(
        DataError, match=r"ranked.jsonl, row 2: without a labelled pair; is the layout the right"
    ):
        trained(reward_settings(tmp_path, data, tiny_model, "classifier"))


def test_a_split_with_an_empty_side_is_refused_before_anything_is_trained(tiny_model, tmp_path):
    data = write_preferences(tmp_path / "pairs.jsonl", num_prompts=3)
    settings = reward_settings(tmp_path, data, tiny_model, "classifier")
    settings["data"]["holdout_fraction"] = 1e-6
    with pytest.raises(DataError, match="None of the 3 pairs.*is held out: raise data.holdout_fraction"):
        trained(settings)
    settings["data"]["holdout_fraction"] = 1 - 1e-6
    with pytest.raises(DataError, match="None of the 3 pairs.*is left to train on: lower"):
        trained({**settings, "name": "other"})


@pytest.mark.parametrize(
    "override, message",
    [
        ("kind=judge", "kind: Input should be 'classifier' or 'ranker'"),
        ("train.loss=sigmoid_norm", "a classifier is trained with bradley_terry: remove train.loss"),
        ("train.choose.every_steps=5", "train.choose compares policies, not reward models"),
        ("data.evaluation.path=other.jsonl", "two ways to hold pairs out: give one"),
        ("data.holdout_fraction=1", "data.holdout_fraction: Input should be less than 1"),
        ("data.tran={path: x}", "data.tran: unknown key. Did you mean 'train'?"),
        ("prompts.train.path=x", "prompts: unknown key."),
        ("train.lerning_rate=1", "train.lerning_rate: unknown key. Did you mean 'learning_rate'?"),
    ],
)
def test_a_mistake_in_the_configuration_names_the_key_and_the_way_out(tmp_path, override, message):
    path = tmp_path / "reward.yaml"
    path.write_text(json.dumps(reward_settings(tmp_path, tmp_path / "p.jsonl", "m", "classifier")))
    with pytest.raises(ConfigError) as caught:
        load_config(path, [override], RewardConfig)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_the_resolved_configuration_reads_back_as_itself(runs):
    plan = runs["classifier"][1]
    assert load_config(plan.config.root / "config.yaml", schema=RewardConfig) == plan.config


def test_a_report_can_be_written_anew_and_other_commands_say_what_this_folder_is(runs, tmp_path):
    root = runs["classifier"][1].config.root
    (root / "report.html").unlink()
    commands.write_report(root, Console(quiet=True))
    assert (root / "report.html").exists()
    for refused in (
        lambda: commands.export(root, "trl", None, Console(quiet=True)),
        lambda: open_plan(root),
    ):
        with pytest.raises(ArtifactError, match="holds the training of a reward model"):
            refused()


def test_a_real_file_of_published_preferences_is_read(tiny_model, tmp_path):
    """Dialogues in the layout of Bai et al. (arXiv:2204.05862), written here in its form, compressed."""
    path = tmp_path / "hh.jsonl.gz"
    with gzip.open(path, "wt") as file:
        for i in range(30):
            begin = f"\n\nHuman: review {i}\n\nAssistant: Which play?\n\nHuman: The {i}.\n\nAssistant:"
            file.write(json.dumps({"chosen": f"{begin} a joy", "rejected": f"{begin} dull and awful"}) + "\n")
    settings = with_epochs(reward_settings(tmp_path, path, tiny_model, "classifier"), 1)
    plan, _ = trained(settings)
    rows = rows_of(plan, ("prompts",), Example)
    assert all(len(row.messages) == 3 for row in rows)
    assert {prompt_id(row.prompt, row.messages) for row in rows} != {row.prompt_id for row in rows}
    assert plan.artifacts["evaluate"].manifest().extra["quality"]["num_pairs"] == 30 - len(rows)
