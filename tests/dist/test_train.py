"""Two real DeepSpeed workers under Ray Train: the plain loop's losses, also after a worker was killed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

from rayflow.dist.train import TrainCompute, train_with_ray
from rayflow.errors import StageError
from rayflow.training.checkpoints import FolderStore
from rayflow.training.deepspeed import DeepSpeedBackend
from rayflow.training.deepspeed_library import tensors_only
from rayflow.training.groups import GroupFile, write_groups
from rayflow.training.loop import train
from rayflow.training.metrics import read_metrics
from rayflow.training.options import ChoiceOptions
from rayflow.training.plain import PlainBackend
from tests.training.helpers import small_job, write_groups_of, write_random_groups

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "budget"), [(1, 120), pytest.param(3, 40, id="3, with groups that are split")]
)
def test_two_workers_give_the_plain_loops_losses_and_weights(
    cluster, tiny_model, groups, plain, tmp_path, stage, budget
):
    from transformers import AutoModelForCausalLM

    plain_job, expected = plain
    job = small_job(tiny_model, groups, tmp_path / "out", zero_stage=stage, micro_batch_tokens=budget)
    seen = []
    result = train_with_ray(job, COMPUTE, "run", tmp_path / "storage", seen.append)
    assert_same_history(result.metrics_history, expected)
    assert result.num_restarts == 0
    assert seen == result.metrics_history
    weights = AutoModelForCausalLM.from_pretrained(result.model_dir).state_dict()
    for name, tensor in AutoModelForCausalLM.from_pretrained(plain_job.model_dir).state_dict().items():
        assert torch.allclose(weights[name], tensor, atol=1e-4), name


@pytest.mark.slow
def test_weights_that_are_split_are_fetched_by_all_workers_together(cluster, tiny_model, tmp_path):
    """Weights large enough for ZeRO-3 to split, and workers whose logits would need one piece and two."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(tiny_model, hidden_size=512, num_attention_heads=8, head_dim=64)
    config.num_key_value_heads, config.num_hidden_layers = 8, 1
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float()
    assert model.lm_head.weight.numel() > 100_000  # DeepSpeed keeps smaller ones whole
    folder = str(tmp_path / "model")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    rng = np.random.default_rng(0)
    branches = [
        (rng.integers(3, 300, 5), [rng.integers(3, 300, n).astype(np.int32) for _ in range(4)])
        for n in (150, 20, 140, 9)
    ]
    groups = write_groups_of(tmp_path / "groups.arrow", folder, branches)
    more = {"batch_size": 2, "num_epochs": 1, "micro_batch_tokens": 2000, "zero_stage": 3}
    plain = small_job(folder, groups, tmp_path / "plain", **more)
    train(plain, PlainBackend(), FolderStore(plain.output_dir / "checkpoints", 1))
    job = small_job(folder, groups, tmp_path / "out", **more)
    result = train_with_ray(job, dataclasses.replace(COMPUTE, timeout_s=60), "run", tmp_path / "storage")
    assert_same_history(result.metrics_history, read_metrics(plain.metrics_path))


@pytest.mark.slow
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
    for name, tensor in (
        AutoModelForSequenceClassification.from_pretrained(plain.model_dir).state_dict().items()
    ):
        assert torch.allclose(weights[name], tensor, atol=1e-4), name


@pytest.mark.slow
def test_a_killed_worker_costs_a_restart_and_changes_no_number(cluster, tiny_model, groups, plain, tmp_path):
    job = small_job(tiny_model, groups, tmp_path / "out")
    storage = tmp_path / "storage"
    killer = threading.Thread(target=_kill_one_worker_after_a_checkpoint, args=(storage, job.metrics_path))
    killer.start()
    result = train_with_ray(job, COMPUTE, "run", storage)
    killer.join()
    assert result.num_restarts == 1
    assert_same_history(result.metrics_history, plain[1])
    kept = sorted((storage / "run").glob("checkpoint_step-*"))
    assert [path.name.split("-")[1] for path in kept] == ["00000002", "00000004"]  # none of them twice
    assert not list((storage / "run").rglob("worker-*"))


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


class Stopped(Exception):
    """The run was stopped from outside."""


