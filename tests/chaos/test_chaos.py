"""kill -9 of every kind of process at seeded moments: the run ends well, and with the undisturbed run's bytes.

One trial belongs to the normal tests, three to the slow ones; all others are `python -m pytest -m chaos tests/chaos`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayflow.config import RunConfig
from rayflow.training.metrics import read_metrics
from tests.chaos.job import NUM_PROMPTS, Job, digests, settings
from tests.chaos.trial import Trial, metrics
from tests.pipeline.helpers import run_data
from tests.training.helpers import reproducible

DATA_FAULTS = ("sampler", "engine", "reward", "driver", "local-driver", "raylet")
TRAINING_FAULTS = ("trainer", "driver-in-training")


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path, for Ray keeps sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the same run in one process, without Ray and without a fault."""
    given = settings(tmp_path_factory.mktemp("undisturbed"), "undisturbed")
    given["sample"]["engine"] = {"kind": "fake"}
    given["reward"] = {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"}
    given["compute"] = {"runner": "local"}
    config = RunConfig.model_validate(given)
    run_data(config)
    found = digests(config.root)
    assert set(found) == {"prompts", "sample", "score", "select", "pair"}
    return found


def check_data(fault: str, seed: int, folder: Path, home: Path, undisturbed: dict[str, str]) -> None:
    """Disturb a run up to the pairs, and compare what it stored."""
    given = settings(folder, f"{fault}-{seed}")
    given["compute"]["runner"] = "local" if fault == "local-driver" else "ray"
    trial = Trial(fault, seed, Job.of(given, home))
    trial.run()
    assert digests(trial.job.config.root) == undisturbed, trial.story()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("engine", id="engine-0"),
        *(
            pytest.param(fault, id=f"{fault}-0", marks=pytest.mark.slow)
            for fault in ("sampler", "driver", "raylet")
        ),
    ],
)
def test_a_kill_costs_no_row_and_changes_no_byte(
    fault: str, tmp_path: Path, home: Path, undisturbed: dict[str, str]
) -> None:
    check_data(fault, 0, tmp_path, home, undisturbed)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("fault", DATA_FAULTS)
def test_kills_at_other_moments_neither(
    fault: str, seed: int, tmp_path: Path, home: Path, undisturbed: dict[str, str]
) -> None:
    check_data(fault, seed, tmp_path, home, undisturbed)


@pytest.mark.chaos
def test_a_full_disk_under_ray_changes_nothing(
    tmp_path: Path, home: Path, undisturbed: dict[str, str]
) -> None:
    """Shard numbers are all that flows through Ray, so that its object store never needs the disk."""
    job = Job.of(settings(tmp_path, "full"), home, environment={"RAY_local_fs_capacity_threshold": "0.01"})
    try:
        assert job.start().wait(200) == 0, job.output.read_text()
        assert digests(job.config.root) == undisturbed
    finally:
        job.end()


@pytest.mark.chaos
def test_a_machine_that_does_not_come_back_ends_the_run_in_words(
    tmp_path: Path, home: Path, undisturbed: dict[str, str]
) -> None:
    given = settings(tmp_path, "stall-0")
    given["compute"] |= {"sample": {"num_workers": 1, "num_cpus": 3}, "stall_minutes": 0.3}
    trial = Trial("stall", 0, Job.of(given, home, whole=True))
    trial.run()
    assert digests(trial.job.config.root) == undisturbed, trial.story()


def training_settings(folder: Path, name: str, model: str) -> dict:
    """The same run with a model to train: two workers, some twenty steps, a checkpoint every third."""
    given = settings(folder, name)
    given["model"] = model
    given["sample"]["engine"] = {"kind": "fake", "max_model_len": 256}
    given["reward"] = {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"}
    given["reference"] = {"precision": "float32"}
    given["train"] = {
        "learning_rate": 1e-3,
        "batch_size": 2,
        "num_epochs": 3,
        "precision": "float32",
        "checkpoint_every_steps": 3,
    }
    given["compute"] |= {"shard_size": 8, "train": {"num_workers": 2, "num_cpus": 0.5}}
    return given


def trained(root: Path) -> tuple[list[dict], bytes]:
    """The history without what the clock and the machine decide, and the model's bytes."""
    (folder,) = root.glob("*-train")
    return reproducible(read_metrics(folder / "metrics.jsonl")), (
        folder / "model" / "model.safetensors"
    ).read_bytes()


@pytest.fixture(scope="session")
def undisturbed_training(
    tiny_model: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict], bytes]:
    """What two workers train when nobody is killed."""
    home = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
    folder = tmp_path_factory.mktemp("undisturbed-training")
    job = Job.of(training_settings(folder, "undisturbed", tiny_model), home, whole=True)
    try:
        assert job.start().wait(400) == 0, job.output.read_text()[-2000:]
        return trained(job.config.root)
    finally:
        job.end()
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.chaos
@pytest.mark.trainer
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("fault", TRAINING_FAULTS)
def test_training_goes_on_at_the_step_and_gives_the_same_model(
    fault: str, seed: int, tmp_path: Path, home: Path, tiny_model: str, undisturbed_training: tuple
) -> None:
    given = training_settings(tmp_path, f"{fault}-{seed}", tiny_model)
    trial = Trial(fault, seed, Job.of(given, home, whole=True))
    trial.run()
    history, model = trained(trial.job.config.root)
    expected, expected_model = undisturbed_training
    assert history == expected, trial.story()
    assert model == expected_model, trial.story()
    assert metrics(trial.job).exists()


@pytest.mark.chaos
@pytest.mark.engine
def test_a_killed_vllm_is_replaced_and_draws_the_same(tmp_path: Path, home: Path, tiny_model: str) -> None:
    """float32 on CPU is deterministic, so that the real engine, too, is held to the byte."""
    found = []
    for name in ("vllm-0", "undisturbed"):
        given = settings(tmp_path, name)
        given["model"] = tiny_model
        engine = {"kind": "vllm", "dtype": "float32", "max_model_len": 512, "kv_cache_gib": 0.25}
        given["sample"] |= {"engine": engine, "max_tokens": 128}
        given["compute"]["sample"] = {"num_workers": 1, "num_cpus": 1}
        job = Job.of(given, home)
        trial = Trial("vllm", 0, job)
        if name == "undisturbed":
            try:
                assert job.start().wait(400) == 0, job.output.read_text()[-2000:]
            finally:
                job.end()
        else:
            trial.run()
        found.append(digests(job.config.root))
    assert found[0] == found[1], trial.story()


def test_a_trial_says_how_to_repeat_it(tmp_path: Path) -> None:
    given = settings(tmp_path, "sampler-7")
    trial = Trial("sampler", 7, Job.of(given, tmp_path))
    trial.told.append("killed an actor")
    assert "-k 'sampler-7'" in trial.story() and "killed an actor" in trial.story()
    again = Trial("sampler", 7, trial.job)
    assert [trial.draw.random() for _ in range(3)] == [again.draw.random() for _ in range(3)]
    assert len(json.loads((tmp_path / "prompts.jsonl").read_text().splitlines()[0])) == 1
    assert len((tmp_path / "prompts.jsonl").read_text().splitlines()) == NUM_PROMPTS
