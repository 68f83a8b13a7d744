"""Two real DeepSpeed workers under Ray Train: the plain loop's losses, also after a worker was killed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from rayflow.dist.train import TrainCompute, train_with_ray
from rayflow.errors import StageError
from rayflow.training.checkpoints import FolderStore
from rayflow.training.groups import GroupFile, write_groups
from rayflow.training.loop import train
from rayflow.training.metrics import read_metrics
from rayflow.training.plain import PlainBackend
from tests.training.helpers import small_job, write_random_groups

pytestmark = pytest.mark.trainer

COMPUTE = TrainCompute(num_workers=2, max_failures=1)


@pytest.fixture(scope="module")
def cluster(ray_cluster):
    """The folder's Ray: a process can hold only one."""


@pytest.fixture(scope="module")
def groups(tiny_model, tmp_path_factory):
    return write_random_groups(tmp_path_factory.mktemp("groups") / "groups.arrow", tiny_model)


@pytest.fixture(scope="module")
def plain(tiny_model, groups, tmp_path_factory):
    job = small_job(tiny_model, groups, tmp_path_factory.mktemp("plain"))
    train(job, PlainBackend(), FolderStore(job.output_dir / "checkpoints", 1))
    return job, read_metrics(job.metrics_path)


def assert_same_history(got, expected):
    assert [line["step"] for line in got] == [line["step"] for line in expected]
    for key in {"loss", "grad_norm", "rewards/margins", "logps/chosen", "learning_rate"} & set(expected[0]):
        assert [x[key] for x in got] == pytest.approx([x[key] for x in expected], abs=1e-4, rel=1e-5)


@pytest.mark.parametrize("stage", [1, 3])
def test_two_workers_give_the_plain_loops_losses_and_weights(
    cluster, tiny_model, groups, plain, tmp_path, stage
):
    from transformers import AutoModelForCausalLM

    plain_job, expected = plain
    job = small_job(tiny_model, groups, tmp_path / "out", zero_stage=stage)
    seen = []
    result = train_with_ray(job, COMPUTE, "run", tmp_path / "storage", seen.append)
    assert_same_history(result.metrics_history, expected)
    assert result.num_restarts == 0
    assert seen == result.metrics_history
    weights = AutoModelForCausalLM.from_pretrained(result.model_dir).state_dict()
    for name, tensor in AutoModelForCausalLM.from_pretrained(plain_job.model_dir).state_dict().items():
        assert torch.allclose(weights[name], tensor, atol=1e-4), name


def test_two_workers_train_the_plain_loops_reward_model(cluster, tiny_model, groups, tmp_path):
    from transformers import AutoModelForSequenceClassification

    def job(folder):
        made = small_job(tiny_model, groups, folder, loss="bradley_terry", num_epochs=1, zero_stage=3)
        return dataclasses.replace(made, objective="reward")

    plain = job(tmp_path / "plain")
    train(plain, PlainBackend(), FolderStore(plain.output_dir / "checkpoints", 1))
    result = train_with_ray(job(tmp_path / "out"), COMPUTE, "run", tmp_path / "storage")
    assert_same_history(result.metrics_history, read_metrics(plain.metrics_path))
    weights = AutoModelForSequenceClassification.from_pretrained(result.model_dir).state_dict()
    assert weights["score.weight"].shape == (1, 64)
    for name, tensor in AutoModelForSequenceClassification.from_pretrained(plain.model_dir).state_dict().items():
        assert torch.allclose(weights[name], tensor, atol=1e-4), name


def test_a_killed_worker_costs_a_restart_and_changes_no_number(cluster, tiny_model, groups, plain, tmp_path):
    job = small_job(tiny_model, groups, tmp_path / "out")
    storage = tmp_path / "storage"
    killer = threading.Thread(target=_kill_one_worker_after_a_checkpoint, args=(storage, job.metrics_path))
    killer.start()
    result = train_with_ray(job, COMPUTE, "run", storage)
    killer.join()
    assert result.num_restarts == 1
    assert_same_history(result.metrics_history, plain[1])


def _kill_one_worker_after_a_checkpoint(storage: Path, metrics: Path) -> None:
    """SIGKILL a training worker of this process's own cluster once step 3 is done (checkpoint at 2)."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if any(line["step"] >= 3 for line in read_metrics(metrics)):
            os.kill(_training_workers()[-1], signal.SIGKILL)
            return
        time.sleep(0.01)


def _training_workers() -> list[int]:
    """Ids of this process's own training workers; processes may end while they are looked at."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


def test_a_workers_own_error_reaches_the_caller(cluster, tiny_model, groups, tmp_path):
    file = GroupFile(groups)
    huge = np.array([-3e38, 3e38, -3e38, 3e38], dtype=np.float32)  # finite, but the pairs' margins are not
    poisoned = dataclasses.replace(file[0], ref_logprobs=huge)
    write_groups(tmp_path / "bad.arrow", [poisoned, file[1]])
    job = small_job(tiny_model, tmp_path / "bad.arrow", tmp_path / "out")
    with pytest.raises(StageError, match="optimizer step 1 is not finite"):
        train_with_ray(job, TrainCompute(num_workers=1, max_failures=0), "run", tmp_path / "storage")
