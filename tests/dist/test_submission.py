"""What is sent to a job server, and whom that server lets in; no cluster is started here."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.config import RunConfig, schema_of
from rayflow.config.refresh import RefreshConfig
from rayflow.core.sealed import SEALED
from rayflow.dist import exposure
from rayflow.dist.access import open_to_others
from rayflow.dist.job import Job, Request, running_job, url_of
from rayflow.dist.jobs import JobServer
from rayflow.dist.submission import JOB_OF, JOBS, TAKES, SubmitOptions, prepare
from rayflow.errors import ConfigError, DataError, JobError
from rayflow.study.parts import load_study
from tests.pipeline.conftest import config, prompt_file, settings  # noqa: F401

ROOT = Path(__file__).parents[2]
PLANTED = "planted-secret-42aa"


@pytest.fixture(autouse=True)
def private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home of its own, and no token but a test's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def prepared(config: RunConfig, folder: Path, **options):  # noqa: ANN003, ANN201, F811
    folder.mkdir()
    return prepare(config, folder, SubmitOptions(**options))[1]


def test_every_entry_point_exists_and_is_the_command_that_it_is_said_to_be() -> None:
    for job, words in JOBS.items():
        text = (ROOT / "jobs" / f"{job}.py").read_text()
        options = words[words.index("--only") :] if "--only" in words else ()
        commands = words[: len(words) - len(options)]
        inside = [*(f'"{w}"' for w in commands), "*sys.argv[1:]", *(f'"{w}"' for w in options)]
        assert f"main([{', '.join(inside)}])" in text


def test_no_script_takes_its_neighbours_for_modules() -> None:
    """`python jobs/x.py` puts `jobs/` first on the import path, where `select` would not be the library's."""
    for path in (ROOT / "jobs").glob("*.py"):
        assert (
            "sys.path[:] = [entry for entry in sys.path if entry != __file__.rpartition" in path.read_text()
        ), path
    done = subprocess.run(
        [sys.executable, ROOT / "jobs" / "select.py", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0 and "--only" in done.stdout, done.stderr


def test_the_command_names_the_entry_point_and_its_options(config: RunConfig, tmp_path: Path) -> None:  # noqa: F811
    made = prepared(config, tmp_path / "a", job="score", force=("score",), python="/opt/py thon")
    assert made.entrypoint == "'/opt/py thon' jobs/score.py config.yaml --force-stage score"
    assert prepared(config, tmp_path / "b").entrypoint == "python jobs/pipeline.py config.yaml"
    with pytest.raises(ConfigError, match="Unknown job 'scores'"):
        prepared(config, tmp_path / "c", job="scores")


def test_options_that_are_passed_on_are_those_that_the_commands_have() -> None:
    commands = get_command(app).commands
    for words in JOBS.values():
        has = {option for parameter in commands[words[0]].params for option in parameter.opts}
        passed = {"--force-stage", "--until", "--date"}
        assert set(TAKES.get(words[0], ())) == has & passed, words


def test_an_option_that_the_job_lacks_is_refused(
    config: RunConfig,  # noqa: F811
    refresh: RefreshConfig,
    tmp_path: Path,
) -> None:
    with pytest.raises(
        ConfigError, match="--until: the job 'refresh' is `rayflow refresh`, .* it takes --date"
    ):
        prepared(refresh, tmp_path / "a", until="pair")
    with pytest.raises(ConfigError, match="--date: the job 'pipeline' is `rayflow run`"):
        prepared(config, tmp_path / "b", date="2026-11-20")


def test_a_job_for_another_kind_of_configuration_is_refused(config: RunConfig, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(ConfigError, match="'train_reward' is for another kind .* pipeline, sample, score"):
        prepared(config, tmp_path / "a", job="train_reward")
    with pytest.raises(ConfigError, match="--until: the job 'score' is one stage alone"):
        prepared(config, tmp_path / "b", job="score", until="select")


def test_a_runs_evaluation_is_submitted_as_it_is_called(config: RunConfig, tmp_path: Path) -> None:  # noqa: F811
    made = prepared(config, tmp_path / "a", job="evaluate", force=("evaluate",))
    assert made.entrypoint == "python jobs/evaluate.py config.yaml --force-stage evaluate"
    assert schema_of(tmp_path / "a" / "config.yaml") is RunConfig  # which is how the command knows it there
    with pytest.raises(ConfigError, match="--until: the job 'evaluate' is `rayflow evaluate`"):
        prepared(config, tmp_path / "b", job="evaluate", until="select")
    with pytest.raises(ConfigError, match="for this one: pipeline, sample, score, select, train, evaluate"):
        prepared(config, tmp_path / "c", job="refresh")


@pytest.fixture
def refresh(settings: dict, tmp_path: Path) -> RefreshConfig:  # noqa: F811
    """Its prompts lie in a file for each day."""
    source = settings["prompts"]["train"]
    Path(source["path"]).rename(tmp_path / "prompts-2026-11-20.jsonl")
    source["path"] = str(tmp_path / "prompts-{date}.jsonl")
    return RefreshConfig.model_validate(settings | {"refresh": {"missing": "keep"}})


def test_a_refresh_is_sent_with_its_day_and_that_days_data(refresh: RefreshConfig, tmp_path: Path) -> None:
    made = prepared(refresh, tmp_path / "a", date="2026-11-20")
    assert made.entrypoint == "python jobs/refresh.py config.yaml --date 2026-11-20"
    (sent,) = (tmp_path / "a" / "inputs").iterdir()
    assert sent.name.endswith("-prompts-2026-11-20.jsonl")
    path = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())["prompts"]["train"]["path"]
    assert path.endswith(sent.name)
    with pytest.raises(DataError, match="prompts-2026-11-21.jsonl"):
        prepared(refresh, tmp_path / "b", date="2026-11-21")
    with pytest.raises(ConfigError, match="must be a date"):
        prepared(refresh, tmp_path / "c", date="yesterday")
    with pytest.raises(DataError, match=f"prompts-{datetime.now(UTC):%Y-%m-%d}.jsonl"):  # today
        prepared(refresh, tmp_path / "d")


def test_the_key_is_the_name_and_what_is_sent(config: RunConfig, tmp_path: Path) -> None:  # noqa: F811
    keys = [prepared(config, tmp_path / each).key for each in "ab"]
    assert keys[0] == keys[1] and keys[0].startswith("small-")
    other = config.model_copy(update={"seed": 4})
    assert prepared(other, tmp_path / "c").key != keys[0]
    assert prepared(config, tmp_path / "d", job="score").key != keys[0]


def test_a_cancelled_job_gets_time_to_end(config: RunConfig, tmp_path: Path) -> None:  # noqa: F811
    assert prepared(config, tmp_path / "a").env["RAY_JOB_STOP_WAIT_TIME_S"] == "60"
    assert prepared(config, tmp_path / "b", stop_wait_s=9).env["RAY_JOB_STOP_WAIT_TIME_S"] == "9"


def test_secrets_are_sent_by_name_and_sealed(
    config: RunConfig,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_SECRET", PLANTED)
    with pytest.raises(ConfigError, match="a cluster without a token would keep and show"):
        prepared(config, tmp_path / "a", env=("MY_SECRET",))
    with pytest.raises(ConfigError, match="is not the name") as caught:
        prepared(config, tmp_path / "b", env=(f"MY_SECRET={PLANTED}",))
    assert PLANTED not in str(caught.value)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token")
    made = prepared(config, tmp_path / "c", env=("MY_SECRET",), cluster_env=("OTHER",))
    assert PLANTED not in repr(made) and SEALED in made.env
    assert made.env["RAYFLOW_REQUIRED_ENV"] == "OTHER"
    sent = [
        p for p in (tmp_path / "c").rglob("*") if p.is_file() and p.suffix != ".py"
    ]  # this file is sent too
    assert len(sent) > 2 and all(PLANTED.encode() not in p.read_bytes() for p in sent)


def test_a_dry_run_prints_what_would_be_sent_and_asks_nobody(settings: dict, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    done = CliRunner().invoke(
        app, ["submit", str(path), "--address", "10.255.255.1:8265", "--dry-run", "--name", "x"]
    )
    assert done.exit_code == 0, done.output
    for text in (
        "to        http://10.255.255.1:8265",
        "python jobs/pipeline.py config.yaml",
        "name: x",
        "plug-in   tests",
    ):
        assert text in done.output
    assert settings["prompts"]["train"]["path"] in done.output
    assert "Warning: compute.runner is local" in done.stderr and "is a path of" not in done.stderr


CONFIGS = sorted((ROOT / "jobs" / "configs").rglob("*.yaml"))
STUDY = ROOT / "jobs" / "configs" / "study" / "sentiment.yaml"
PARTS = [path for path in CONFIGS if path.parent == STUDY.parent and path != STUDY]


@pytest.mark.parametrize("path", [each for each in CONFIGS if each not in PARTS], ids=lambda path: path.stem)
def test_every_configuration_can_be_submitted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = ["submit", str(path), "--dry-run", "--set", "runs_dir=/shared/runs"]
    kind = schema_of(path).__name__
    if kind == "EvaluateConfig":
        refused = CliRunner().invoke(app, words)
        assert "policy.run 'runs/quickstart' is a relative path" in str(refused.exception)
        words += ["--set", "policy.run=/shared/runs/quickstart"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output or repr(done.exception)
    assert f"python jobs/{JOB_OF[kind]}.py config.yaml" in done.output
    assert f"data      {ROOT}/jobs/prompts/" in done.output


def test_a_study_is_sent_with_its_parts_and_what_they_and_its_rows_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    own = ROOT / "jobs" / "prompts" / "sentiment-pairs.jsonl"
    direct = {
        "source": "direct",
        "select": None,
        "pair": None,
        "prompts.train": {"path": str(own), "layout": "trl"},
    }
    row = {"title": "own pairs", "settings": direct}
    changes = ["runs_dir=/shared/runs", "run.train.num_epochs=3", f"rows.own={json.dumps(row)}"]
    study = load_study(STUDY, changes)
    (tmp_path / "sent").mkdir()
    package, made = prepare(study.config, tmp_path / "sent", SubmitOptions(), study.parts())
    assert made.entrypoint == "python jobs/study.py config.yaml"
    assert {path.name for path in (tmp_path / "sent" / "parts").iterdir()} == {path.name for path in PARTS}
    monkeypatch.chdir(tmp_path / "sent")
    there = load_study(Path("config.yaml"), [])  # as the job does; checks every row
    assert there.base().train.num_epochs == 3 and there.config.all_rows.keys() == study.config.all_rows.keys()
    sources = [
        there.preferences().prompts.train,
        there.base().prompts.train,
        there.row("own", 1).prompts.train,
    ]
    sources.append(there.evaluation("own", 1, "m", {}).prompts)
    for source in sources:
        assert Path(source.path).parent == Path("/shared/runs/.inputs")
        assert (tmp_path / "sent" / "inputs" / Path(source.path).name).exists()
    assert there.proxy().data.train.path == str(study.preferences_file)


@pytest.mark.parametrize("served", ["0.0.0.0"], indirect=True)
def test_a_run_that_joins_an_open_cluster_says_so_whatever_its_own_variables_say(
    served: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exposure._own_addresses():
        pytest.skip("this machine has no address but loopback")
    dashboard = f"{min(exposure._own_addresses())}:{served}"
    for mode in ("disabled", "token"):
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        assert "open to other machines" in open_to_others(dashboard)
        assert open_to_others(f"127.0.0.1:{served}") == open_to_others("") == open_to_others(None) == ""
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setattr(Open, "allowed", False)  # such as with ~/.ray/auth_token alone
    assert open_to_others(dashboard) == ""


def job(number: int, state: str, root: str = "/runs/a", key: str = "a-123") -> Job:
    return Job(f"{key}-{number}", state, "a", root, "", 0.0, None, None)


def request(root: str = "/runs/a") -> Request:
    return Request("a-123", "python x", "/tmp", {}, "a", root)


def test_the_same_job_is_found_while_it_is_under_way() -> None:
    assert running_job([job(2, "RUNNING"), job(1, "FAILED")], request()).id == "a-123-2"
    assert running_job([job(1, "PENDING")], request()) is not None
    assert running_job([job(1, "SUCCEEDED"), job(2, "STOPPED")], request()) is None
    assert running_job([job(1, "RUNNING", root="/runs/b", key="b-9")], request()) is None
    with pytest.raises(JobError, match="Job a-77-1 works in /runs/a with another configuration"):
        running_job([job(1, "RUNNING", key="a-77")], request())


def test_exit_codes_follow_the_state() -> None:
    def ended(state: str, code: int | None) -> int:
        return Job("a", state, "a", "", "", None, None, code).exit_status

    assert [ended("SUCCEEDED", 0), ended("FAILED", 75), ended("FAILED", None), ended("STOPPED", None)] == [
        0,
        75,
        1,
        143,
    ]


def test_an_address_is_that_of_the_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    assert url_of("head:8265") == "http://head:8265" and url_of("https://a/") == "https://a"
    assert url_of(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://b:1")
    assert (url_of(None), url_of("c:2")) == ("http://b:1", "http://c:2")
    with pytest.raises(JobError, match="not the address of a job server"):
        url_of("ray://head:10001")


def test_where_nobody_answers_is_a_sentence() -> None:
    with pytest.raises(JobError, match="No job server answers at http://127.0.0.1:9"):
        JobServer("127.0.0.1:9")


class Open(BaseHTTPRequestHandler):
    """A job server that lets everyone in; with a token, nobody."""

    allowed = True

    def do_GET(self) -> None:
        body = json.dumps([]).encode()
        self.send_response(200 if self.allowed else 401)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of such a server, on loopback or on all interfaces."""
    server = ThreadingHTTPServer((request.param, 0), Open)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("served", ["127.0.0.1"], indirect=True)
def test_an_open_server_on_loopback_is_nobody_elses_business(served: int) -> None:
    assert exposure.is_open(f"http://127.0.0.1:{served}")
    assert exposure.warnings_for(f"http://127.0.0.1:{served}") == []


@pytest.mark.parametrize("served", ["0.0.0.0"], indirect=True)
def test_an_open_server_beyond_loopback_is_warned_of_and_one_with_a_token_is_not(
    served: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exposure._own_addresses():
        pytest.skip("this machine has no address but loopback")
    (text,) = exposure.warnings_for(f"http://127.0.0.1:{served}")
    assert "without a token" in text and "--dashboard-host=127.0.0.1" in text
    monkeypatch.setattr(Open, "allowed", False)
    assert exposure.warnings_for(f"http://localhost:{served}") == []
    (text,) = exposure.warnings_for(f"http://{min(exposure._own_addresses())}:{served}")
    assert "unencrypted" in text
