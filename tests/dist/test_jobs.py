"""Jobs on a real head started by `ray start --head`, from the command line, with a token and without."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import yaml

from rayflow.config import RunConfig, load_config
from rayflow.config.refresh import RefreshConfig
from rayflow.dist.exposure import is_open, warnings_for
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.refresh.folder import RefreshFolder
from rayflow.refresh.table import PreferenceTable
from tests.dist.head import Head, ray_head
from tests.pipeline.conftest import prompt_file, settings  # noqa: F401
from tests.pipeline.helpers import run_data, tables

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

TOKEN = "a-token-for-tests-5f0c2ad9"
PLANTED = "planted-secret-83b1e7"
REWARD = '''
import os


def kind(prompt: str, response: str) -> float:
    """Needs a secret, and says nothing of it."""
    return (len(os.environ["MY_SECRET"]) > 5) * sum(map(ord, response)) / 1000
'''


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head(token=None) as started:
        yield started


@pytest.fixture
def run_file(tmp_path: Path, settings: dict, tiny_model: str) -> Callable[..., Path]:  # noqa: F811
    """Writes a configuration for Ray on the fake engine."""

    def write(name: str = "small", **changes: object) -> Path:
        sample = {**settings["sample"], "engine": {"kind": "fake", "max_model_len": 256}}
        compute = {"shard_size": 2, "sample": {"num_cpus": 1}, "score": {"num_cpus": 0.25}}
        reward = {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"}
        made = {
            **settings,
            "name": name,
            "model": tiny_model,
            "sample": sample,
            "compute": compute,
            "reward": reward,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**made, **changes}))
        return path

    return write


def slow(settings: dict) -> dict:  # noqa: F811
    """Sampling takes three seconds a prompt, one prompt after another; one late prompt fails."""
    engine = {"kind": "fake", "max_model_len": 256, "latency_seconds": 3.0, "fail_on": "number 6"}
    compute = {"shard_size": 1, "sample": {"num_cpus": 1, "in_flight": 1}, "score": {"num_cpus": 0.25}}
    return {
        "sample": {**settings["sample"], "engine": engine},
        "compute": compute,
        "max_failed_fraction": 0.5,
    }


def until_pairs(head: Head, path: Path, *more: object, **env: str):  # noqa: ANN201, F811
    python = ("--python", sys.executable)
    return head.rayflow("submit", path, "--until", "select", *python, *more, **env)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.3)


def job_id(text: str) -> str:
    return re.search(r"(?:Submitted|Already under way:) (\S+)", text)[1]


def test_a_submitted_run_stores_what_a_local_run_stores(head: Head, run_file, tmp_path: Path) -> None:  # noqa: ANN001
    path = run_file()
    model = yaml.safe_load(path.read_text())["model"]
    done = until_pairs(head, path, "--follow", "--shared", model)  # the cluster is this machine
    assert done.returncode == 0, done.stdout + done.stderr
    identity = job_id(done.stdout)
    assert re.fullmatch(r"small-[0-9a-f]{12}-1", identity)
    assert f"{head.url}/#/jobs/{identity}" in done.stdout and "✓ pair" in done.stdout
    assert done.stdout.rstrip().endswith(f"{identity} SUCCEEDED") and "Warning" not in done.stderr
    config = RunConfig.model_validate(yaml.safe_load(path.read_text()))
    local = config.model_copy(update={"name": "local"})
    here, _ = run_data(local)
    stored = build_run_plan(config)
    for name, rows in tables(here).items():
        artifact = stored.artifacts[name]
        assert [r for i in range(artifact.num_shards) for r in artifact.shards.read(i).to_pylist()] == rows, (
            name
        )

    listed = json.loads(head.rayflow("jobs", "--json").stdout)
    assert [job["state"] for job in listed if job["id"] == identity] == ["SUCCEEDED"]
    told = json.loads(head.rayflow("status", "small", "--json").stdout)
    assert told["id"] == identity and told["exit_code"] == 0 and told["root"] == str(config.root)
    assert "✓ pair" in head.rayflow("logs", identity).stdout
    assert "SUCCEEDED" in head.rayflow("cancel", identity).stdout  # nothing to do

    again = until_pairs(head, path, "--wait")
    assert again.returncode == 0 and job_id(again.stdout) == identity[:-1] + "2"
    assert "stored" in head.rayflow("logs", "small").stdout


def test_a_running_job_is_found_measured_cancelled_and_gone_on_with(
    head: Head,
    run_file,  # noqa: ANN001
    settings: dict,  # noqa: F811
) -> None:
    path = run_file("slow", **slow(settings))
    started = until_pairs(head, path)
    assert started.returncode == 0, started.stderr
    identity = job_id(started.stdout)
    again = until_pairs(head, path)
    assert again.returncode == 0 and "Already under way" in again.stdout and job_id(again.stdout) == identity
    other = until_pairs(head, path, "--set", "seed=99")
    assert other.returncode == 1 and f"Job {identity} works in" in other.stderr

    plan = build_run_plan(RunConfig.model_validate(yaml.safe_load(path.read_text())))
    sample = plan.artifacts["sample"]
    wait_for(lambda: value(head, "ray_rayflow_queue_shards", run="slow", stage="sample") >= 1)
    wait_for(lambda: len(sample.shards.committed()) >= 2)
    ended = head.rayflow("cancel", "slow")
    assert ended.returncode == 0 and f"{identity} STOPPED" in ended.stdout, ended.stdout + ended.stderr
    supervisor = next(head.folder.rglob(f"supervisor-{identity}.log")).read_text()
    assert "terminated gracefully" in supervisor
    kept = sample.shards.committed()
    assert 2 <= len(kept) < sample.num_shards
    before = {index: sample.shards.marker(index).file for index in kept}

    resumed = until_pairs(head, path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert job_id(resumed.stdout) == identity[:-1] + "2"
    wait_for(lambda: value(head, "ray_rayflow_rows_total", run="slow", stage="sample") >= 2)
    wait_for(lambda: value(head, "ray_rayflow_tokens_total", run="slow", stage="sample") > 0)
    wait_for(lambda: value(head, "ray_rayflow_scores_total", run="slow", stage="score") >= 32)
    wait_for(lambda: value(head, "ray_rayflow_failures_total", run="slow", stage="sample") == 1)
    wait_for(lambda: value(head, "ray_rayflow_accepted_total", run="slow", stage="select") > 0)
    visited = value(head, "ray_rayflow_visited_total", run="slow", stage="select")
    assert value(head, "ray_rayflow_accepted_total", run="slow", stage="select") <= visited
    done = head.rayflow("logs", "slow", "-f")
    assert done.returncode == 0 and "SUCCEEDED" in done.stdout, done.stdout + done.stderr
    assert {index: sample.shards.marker(index).file for index in kept} == before
    ids = [row["prompt_id"] for i in range(sample.num_shards) for row in sample.shards.read(i).to_pylist()]
    assert len(ids) == len(set(ids)) == 9
    assert (
        0 < value(head, "ray_rayflow_rows_total", run="slow", stage="select") <= 10
    )  # a committed shard once


def value(head: Head, name: str, **labels: str) -> float:
    """A metric's value at the head's Prometheus endpoint, summed over what else labels it; 0 if it is not there."""
    found = re.findall(
        rf"^{name}\{{([^}}]*)\}} (\S+)$", requests.get(head.metrics, timeout=10).text, re.MULTILINE
    )
    wanted = {f'{key}="{each}"' for key, each in labels.items()}
    return sum(float(number) for text, number in found if wanted <= set(text.split(",")))


@pytest.mark.trainer
def test_a_whole_run_trains_and_is_evaluated_on_the_cluster(head: Head, run_file, settings: dict) -> None:  # noqa: ANN001, F811
    compute = {
        "shard_size": 5,
        "sample": {"num_cpus": 0.5},
        "score": {"num_cpus": 0.25},
        "train": {"num_workers": 1, "num_cpus": 0.5},
    }
    path = run_file(
        "whole",
        prompts={**settings["prompts"], "evaluation": settings["prompts"]["train"]},
        compute=compute,
        reference={"precision": "float32"},
        train={"learning_rate": 1e-3, "batch_size": 5, "precision": "float32"},
        evaluate={"num_samples": 2, "num_resamples": 100},
    )
    done = head.rayflow("submit", path, "--python", sys.executable, "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    plan = build_run_plan(RunConfig.model_validate(yaml.safe_load(path.read_text())))
    assert plan.artifacts["train"].manifest().extra["num_steps"] == 2
    assert (plan.artifacts["train"].folder / "model" / "model.safetensors").exists()
    summary = json.loads((plan.config.root / "summary.json").read_text())
    assert summary["missing"] == [] and summary["evaluation"]["num_prompts"] == 10


def test_a_submitted_refresh_promotes_a_version(head: Head, run_file) -> None:  # noqa: ANN001
    path = run_file("nightly", refresh={})
    done = head.rayflow("submit", path, "--python", sys.executable, "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    config = load_config(path, [], RefreshConfig)
    folder = RefreshFolder(config.root)
    assert folder.latest is not None and PreferenceTable(folder.table).num_rows(folder.latest) == 10


def test_a_job_that_fails_ends_the_waiting_command_with_its_code(head: Head, run_file) -> None:  # noqa: ANN001
    done = until_pairs(head, run_file("lacking"), "--cluster-env", "NO_SUCH_SECRET", "--wait")
    assert done.returncode == 1 and "FAILED" in done.stdout
    told = head.rayflow("status", "lacking").stdout
    assert "needs the environment variable NO_SUCH_SECRET" in told and "exit code 1" in told


def test_without_a_token_no_secret_is_sent(head: Head, run_file) -> None:  # noqa: ANN001
    done = until_pairs(head, run_file("secret"), "--env", "MY_SECRET", MY_SECRET=PLANTED)
    assert done.returncode == 1 and "--cluster-env MY_SECRET" in done.stderr
    assert PLANTED not in done.stdout + done.stderr
    assert is_open(head.url) and warnings_for(head.url) == []  # open, but nobody else can reach it


def test_an_unknown_job_is_a_sentence(head: Head) -> None:
    done = head.rayflow("status", "nothing-1")
    assert done.returncode == 1 and done.stderr.startswith("Error: No job 'nothing-1'")


def test_with_a_secret_names_travel_sealed_and_are_nowhere_to_be_read(run_file, tmp_path: Path) -> None:  # noqa: ANN001
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "secret_reward.py").write_text(REWARD)
    path = run_file("sealed", reward={"kind": "rule", "function": "secret_reward:kind"})
    with ray_head(token=TOKEN) as head:
        assert not is_open(head.url)
        code = {"PYTHONPATH": f"{head.env['PYTHONPATH']}:{tmp_path / 'code'}"}
        for wrong in ("", "another-token"):
            refused = head.rayflow("jobs", RAY_AUTH_TOKEN=wrong)
            assert refused.returncode == 1 and "Set RAY_AUTH_TOKEN" in refused.stderr, refused.stderr
            assert "Traceback" not in refused.stderr
        dry = until_pairs(head, path, "--env", "MY_SECRET", "--dry-run", MY_SECRET=PLANTED, **code)
        done = until_pairs(head, path, "--env", "MY_SECRET", "--follow", MY_SECRET=PLANTED, **code)
        assert done.returncode == 0, done.stdout + done.stderr
        identity = job_id(done.stdout)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        echoed = requests.get(f"{head.url}/api/jobs/{identity}", headers=headers, timeout=10).text
        assert "RAYFLOW_SEALED_ENV" in echoed
        printed = (
            dry.stdout
            + dry.stderr
            + done.stdout
            + done.stderr
            + echoed
            + head.rayflow("status", identity).stdout
        )
        assert "MY_SECRET, sealed" in dry.stdout
        assert PLANTED not in printed and TOKEN not in printed
        assert holding(head.folder / "ray", PLANTED) == holding(tmp_path / "runs", PLANTED) == []
        assert holding(tmp_path / "runs", TOKEN) == []


def holding(folder: Path, text: str) -> list[Path]:
    """Files that hold a text."""
    return [
        p for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and text.encode() in p.read_bytes()
    ]