@dataclasses.dataclass(frozen=True)
class StopsOnce:
    """A judge that stops the run when it is first asked at this step or later; then it is content."""

    marker: Path
    step: int = 0
    wanted: Path | None = None
    """Waited for before."""
    max_failed_fraction: float = 0.0
    folder: str = dataclasses.field(default_factory=os.getcwd)
    """Of the command, where relative paths of a reward's settings start."""

    def __call__(self, model_dir: Path, rank: int, world_size: int) -> tuple[float, int, int]:
        step = int(model_dir.name.removeprefix("step-"))
        until = time.monotonic() + 60
        while self.wanted is not None and not self.wanted.exists() and time.monotonic() < until:
            time.sleep(0.1)
        if step >= self.step and not self.marker.exists():
            torch.distributed.barrier()
            if rank == 0:
                self.marker.touch()
            raise Stopped
        assert os.getcwd() == self.folder
        return float(step), 100 * world_size, 100 * world_size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"num_workers": 2, "zero_stage": 1}, {"num_workers": 1, "zero_stage": 1}, id="2 to 1"),
        pytest.param({"num_workers": 1, "zero_stage": 2}, {"num_workers": 2, "zero_stage": 1}, id="1 to 2"),
        pytest.param({"num_workers": 2, "zero_stage": 3}, {"num_workers": 1, "zero_stage": 3}, id="ZeRO-3"),
    ],
)
def test_training_goes_on_with_another_number_of_workers(
    cluster, tiny_model, groups, plain, tmp_path, before, after
):
    """Stopped at step 3, after the checkpoint of step 2: the history from there on is the undisturbed one."""

    def run(num_workers, zero_stage):
        choose = ChoiceOptions(every_steps=3)
        job = small_job(tiny_model, groups, tmp_path / "out", zero_stage=zero_stage, choose=choose)
        job = dataclasses.replace(job, judge=StopsOnce(tmp_path / "stopped"))
        return train_with_ray(job, TrainCompute(num_workers, max_failures=0), "run", tmp_path / "storage")

    with pytest.raises(StageError, match="restarts are used up"):
        run(**before)
    done = read_metrics(tmp_path / "out" / "metrics.jsonl")
    assert [line["step"] for line in done] == [1, 2]
    result = run(**after)
    assert_same_history(result.metrics_history, plain[1])
    assert result.metrics_history[:2] == done  # to the last digit of their speed: they were not run again
    assert not (tmp_path / "out" / "universal").exists()


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["file", "list"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_by_any_number_of_workers(
    cluster, tiny_model, groups, plain, tmp_path, damaged
):
    """Of two workers' checkpoints of steps 2 and 4, the newest's second worker's file is not what it was, or Ray Train
    was killed while it wrote that it is there."""
    listed = tmp_path / "storage" / "run" / CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

    def run(num_workers):
        # Ray Train writes its list a while after a checkpoint, and these steps are short: step 3 waits for it.
        choose = ChoiceOptions(every_steps=3 if damaged == "list" else 5)
        job = small_job(tiny_model, groups, tmp_path / "out", choose=choose, keep_checkpoints=2)
        judge = StopsOnce(tmp_path / "stopped", step=5, wanted=listed if damaged == "list" else None)
        job = dataclasses.replace(job, judge=judge)
        return train_with_ray(job, TrainCompute(num_workers, max_failures=0), "run", tmp_path / "storage")

    with pytest.raises(StageError, match="restarts are used up"):
        run(num_workers=2)
    done = read_metrics(tmp_path / "out" / "metrics.jsonl")
    assert [line["step"] for line in done] == [1, 2, 3, 4, 5][: 5 if damaged == "list" else 4]
    earlier, newest = sorted(path.parent for path in (tmp_path / "storage").rglob("shape.json"))
    (file,) = (path for path in newest.rglob("*_rank_1_*optim_states.pt"))
    if damaged == "list":
        listed.write_bytes(listed.read_bytes()[:100])
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    result = run(num_workers=1)
    assert_same_history(result.metrics_history, plain[1])
    assert (
        result.metrics_history[:2] == done[:2]
    )  # to the last digit of their speed: from the checkpoint of step 2 on
    assert result.metrics_history[2] != done[2] and earlier != newest
    said = (tmp_path / "out" / "logs" / "worker-0.log").read_text()
    assert damaged == "list" or (f"{newest.name} is damaged" in said and file.name in said)


def test_what_cannot_be_split_anew_is_refused_with_a_way_out(tmp_path):
    def load(saved, zero_stage, optimizer="adamw"):
        backend = object.__new__(DeepSpeedBackend)
        backend.world_size, backend.stage, backend._optimizer_name = 1, zero_stage, optimizer
        backend.precision = "float32"
        (tmp_path / "shape.json").write_text(json.dumps({"precision": "float32", **saved}))
        backend.load_state(tmp_path)

    with pytest.raises(StageError, match="keep the zero_stage, or delete the unfinished"):
        load({"num_workers": 1, "zero_stage": 3}, zero_stage=1)
    with pytest.raises(StageError, match="Adafactor's state cannot be split anew"):
        load({"num_workers": 2, "zero_stage": 1}, zero_stage=1, optimizer="adafactor")
    with pytest.raises(StageError, match="compute in another type: go on with workers like the ones before"):
        load({"num_workers": 1, "zero_stage": 1, "precision": "bfloat16"}, zero_stage=1)


class Attack:
    """A pickle that leaves a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_brings_no_code(tmp_path):
    torch.save({"optimizer": Attack(tmp_path / "ran")}, tmp_path / "state.pt")
    with tensors_only(), pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(tmp_path / "state.pt", weights_only=False)  # as DeepSpeed does
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "state.pt", weights_only=False)
    assert (tmp_path / "ran").exists()  # it would have


@pytest.mark.slow
def test_a_workers_own_error_reaches_the_caller(cluster, tiny_model, groups, tmp_path):
    file = GroupFile(groups)
    huge = np.array([-3e38, 3e38, -3e38, 3e38], dtype=np.float32)  # finite, but the pairs' margins are not
    poisoned = dataclasses.replace(file[0], ref_logprobs=huge)
    write_groups(tmp_path / "bad.arrow", [poisoned, file[1]])
    job = small_job(tiny_model, tmp_path / "bad.arrow", tmp_path / "out")
    with pytest.raises(StageError, match="optimizer step 1 is not finite"):
        train_with_ray(job, TrainCompute(num_workers=1, max_failures=0), "run", tmp_path / "storage")
