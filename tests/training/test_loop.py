"""The plain training loop on a tiny Llama: it learns, resumes exactly, and saves a model that loads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rayflow.core.arithmetic import computed_in
from rayflow.errors import DataError, StageError
from rayflow.training.backend import learning_rate
from rayflow.training.checkpoints import FolderStore
from rayflow.training.groups import GroupFile, write_groups
from rayflow.training.loop import TrainJob, train
from rayflow.training.metrics import read_metrics
from rayflow.training.options import TrainOptions
from rayflow.training.plain import PlainBackend
from tests.training.helpers import reproducible, small_job, write_random_groups

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def groups(tiny_model, tmp_path_factory):
    return write_random_groups(tmp_path_factory.mktemp("groups") / "groups.arrow", tiny_model)


def run(job: TrainJob) -> list[dict[str, float]]:
    train(job, PlainBackend(), FolderStore(job.output_dir / "checkpoints", job.options.keep_checkpoints))
    return history(job)


def history(job: TrainJob) -> list[dict[str, float]]:
    return reproducible(read_metrics(job.metrics_path))


@pytest.fixture(scope="module")
def trained(tiny_model, groups, tmp_path_factory):
    job = small_job(tiny_model, groups, tmp_path_factory.mktemp("trained"))
    return job, run(job)


def test_training_starts_at_the_reference_and_prefers_the_chosen(trained):
    _, lines = trained
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[0]["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert lines[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert lines[-1]["loss"] < 0.6
    assert lines[-1]["rewards/accuracies"] > 0.9
    assert lines[-1]["epoch"] == 2


def test_the_saved_model_loads_and_its_checksums_hold(trained, tiny_model):
    job, _ = trained
    model = AutoModelForCausalLM.from_pretrained(job.model_dir)
    start = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert not torch.equal(model.lm_head.weight, start.lm_head.weight)
    assert AutoTokenizer.from_pretrained(job.model_dir).chat_template
    digests = json.loads((job.model_dir / "checksums.json").read_text())
    assert "model.safetensors" in digests
    for name, digest in digests.items():
        assert hashlib.sha256((job.model_dir / name).read_bytes()).hexdigest() == digest
    assert not list(job.output_dir.glob("*.partial"))


def test_a_stopped_run_resumes_with_the_same_history(trained, tiny_model, groups, tmp_path):
    _, expected = trained
    job = small_job(tiny_model, groups, tmp_path)

    def stop(metrics):
        if metrics["step"] == 3:  # after the checkpoint of step 2: step 3 is repeated
            raise KeyboardInterrupt

    store = FolderStore(tmp_path / "checkpoints", keep=2)
    with pytest.raises(KeyboardInterrupt):
        train(job, PlainBackend(), store, on_step=stop)
    assert len(history(job)) == 3
    steps = []
    train(job, PlainBackend(), store, on_step=lambda m: steps.append(m["step"]))
    assert steps == [3, 4, 5, 6]
    assert history(job) == expected


@pytest.mark.parametrize(
    "options", [{"micro_batch_tokens": 10_000}, {"share_prompt": False}, {"gradient_checkpointing": True}]
)
def test_memory_settings_do_not_change_the_losses(trained, tiny_model, groups, tmp_path, options):
    _, expected = trained
    lines = run(small_job(tiny_model, groups, tmp_path, **options))
    for key in ("loss", "grad_norm", "logps/chosen"):
        assert [x[key] for x in lines] == pytest.approx([x[key] for x in expected], abs=1e-4, rel=1e-4)


@pytest.mark.parametrize(
    "options", [{"precision": "bfloat16"}, {"optimizer": "adafactor"}, {"loss": "hinge_norm"}]
)
def test_other_settings_learn_too(tiny_model, groups, tmp_path, options):
    job = small_job(tiny_model, groups, tmp_path, **options)
    lines = run(job)
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.05
    saved = AutoModelForCausalLM.from_pretrained(job.model_dir, dtype="auto")
    assert saved.dtype == computed_in(getattr(torch, job.options.precision), DEVICE)


def test_every_step_tells_the_most_memory_so_far(trained):
    job, _ = trained
    peaks = [line["memory/peak_rss_bytes"] for line in read_metrics(job.metrics_path)]
    assert peaks == sorted(peaks)
    assert psutil.Process().memory_info().rss / 4 < peaks[0]
    assert peaks[-1] < psutil.virtual_memory().total
    assert all("memory/peak_gpu_bytes" not in line for line in read_metrics(job.metrics_path)) or (
        torch.cuda.is_available()
    )


def test_only_the_newest_checkpoints_stay(trained):
    job, _ = trained
    names = sorted(path.name for path in (job.output_dir / "checkpoints").iterdir())
    assert names == ["step-00000002", "step-00000004"]


def test_groups_without_pairs_are_left_out_and_none_at_all_is_an_error(tiny_model, groups, tmp_path):
    file = GroupFile(groups)
    empty = [dataclasses.replace(file[i], pairs=np.zeros((0, 2), np.int32)) for i in range(12)]
    write_groups(tmp_path / "some.arrow", [*empty, *(file[i] for i in range(12, 21))])
    assert len(run(small_job(tiny_model, tmp_path / "some.arrow", tmp_path / "a"))) == 2 * 2  # 9 groups of 21
    write_groups(tmp_path / "none.arrow", empty)
    with pytest.raises(DataError, match="None of the 12 groups has any pairs"):
        run(small_job(tiny_model, tmp_path / "none.arrow", tmp_path / "b"))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_prompts(tiny_model, groups, tmp_path):
    class Broken(PlainBackend):
        def logprobs(self, batch):
            return super().logprobs(batch) * float("nan")

    job = small_job(tiny_model, groups, tmp_path)
    with pytest.raises(StageError, match=r"loss of optimizer step 1 is not finite \(prompts p\d+"):
        train(job, Broken(), FolderStore(tmp_path / "c", 1))
    assert not job.model_dir.exists()


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        ("constant", [0.5, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 2 / 3, 1 / 3]),
        ("cosine", [0.5, 1, 1, 0.75, 0.25]),
    ],
)
def test_the_learning_rate_warms_up_and_decays(scheduler, rates):
    options = TrainOptions(lr_scheduler=scheduler, warmup_fraction=0.4, learning_rate=1.0)
    assert [learning_rate(options, i, 5) for i in range(5)] == pytest.approx(rates)


def test_the_options_load_without_torch():
    code = "import sys, rayflow.training.options; sys.exit(any(m in sys.modules for m in ('torch', 'ray')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
