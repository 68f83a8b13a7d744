"""`rayflow evaluate` on tiny models: every number, every kind of side, resumed, and refused where it must be."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from rich.console import Console

from rayflow.config import RunConfig, load_config
from rayflow.config.evaluate import EvaluateConfig
from rayflow.core.evaluation_rows import Diversity, ExactLogprobs, SideBySideVerdicts, Verdict
from rayflow.core.rows import Candidates
from rayflow.errors import ArtifactError, ConfigError, DataError, ModelError
from rayflow.evaluation.diversity import diversity
from rayflow.judges.template import load_template
from rayflow.pipeline import commands
from rayflow.pipeline.evaluation_config import evaluation_config
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.stage import read_rows
from rayflow.pipeline.stages.logprobs import Tokens
from rayflow.pipeline.stages.sample import SampleStage
from rayflow.pipeline.stored import open_plan
from tests.conftest import build_tiny_model
from tests.engines.conftest import forward_logprobs  # noqa: F401
from tests.judges.test_openai import choices, endpoint  # noqa: F401
from tests.pipeline.evaluation_helpers import (
    NUM_PROMPTS,
    Scripted,
    evaluated,
    evaluation_settings,
    summary_of,
)
from tests.readme import ROOT, TEXT, block


@pytest.fixture(scope="module")
def other_model(tmp_path_factory) -> str:
    """The tiny model with other weights: a policy that has moved."""
    folder = tmp_path_factory.mktemp("policy") / "model"
    build_tiny_model(folder, seed=1)
    return str(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model, other_model):
    """One finished evaluation with everything: (settings, plan, what was printed)."""
    settings = evaluation_settings(tmp_path_factory.mktemp("evaluation"), tiny_model, other_model)
    Scripted.asked.clear()
    return settings, *evaluated(settings)


def rows_of(plan, names, view):
    sources = [plan.artifacts[name] for name in names]
    return [row for i in range(sources[-1].num_shards) for row in read_rows(sources, i, view)]


def test_every_number_is_in_the_summary_and_agrees_with_what_is_stored(finished):
    _, plan, printed = finished
    found = summary_of(plan)
    assert list(found["rewards"]) == ["proxy", "gold"] and found["policy"] == "model"
    for measure in found["rewards"].values():
        won = measure["win_rate"]
        assert won["num_prompts"] == NUM_PROMPTS and won["low"] <= won["win_rate"] <= won["high"]
        level = measure["length_controlled"]
        assert 0 < level["low"] <= level["win_rate"] <= level["high"] < 1
        gain = measure["policy"]["mean"] - measure["baseline"]["mean"]
        assert measure["gain"]["mean"] == pytest.approx(gain)
        assert measure["policy"]["num"] == 4 * NUM_PROMPTS
    assert set(found["diversity"]) == {"policy", "baseline"}
    assert 0 < found["diversity"]["policy"]["distinct_1"]["mean"] < 1
    for side in ("policy", "baseline"):
        answers = rows_of(plan, (f"{side}-sample",), Candidates)
        ended = [reason for row in answers for reason in row.finish_reasons]
        assert found[f"{side}_cut"] == pytest.approx(ended.count("length") / len(ended))
    assert "wins" in printed and "report.html" in printed
    page = (plan.config.root / "report.html").read_text()
    for words in ("Win rates", "Side by side", "Diversity", "Distance from the SFT policy", "Median"):
        assert words in page
    assert "Not there yet" not in page and ">nan" not in page.lower()


def test_the_divergence_is_the_mean_log_ratio_of_plain_samples_under_both_models(finished, forward_logprobs):  # noqa: F811
    _, plan, _ = finished
    stored = json.loads((plan.artifacts["kl-sample"].folder / "stage.json").read_text())
    sampling = stored["identity"]["sample"]
    assert (sampling["temperature"], sampling["top_k"], sampling["top_p"]) == (1.0, 0, 1.0)
    tokens = rows_of(plan, ("kl-sample",), Tokens)
    sft, policy = (rows_of(plan, (name,), ExactLogprobs) for name in ("kl-sft", "kl-policy"))
    for row, values in list(zip(tokens, sft, strict=True))[:2]:
        expected = forward_logprobs(row.prompt_token_ids, row.token_ids)
        assert values.exact_logprobs == pytest.approx(expected, abs=1e-3)
    means = [float(np.mean(p.exact_logprobs - s.exact_logprobs)) for p, s in zip(policy, sft, strict=True)]
    kl = summary_of(plan)["kl"]
    assert kl["nats"] == pytest.approx(np.mean(means)) and kl["num_responses"] == 4 * NUM_PROMPTS
    assert len({round(m, 3) for m in means}) > 1  # two different models


def test_the_judge_sees_both_orders_and_what_it_said_is_stored(finished):
    _, plan, _ = finished
    rows = rows_of(plan, ("side-by-side",), SideBySideVerdicts)
    assert len(rows) == NUM_PROMPTS - 1  # one failed, which is counted
    for row in rows:
        assert len(row.judge_answers) == 8 and row.judge_swapped.tolist() == [0] * 4 + [1] * 4
        assert np.isnan(row.judge_verdicts).sum() == 2
        told = row.judge_verdicts[~np.isnan(row.judge_verdicts)]
        assert len(set(told.tolist())) == 1  # the same whichever is shown first
    found = summary_of(plan)["side_by_side"]
    assert (found["num_unparsable"], found["num_unparsable_swapped"]) == (7, 7)
    assert found["num_verdicts"] == 56 and found["consistent"] == 1.0 and found["first"] == 0.5
    for reading in ("distance", "scaled"):
        assert found[reading]["win"] + found[reading]["tie"] + found[reading]["loss"] == pytest.approx(1)
    (failure,) = plan.artifacts["side-by-side"].shards.failures()
    assert failure.reason == "judge failed" and "longer than the context" in failure.detail


def test_a_second_run_computes_nothing_and_another_reading_only_measures_anew(finished):
    settings, plan, _ = finished
    before = len(Scripted.asked)
    _, printed = evaluated(settings)
    assert printed.count("stored") == len(plan.stages) and len(Scripted.asked) == before
    changed = {**settings, "side_by_side": {**settings["side_by_side"], "threshold": 0.2}}
    with pytest.raises(ArtifactError, match=r"side_by_side\.threshold: stored 0\.35, now 0\.2"):
        evaluated(changed)
    _, printed = evaluated(changed, force=("measure",))
    assert printed.count("stored") == len(plan.stages) - 1 and len(Scripted.asked) == before
    assert summary_of(plan)["side_by_side"]["threshold"] == 0.2
    evaluated(settings, force=("measure",))
    with pytest.raises(ArtifactError, match=r"judge\.first_always: stored False, now True"):
        judge = {**settings["side_by_side"]["judge"], "first_always": True}
        evaluated({**settings, "side_by_side": {**settings["side_by_side"], "judge": judge}})


def test_a_judge_that_always_takes_the_first_is_found_out(finished, tmp_path):
    settings = finished[0]
    judge = {"judge": {"kind": "tests.pipeline.evaluation_helpers:Scripted", "first_always": True}}
    plan, _ = evaluated(
        {**settings, "runs_dir": str(tmp_path), "rewards": {}, "kl": None, "side_by_side": judge}
    )
    found = summary_of(plan)
    assert found["side_by_side"]["first"] == 1.0 and found["side_by_side"]["score"] == 0.5
    assert found["side_by_side"]["distance"]["tie"] == 1.0 and found["rewards"] == {} and found["kl"] is None
    assert any("favours what it is shown first" in note for note in found["notes"])
    # Without a reward, too, length stands beside the win rate, and how few prompts there are.
    assert 0 <= found["policy_cut"] <= 1 and 0 <= found["baseline_cut"] <= 1
    num = found["side_by_side"]["num_prompts"]
    assert any(f"With {num} prompts the intervals are too narrow" in note for note in found["notes"]), found[
        "notes"
    ]
    page = (plan.config.root / "report.html").read_text(encoding="utf-8")
    assert "responses of" in page and "Responses side by side" in page and "Response lengths" in page
    assert '<span class="badge">' not in page


def test_an_endpoint_judges_as_the_readme_configures_it(finished, tmp_path, endpoint, monkeypatch):  # noqa: F811
    """It answers with the response that is shown first and is longer; every third request it is busy."""
    monkeypatch.setenv("JUDGE_TOKEN", "s3cret")

    def reply(body, number):
        if number % 3 == 1:
            return 429, b"busy"
        shown = body["messages"][0]["content"].rpartition("Summary A:")[2]
        first, _, second = shown.rpartition("Explanation:")[0].partition("Summary B:")
        letter = "A" if len(first.strip()) > len(second.strip()) else "B"
        return choices(*[f"Verdict: {letter}"] * body["n"])

    server = endpoint(reply)
    text = block("yaml", "side_by_side:")
    shown = yaml.safe_load(text.replace("http://127.0.0.1:8000/v1", server.url))["side_by_side"]
    shown["judge"]["backoff_s"] = 0.01
    settings = {**finished[0], "runs_dir": str(tmp_path), "side_by_side": shown, "rewards": {}, "kl": None}
    plan, _ = evaluated(settings)
    found = summary_of(plan)["side_by_side"]
    assert (found["num_verdicts"], found["num_unparsable"], found["num_items"]) == (64, 0, NUM_PROMPTS)
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer s3cret"}
    assert len({body["seed"] for body in server.asked}) == 2 * NUM_PROMPTS  # each item and order its own
    for path in plan.config.root.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes()


def test_a_stopped_evaluation_goes_on(finished, tmp_path, monkeypatch):
    from rayflow.pipeline.stages.measure import MeasureStage

    settings = {**finished[0], "runs_dir": str(tmp_path)}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MeasureStage, "measures", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        evaluated(settings)
    before = len(Scripted.asked)
    plan, printed = evaluated(settings)
    assert printed.count("stored") == len(plan.stages) - 1 and len(Scripted.asked) == before
    whole, again = summary_of(finished[1]), summary_of(plan)
    assert {k: again[k] for k in ("rewards", "kl", "diversity")} == {
        k: whole[k] for k in ("rewards", "kl", "diversity")
    }


def test_targets_are_a_baseline_and_the_sft_policy_has_no_distance_from_itself(
    finished, tmp_path, tiny_model
):
    settings = {**finished[0], "runs_dir": str(tmp_path), "policy": "sft", "baseline": "target"}
    plan, _ = evaluated({**settings, "kl": {}, "side_by_side": None})
    found = summary_of(plan)
    assert (found["policy"], found["baseline"]) == ("SFT policy", "targets")
    assert found["kl"]["nats"] == pytest.approx(0, abs=1e-6)
    assert set(found["diversity"]) == {"policy"}
    assert found["rewards"]["proxy"]["baseline"]["num"] == NUM_PROMPTS


def test_given_responses_are_matched_by_their_prompts(finished, tmp_path):
    answers = tmp_path / "answers.jsonl"
    rows = [
        {"prompt": f"Tell me of number {i}.", "completion": f"A great great lovely tale {i}"}
        for i in reversed(range(NUM_PROMPTS - 1))
    ]
    rows.append({"prompt": "Tell me of something else.", "completion": "great"})
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {**finished[0], "runs_dir": str(tmp_path), "policy": {"responses": {"path": str(answers)}}}
    plan, _ = evaluated({**settings, "baseline": "target", "side_by_side": None})
    found = summary_of(plan)
    assert found["kl"] is None and found["policy"] == "answers.jsonl"
    assert found["rewards"]["proxy"]["win_rate"]["num_prompts"] == NUM_PROMPTS - 1
    assert found["rewards"]["proxy"]["win_rate"]["win_rate"] > 0.5
    assert [f["reason"] for f in found["failures"]] == ["no response"]
    answers.write_text(json.dumps(rows[-1]) + "\n")
    with pytest.raises(DataError, match="has no response to any of the prompts"):
        evaluated({**settings, "name": "none", "baseline": "target", "side_by_side": None})


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model):
    """A finished run with the local runner: (settings, plan)."""
    from tests.test_whole import finished_run, small_settings

    folder = tmp_path_factory.mktemp("run")
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"write review {i}:"}) + "\n" for i in range(4)))
    settings = small_settings(folder, prompts, tiny_model)
    return settings, finished_run(RunConfig.model_validate(settings))


def test_a_run_is_evaluated_by_its_folder(run):
    folder = run[1].config.root
    config = evaluation_config(folder, ["interval.num_resamples=50"])
    assert (config.name, config.root.parent) == ("small-evaluation", folder.parent)
    plan, _ = evaluated(config.model_dump(mode="json"))
    found = summary_of(plan)
    own = json.loads((folder / "summary.json").read_text())["evaluation"]
    assert found["rewards"]["proxy"]["win_rate"]["win_rate"] == pytest.approx(own["win_rate"])
    assert found["policy"] == "small" and found["kl"]["num_prompts"] == 4
    root = plan.config.root
    (root / "report.html").unlink()
    commands.write_report(root, Console(quiet=True))
    assert (root / "report.html").exists()
    with pytest.raises(ArtifactError, match="holds an evaluation"):
        open_plan(root)


def test_the_readmes_line_for_another_task_does_what_it_says(run, tmp_path):
    """With this run in the place of the README's, and a file of two prompts with targets."""
    line = next(
        line for line in TEXT.splitlines() if "cross-task" in line and line.startswith("rayflow evaluate")
    )
    arguments = line.partition("#")[0].split()[2:]
    other = tmp_path / "headlines.jsonl"
    other.write_text(
        "".join(
            json.dumps({"prompt": f"summarise {i}", "target": "A film was shown."}) + "\n" for i in range(2)
        )
    )
    given = [a.replace("headlines.jsonl", str(other)) for a in arguments if "=" in a]
    assert len(given) == arguments.count("--set") == 3
    config = evaluation_config(run[1].config.root, given)
    plan, _ = evaluated(config.model_dump(mode="json"))
    found = summary_of(plan)
    assert (found["name"], found["baseline"], found["prompts"]) == (
        "cross-task",
        "targets",
        "headlines.jsonl",
    )
    assert found["rewards"]["proxy"]["win_rate"]["num_prompts"] == 2 and found["kl"]["num_prompts"] == 2


