"""The whole job on a tiny model: every stage, both runners, resumed and repeated."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.pipeline import commands
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.run_plan import build_run_plan
from tests.pipeline.helpers import tables

REWARD = {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"}


def small_settings(folder: Path, prompts: Path, model: str) -> dict:
    """A run that trains a tiny model in seconds: fake sampling with the model's tokenizer, local runner."""
    return {
        "name": "small",
        "runs_dir": str(folder / "runs"),
        "model": model,
        "prompts": {"train": {"path": str(prompts)}, "evaluation": {"path": str(prompts)}},
        "sample": {"engine": {"kind": "fake", "max_model_len": 256}, "num_candidates": 16, "max_tokens": 12},
        "reward": REWARD,
        "select": {"beta": 0.2, "num_accepted": 4},
        "reference": {"precision": "float32"},
        "train": {"learning_rate": 1e-3, "batch_size": 2, "precision": "float32"},
        "evaluate": {"num_samples": 4, "num_resamples": 100},
        "compute": {"runner": "local", "shard_size": 4},
    }


def finished_run(config: RunConfig) -> Plan:
    """Run it to the report, without a terminal."""
    commands.run(config, Console(file=io.StringIO(), width=120))
    return build_run_plan(config)


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    """Six chat prompts."""
    rows = [{"messages": [{"role": "user", "content": f"write review {i}"}]} for i in range(6)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_local_runner_goes_from_prompts_to_a_model_and_a_report(
    tmp_path: Path, prompt_file: Path, tiny_model: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plan = finished_run(RunConfig.model_validate(small_settings(tmp_path, prompt_file, tiny_model)))
    folder = plan.config.root
    trained = AutoModelForCausalLM.from_pretrained(folder / "07-train" / "model")
    start = AutoModelForCausalLM.from_pretrained(tiny_model)
    changed = [not a.equal(b) for a, b in zip(trained.parameters(), start.parameters(), strict=True)]
    assert any(changed)
    assert AutoTokenizer.from_pretrained(folder / "07-train" / "model").chat_template
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["missing"] == [] and summary["evaluation"]["num_prompts"] == 6
    # The fake engine ignores the weights, so both sides draw from one distribution, with seeds of their own.
    assert summary["evaluation"]["win_rate"] == pytest.approx(0.5, abs=0.15)
    steps = plan.artifacts["train"].manifest().extra["num_steps"]
    assert steps == 3
    before = (folder / "07-train" / "manifest.json").read_text()
    finished_run(plan.config)
    assert (folder / "07-train" / "manifest.json").read_text() == before


def test_reference_log_probs_belong_to_the_accepted_in_their_order(
    tmp_path: Path, prompt_file: Path, tiny_model: str
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    plan = finished_run(RunConfig.model_validate(small_settings(tmp_path, prompt_file, tiny_model)))
    stored = tables(plan)
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    sampled, selected, reference = stored["sample"][2], stored["select"][2], stored["reference"][2]
    for place, candidate in enumerate(selected["accepted"]):
        prompt, response = sampled["prompt_token_ids"], sampled["token_ids"][candidate]
        ids = torch.tensor([prompt + response])
        with torch.inference_mode():
            scores = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
        assert reference["ref_logprobs"][place] == pytest.approx(
            float(scores[-len(response) :].sum()), abs=1e-3
        )


@pytest.mark.engine
@pytest.mark.trainer
def test_on_ray_with_vllm_and_two_deepspeed_workers(
    tmp_path: Path, prompt_file: Path, tiny_model: str, ray_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing at the size of a toy; the last sampling stage is vLLM loading what DeepSpeed trained."""
    monkeypatch.setenv("HOME", str(ray_home))
    monkeypatch.chdir(
        Path(tiny_model).parent
    )  # a model that is named as it is seen from the command's folder
    settings = small_settings(tmp_path, prompt_file, Path(tiny_model).name)
    settings["sample"]["engine"] = {
        "kind": "vllm",
        "dtype": "float32",
        "max_model_len": 256,
        "kv_cache_gib": 0.25,
    }
    settings["compute"] = {
        "shard_size": 2,
        "sample": {"num_cpus": 1, "in_flight": 2},
        "score": {"num_cpus": 0.25},
        "train": {"num_workers": 2, "num_cpus": 0.75},
    }
    # Both comparisons are with targets: an engine less to start for each.
    held_out = tmp_path / "targets.jsonl"
    rows = [{**json.loads(line), "target": "a joy"} for line in prompt_file.read_text().splitlines()]
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings["prompts"] |= {name: {"path": str(held_out)} for name in ("validation", "evaluation")}
    settings["train"]["choose"] = {"every_steps": 2, "num_samples": 2}
    settings["evaluate"]["baseline"] = "target"
    config = RunConfig.model_validate(settings)
    plan = finished_run(config)
    history = (plan.artifacts["train"].folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line).get("eval/win_rate") is not None for line in history] == [False, True, True]
    stored = tables(plan)
    for name in ("sample", "score", "select", "pair", "reference", "eval-sample-policy", "evaluate"):
        assert len(stored[name]) == len({row["prompt_id"] for row in stored[name]}) == 6, name
    # The engine's own untempered log-probs and the reference pass are two computations of one number.
    for sampled, selected, reference in zip(
        stored["sample"], stored["select"], stored["reference"], strict=True
    ):
        for candidate, value in zip(selected["accepted"], reference["ref_logprobs"], strict=True):
            assert sampled["logprobs"][candidate] == pytest.approx(value, abs=2e-2)
    assert (config.root / "report.html").stat().st_size > 10_000
    for stage in ("sample", "eval-sample-policy"):
        assert list((config.root / "logs").glob(f"{stage}-*.log")), f"{stage} ran in no actor of Ray"
    workers = (plan.artifacts["train"].folder / "logs").glob("worker-*.log")
    assert {path.name for path in workers} == {"worker-0.log", "worker-1.log"}
