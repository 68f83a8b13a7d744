"""The commands as a person meets them: what is shown, what is refused, what is not stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rayflow.cli.app import app
from rayflow.errors import BusyError, ConfigError
from rayflow.schedule.ledger import Ledger
from rayflow.schedule.records import check_name, state_folder
from tests.schedule.conftest import ROOT, Program

NIGHTLY = ("--cron", "0 2 * * *", "--timezone", "Europe/Berlin")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of a refresh, with a secret in the environment; everything happens in its folder."""
    monkeypatch.setenv("RAYFLOW_SCHEDULE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HF_TOKEN", "hf_planted_secret")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "refresh.yaml"
    path.write_text(f"extends: {ROOT / 'jobs' / 'configs' / 'quickstart.yaml'}\nrefresh: {{}}\n")
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["schedule", *map(str, arguments)], catch_exceptions=False)


def shown(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_a_schedule_is_added_listed_paused_resumed_and_removed(config: Path) -> None:
    text = shown("add", "nightly", config.name, *NIGHTLY)
    assert (
        "02:00 +0" in text and "made up for once" in text and "no `rayflow schedule serve` is running" in text
    )
    (row,) = json.loads(shown("list", "--json"))
    assert row["command"] == ["refresh", str(config)] and row["folder"] == str(config.parent)
    assert (row["missed"], row["state"], row["last"]) == ("run-once", "waiting", None)
    assert row["next"][10:16] == "T02:00"
    assert "nightly: paused" in shown("pause", "nightly")
    (row,) = json.loads(shown("list", "--json"))
    assert (row["state"], row["next"]) == ("paused", None)
    assert "nightly: next" in shown("resume", "nightly")
    assert "run-once: a missed time is made up for once" in shown("list")
    assert max(map(len, call("list").output.splitlines())) <= 80
    assert "nightly has not run yet" in shown("history", "nightly")
    assert "nightly: removed" in shown("remove", "nightly")
    assert json.loads(shown("list", "--json")) == []
    assert "No schedules yet: rayflow schedule add" in shown("list")


def test_an_unknown_format_names_the_one_that_is_meant(config: Path) -> None:
    shown("add", "nightly", config, *NIGHTLY)
    for format, said in {
        "cron": "Did you mean crontab",
        "airflwo": "Did you mean airflow",
        "x": "Known: cronjob",
    }.items():
        with pytest.raises(ConfigError, match=f"Unknown format '{format}'. {said}"):
            call("export", "nightly", "--format", format)


def test_history_shows_runs_with_exit_code_day_and_log(config: Path, program: Program) -> None:
    shown("add", "nightly", config, *NIGHTLY, "--program", program.path)
    program.exit_code(75)
    assert call("run-now", "nightly", "--date", "2026-11-01").exit_code == 75
    (entry,) = json.loads(shown("history", "nightly", "--json"))
    assert (entry["date"], entry["result"], entry["exit_code"]) == ("2026-11-01", "busy", 75)
    assert "the program says hello" in Path(entry["log"]).read_text()
    text = shown("history", "nightly")
    assert "by hand" in text and "busy (75)" in text and "2026-11-01" in text
    assert "busy (75)" in shown("list")
    shown("remove", "nightly")
    assert not Path(entry["log"]).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nightly", "refresh.yaml", "--cron", "0 25 * * *"), "Bad hour"),
        (("nightly", "refresh.yaml", "--cron", "0 2 * * *", "--timezone", "Europe/Berln"), "Europe/Berlin"),
        (("nightly", "refresh.yml", *NIGHTLY), "Did you mean '.*refresh.yaml'"),
        (("Nightly run", "refresh.yaml", *NIGHTLY), "cannot name a schedule"),
        (("nightly", "refresh.yaml", *NIGHTLY, "--program", "refresh.yaml"), "can be executed"),
        (("nightly", "refresh.yaml", *NIGHTLY, "--command", "run"), "it is for `rayflow refresh`"),
    ],
)
def test_mistakes_are_found_when_a_schedule_is_added(
    config: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        call("add", *arguments)
    assert json.loads(shown("list", "--json")) == []


def test_a_runs_configuration_is_scheduled_as_a_run_and_not_as_a_refresh(config: Path) -> None:
    config.write_text(config.read_text().replace("refresh: {}", ""))
    with pytest.raises(
        ConfigError, match=r"refresh.yaml has no block 'refresh'.*`refresh: \{\}`.*`--command run`"
    ):
        call("add", "nightly", config, *NIGHTLY)
    shown("add", "nightly", config, *NIGHTLY, "--command", "run")
    config.with_name("mine.yaml").write_text("extends: refresh.yaml\nrefresh: {}\n")
    shown("add", "tables", "mine.yaml", *NIGHTLY)


def test_adding_the_same_again_changes_nothing_and_another_needs_replace(config: Path) -> None:
    shown("add", "nightly", config, *NIGHTLY)
    with Ledger(config.parent / "state") as ledger:
        before = ledger.schedule("nightly")
        shown("add", "nightly", config, *NIGHTLY)
        assert ledger.schedule("nightly") == before
        with pytest.raises(ConfigError, match="another cron, missed"):
            call(
                "add",
                "nightly",
                config,
                "--cron",
                "0 3 * * *",
                "--timezone",
                "Europe/Berlin",
                "--missed",
                "skip",
            )
        shown("pause", "nightly")
        shown("add", "nightly", config, "--cron", "0 3 * * *", "--replace")
        assert (ledger.schedule("nightly").cron, ledger.schedule("nightly").paused) == ("0 3 * * *", True)


def test_several_times_a_day_are_named_for_a_refresh_and_not_for_a_run(config: Path) -> None:
    assert "several times a day" in shown("add", "hourly", config, "--cron", "0 * * * *")
    config.write_text(config.read_text().replace("refresh: {}", ""))
    assert "several times a day" not in shown(
        "add", "often", config, "--cron", "0 * * * *", "--command", "run"
    )


def test_what_is_running_is_not_removed(config: Path) -> None:
    shown("add", "nightly", config, *NIGHTLY)
    with Ledger(config.parent / "state") as ledger, ledger.run_lock("nightly"), pytest.raises(BusyError):
        call("remove", "nightly")


def test_nothing_stored_holds_a_setting_or_a_secret(config: Path, program: Program) -> None:
    config.write_text(config.read_text() + "name: a-planted-setting\n")
    shown("add", "nightly", config, *NIGHTLY, "--program", program.path)
    assert call("run-now", "nightly").exit_code == 0
    files = [path for path in (config.parent / "state").rglob("*") if path.is_file()]
    assert len(files) >= 3
    for path in files:
        assert b"planted" not in path.read_bytes(), path


def test_exports_are_shown_or_written(config: Path) -> None:
    shown("add", "nightly", config, *NIGHTLY)
    assert "Persistent=true" in shown("export", "nightly", "--format", "systemd")
    shown("export", "nightly", "--format", "systemd", "--output", config.parent / "units")
    assert sorted(p.name for p in (config.parent / "units").iterdir()) == ["nightly.service", "nightly.timer"]


def test_an_export_for_kubernetes_says_what_the_pods_may_lack(config: Path) -> None:
    shown("add", "nightly", config, *NIGHTLY)
    result = call("export", "nightly", "--format", "cronjob", "--set", "gpus=8")
    assert "is '~/.cache/rayflow/models/SmolLM2-135M-Instruct', a path of this machine" in result.stderr
    assert "put refresh.yaml, its data and its code there" in result.stderr
    assert "kind: CronJob" in result.stdout and "Warning" not in result.stdout


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "../a", "a" * 53, "a b"])
def test_a_name_fits_everywhere(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name)
    assert check_name("refresh-2") == "refresh-2"


def test_the_ledger_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "rayflow" / "schedule"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    assert state_folder() == Path.home() / ".local" / "state" / "rayflow" / "schedule"