def test_a_run_that_cannot_be_evaluated_says_why(run, tmp_path):
    settings = {**run[0], "runs_dir": str(tmp_path)}
    for name, prompts in (
        ("unfinished", settings["prompts"]),
        ("bare", {"train": settings["prompts"]["train"]}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        config = RunConfig.model_validate({**settings, "name": name, "prompts": prompts})
        (folder / "config.yaml").write_text(config.to_yaml())
    with pytest.raises(ArtifactError, match="has not finished its training"):
        evaluated(evaluation_config(tmp_path / "unfinished", []).model_dump(mode="json"))
    with pytest.raises(ConfigError, match="has no evaluation prompts"):
        evaluation_config(tmp_path / "bare", [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="is not a run's folder"):
        evaluation_config(tmp_path / "empty", [])


def test_the_ready_configuration_is_whole():
    config = load_config(ROOT / "jobs" / "configs" / "evaluate" / "quickstart.yaml", schema=EvaluateConfig)
    assert config.kl is not None and config.side_by_side.judge.kind == "engine"
    load_template(config.side_by_side.template)


def test_models_with_other_tokens_have_no_divergence(finished, tmp_path):
    from tests.conftest import tiny_tokenizer

    folder = tmp_path / "other"
    build_tiny_model(folder, seed=2)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["wonderful-word"])
    tokenizer.save_pretrained(folder)
    settings = {
        **finished[0],
        "runs_dir": str(tmp_path),
        "policy": str(folder),
        "rewards": finished[0]["rewards"],
    }
    with pytest.raises(ModelError, match="have different tokens"):
        evaluated({**settings, "side_by_side": None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": {}, "side_by_side": None}, "nothing judges the responses"),
        ({"policy": {"responses": {"path": "x"}}, "kl": {}}, "set kl to null"),
        ({"baseline": {"model": "a", "target": True}}, "give one of model, run"),
        ({"policy": "sft", "baseline": "sft"}, "policy and baseline are the same"),
        ({"rewards": {"a/b": {"kind": "http", "url": "http://x"}}}, "names a folder"),
        (
            {
                "side_by_side": {
                    "judge": {"kind": "openai", "url": "http://x", "model": "m"},
                    "num_verdicts": 7,
                }
            },
            "multiple",
        ),
        ({"side_by_side": {"judge": {}}}, "needs a 'kind': one of engine, openai"),
        (
            {
                "sample": {"engine": {"kind": "vllm", "tensor_parallel_size": 4}},
                "compute": {"sample": {"num_gpus": 1}},
            },
            "set compute.sample.num_gpus to 4",
        ),
        (
            {
                "side_by_side": {"judge": {"kind": "engine", "model": "m"}},
                "compute": {"judge": {"num_gpus": 0.5}},
            },
            "set side_by_side.judge.engine.gpu_memory_utilization to 0.5 or less",
        ),
        (
            {
                "rewards": {"a": {"kind": "classifier", "model": "m", "backend": "vllm"}},
                "compute": {"score": {"num_gpus": 0.5}},
            },
            "set rewards.a.gpu_memory_utilization to 0.5 or less",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, changes, message):
    settings = evaluation_settings(tmp_path, "a", "b")
    with pytest.raises(ValidationError, match=message):
        EvaluateConfig.model_validate({**settings, **changes})


def test_the_sides_draw_independently_and_the_baseline_as_often_as_it_is_told(tmp_path, tiny_model):
    twin = tmp_path / "twin"
    shutil.copytree(tiny_model, twin)  # the baseline again: with equal seeds it would say the same
    settings = evaluation_settings(tmp_path, tiny_model, str(twin))
    del settings["side_by_side"], settings["rewards"]["gold"]
    settings |= {"kl": None, "sample": {**settings["sample"], "num_baseline_candidates": 6}}
    plan, printed = evaluated(settings)
    policy, baseline = (rows_of(plan, (f"{side}-sample",), Candidates) for side in ("policy", "baseline"))
    assert {len(row.responses) for row in policy} == {4} and {len(row.responses) for row in baseline} == {6}
    for ours, theirs in zip(policy, baseline, strict=True):
        assert ours.prompt_id == theirs.prompt_id
        assert set(ours.responses).isdisjoint(theirs.responses)
    shares = np.array([row.win_rate for row in rows_of(plan, ("verdict-proxy",), Verdict)])
    np.testing.assert_allclose(shares * 48 % 1, 0, atol=1e-9)  # halves of 4 x 6 comparisons
    measure = summary_of(plan)["rewards"]["proxy"]
    assert (measure["policy"]["num"], measure["baseline"]["num"]) == (4 * NUM_PROMPTS, 6 * NUM_PROMPTS)
    for side, drawn in (("policy", policy), ("baseline", baseline)):
        stored = rows_of(plan, (f"{side}-diversity",), Diversity)
        expected = [diversity(row.prompt_id, row.responses[:4]).distinct_1 for row in drawn]
        assert [row.distinct_1 for row in stored] == pytest.approx(expected)


def test_given_answers_cannot_be_drawn_more_often(tmp_path, tiny_model):
    settings = evaluation_settings(tmp_path, tiny_model, tiny_model) | {"baseline": "target"}
    settings["sample"]["num_baseline_candidates"] = 6
    with pytest.raises(ValidationError, match="num_baseline_candidates needs a baseline that samples"):
        EvaluateConfig.model_validate(settings)


def test_a_run_compares_independent_draws_too(tmp_path, tiny_model):
    settings = evaluation_settings(tmp_path, tiny_model, tiny_model)
    prompts = settings["prompts"]
    config = RunConfig.model_validate(
        {
            "name": "run",
            "runs_dir": str(tmp_path / "runs"),
            "model": tiny_model,
            "prompts": {"train": prompts, "validation": prompts, "evaluation": prompts},
            "reward": settings["rewards"]["proxy"],
            "train": {"choose": {"every_steps": 1, "baseline": "sft"}},
        }
    )
    stages = build_run_plan(config).stages
    sides = {name: stage.side for name, stage in stages.items() if isinstance(stage, SampleStage)}
    assert sides == {
        "sample": "",
        "valid-sample-sft": "baseline",
        "eval-sample-sft": "baseline",
        "eval-sample-policy": "policy",
    }


def test_a_word_that_is_a_runs_folder_names_the_run(tmp_path, tiny_model) -> None:
    """It was taken for a model, and refused for having no config.json."""
    settings = evaluation_settings(tmp_path, tiny_model, tiny_model)
    for name, inside in (("one", "config.yaml"), ("rounds", "round-1/config.yaml")):
        path = tmp_path / "runs" / name / inside
        path.parent.mkdir(parents=True)
        path.write_text("name: any")
        side = EvaluateConfig.model_validate({**settings, "baseline": str(tmp_path / "runs" / name)}).baseline
        assert (side.kind, side.run) == ("run", str(tmp_path / "runs" / name))
    for word in ("org/name", str(tmp_path / "nowhere"), f"{tiny_model}/"):
        assert EvaluateConfig.model_validate({**settings, "baseline": word}).baseline.kind == "model"


def test_the_two_ways_to_evaluate_the_quickstart_write_to_different_folders(tmp_path) -> None:
    folder = tmp_path / "runs" / "quickstart"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(load_config(ROOT / "jobs/configs/quickstart.yaml").to_yaml())
    by_file = load_config(ROOT / "jobs/configs/evaluate/quickstart.yaml", None, EvaluateConfig)
    assert evaluation_config(folder, []).name == "quickstart-evaluation" != by_file.name
