"""Exports: valid where they are read, with the same times and the same command."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from rayflow.errors import ConfigError
from rayflow.schedule.exports import export
from rayflow.schedule.exports.fields import portable
from rayflow.schedule.exports.systemd import calendar
from rayflow.schedule.records import Schedule
from rayflow.schedule.times import Times
from tests.cluster.schemas import check
from tests.schedule.conftest import Program, at

BERLIN = ZoneInfo("Europe/Berlin")
CRONS = [
    "0 2 * * *",
    "*/15 8-18 * * MON-FRI",
    "30 4 1,15 * 5",
    "5/20 1 * * *",
    "0 0 * JAN,JUL 7",
    "0 3 * * 5-7",
]


def around_a_call(since: datetime, call: Callable[[], Any]) -> set[str]:
    """The days that the call may have been for: those of the latest times before and after it."""
    call()
    times = Times("0 2 * * *", "Europe/Berlin")
    return {times.latest_day(since), times.latest_day(datetime.now(UTC))}


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 2 * * *", "0 2 * * *"),
        ("0  2 * * 7", "0 2 * * 0"),
        ("0 2 * * 5-7", "0 2 * * 0,5,6"),
        ("0 2 * * mon-fri", "0 2 * * 1,2,3,4,5"),
        ("5/20 1 * * *", "5,25,45 1 * * *"),
        ("*/15 8-18 * * *", "*/15 8-18 * * *"),
        ("30 4 1,15 * 5", "30 4 1,15 * 5"),
    ],
)
def test_an_expression_is_written_so_that_all_readers_agree(
    cron: str, expected: str, nightly: Callable[..., Schedule]
) -> None:
    assert portable(cron) == expected
    since, until = at("2026-01-01T00:00"), at("2026-03-01T00:00")
    ours, theirs = (list(Times(c, "UTC").between(since, until)) for c in (cron, expected))
    assert ours == theirs and ours


@pytest.mark.parametrize("cron", ["0 2 L * *", "0 2 LW * *", "0 2 * * 5#2", "0 2 * * 5L", "0 2 */2 * 1"])
def test_an_expression_that_others_read_otherwise_is_refused(
    cron: str, nightly: Callable[..., Schedule]
) -> None:
    with pytest.raises(ConfigError, match="not understood alike|combine otherwise"):
        export(nightly(cron=cron), "crontab", [])


def test_a_crontab_line_calls_the_command_for_the_day_of_the_zone(
    nightly: Callable[..., Schedule], program: Program
) -> None:
    (text,) = export(nightly(), "crontab", []).values()
    *_, zone, line = text.splitlines()
    assert zone == "CRON_TZ=Europe/Berlin" and line.startswith("0 2 * * * ")
    command = line.split(maxsplit=5)[5]
    assert "%" not in command.replace(r"\%", "")
    days = around_a_call(
        datetime.now(UTC),
        lambda: subprocess.run(
            ["/bin/sh", "-c", command.replace(r"\%", "%")], check=True, env={"PATH": "/usr/bin:/bin"}
        ),
    )
    (event,) = program.events("begin")
    assert event["arguments"][:-1] == ["refresh", str(nightly().config), "--date"]
    assert event["arguments"][-1] in days and event["folder"] == str(nightly().folder)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("cron", CRONS)
def test_systemd_elapses_at_the_same_times(cron: str, nightly: Callable[..., Schedule]) -> None:
    schedule = nightly(cron=cron)
    since = at("2026-11-21T12:00")
    theirs = set()
    for text in calendar(schedule):
        call = [
            "systemd-analyze",
            "calendar",
            "--iterations=12",
            f"--base-time={since:%Y-%m-%d %H:%M:%S} UTC",
        ]
        done = subprocess.run([*call, f"{text} Europe/Berlin"], capture_output=True, text=True, check=True)
        # The zone of this machine's output may be any: with UTC in brackets where it is not UTC.
        found = [
            line.split(": ", 1)[1] for line in done.stdout.splitlines() if "UTC" in line and ": " in line
        ]
        theirs |= {
            datetime.strptime(f[4:23], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) for f in found if f[3] == " "
        }
    ours = list(itertools.islice(schedule.times.between(since, since + timedelta(days=1500)), 12))
    assert sorted(theirs)[:12] == ours


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemds_units_are_valid_and_call_the_command(
    tmp_path: Path, nightly: Callable[..., Schedule], program: Program
) -> None:
    units = tmp_path / "units"
    units.mkdir()
    for name, text in export(nightly(folder=tmp_path / "50% of it's"), "systemd", []).items():
        (units / name).write_text(text)
    assert "Persistent=true" in (units / "nightly.timer").read_text()
    assert "Persistent=false" in export(nightly(missed="skip"), "systemd", [])["nightly.timer"]
    (tmp_path / "50% of it's").mkdir()
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, units.iterdir())], capture_output=True, text=True
    )
    assert [line for line in done.stderr.splitlines() if "nightly" in line] == []
    (line,) = [t for t in (units / "nightly.service").read_text().splitlines() if t.startswith("ExecStart=")]
    shell = (
        line.removeprefix("ExecStart=/bin/sh -c '").removesuffix("'").replace("$$", "$").replace("%%", "%")
    ).replace("\\'", "'")
    subprocess.run(["/bin/sh", "-c", shell], check=True)
    assert program.events("begin")[0]["arguments"][-1].startswith("20")


class Recorded(types.ModuleType):
    """Takes Airflow's place: remembers what was made."""

    def __init__(self, name: str, made: dict[str, Any]) -> None:
        super().__init__(name)
        self.made = made

    def __getattr__(self, name: str) -> Any:
        made = self.made

        class Made:
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                made[name] = (args, kwargs)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: Any) -> None: ...

        if name.startswith("__"):
            raise AttributeError(name)
        return Made


def test_airflows_file_is_one_dag_that_runs_the_command_for_its_time(
    nightly: Callable[..., Schedule], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name, text), *more = export(nightly(paused=True), "airflow", []).items()
    assert name == "nightly.py" and not more
    made: dict[str, Any] = {}
    for module in (
        *("airflow", "airflow.sdk", "airflow.timetables", "airflow.timetables.trigger", "airflow.providers"),
        *("airflow.providers.standard", "airflow.providers.standard.operators"),
        *("airflow.providers.standard.operators.bash", "pendulum"),
    ):
        monkeypatch.setitem(sys.modules, module, Recorded(module, made))
    monkeypatch.setattr(sys.modules["pendulum"], "datetime", lambda *a, tz: (a, tz), raising=False)
    exec(compile(text, name, "exec"), {})
    assert made["CronTriggerTimetable"] == (("0 2 * * *",), {"timezone": "Europe/Berlin"})
    dag, task = made["DAG"][1], made["BashOperator"][1]
    assert dag["start_date"] == ((2026, 11, 20), "Europe/Berlin")
    assert (dag["dag_id"], dag["catchup"], dag["max_active_runs"]) == ("nightly", False, 1)
    assert dag["is_paused_upon_creation"] is True
    assert task["skip_on_exit_code"] == 75 and task["cwd"] == str(nightly().folder)
    jinja2 = pytest.importorskip("jinja2")
    time = at("2026-11-20T23:30")  # half past midnight in Berlin
    of_version_3 = {"dag_run": types.SimpleNamespace(run_after=time)}
    of_version_2 = {"dag_run": types.SimpleNamespace(), "data_interval_end": time}
    for context in (of_version_3, of_version_2):
        shell = (
            jinja2.Environment(undefined=jinja2.StrictUndefined)
            .from_string(task["bash_command"])
            .render(context)
        )
        subprocess.run(["bash", "-c", shell], check=True)
        assert program.events("begin")[-1]["arguments"][-2:] == ["--date", "2026-11-21"]


def test_a_cronjob_forbids_overlaps_and_knows_zone_and_deadline(nightly: Callable[..., Schedule]) -> None:
    config = nightly().folder / "jobs" / "refresh.yaml"
    (text,) = export(nightly(config=config), "cronjob", ["gpus=8"]).values()
    objects = list(yaml.safe_load_all(text))
    check(objects)
    *_, made = objects
    assert made["metadata"]["name"] == "nightly"
    spec = made["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["suspend"]) == ("0 2 * * *", "Europe/Berlin", False)
    assert (spec["concurrencyPolicy"], spec["startingDeadlineSeconds"]) == ("Forbid", 24 * 3600)
    (skipping,) = export(nightly(missed="skip", paused=True), "cronjob", ["gpus=8", "name=other"]).values()
    *_, other = yaml.safe_load_all(skipping)
    assert (other["spec"]["startingDeadlineSeconds"], other["spec"]["suspend"]) == (300, True)
    command = shlex.split(submitted(text))
    assert command[command.index("rayflow") + 1 :][:2] == ["refresh", "jobs/refresh.yaml"]


def with_rayflow() -> dict[str, str]:
    """This environment, with the command on its path, as in the image."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def submitted(text: str) -> str:
    """The line that the shell on the cluster's head is given."""
    first, *_ = yaml.safe_load_all(text)
    if first["kind"] == "RayCronJob":
        return first["spec"]["jobTemplate"]["entrypoint"]
    text = first["data"]["rayjob.yaml"].replace("SECONDS-OF-THE-NIGHT", str(int(time.time())))
    return yaml.safe_load(text)["spec"]["entrypoint"]


@pytest.mark.parametrize("format", ["cronjob", "raycronjob"])
def test_on_kubernetes_the_day_is_that_of_the_zone(format: str, nightly: Callable[..., Schedule]) -> None:
    (text,) = export(nightly(), format, ["gpus=8"]).values()
    line = submitted(text)
    shown = f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "
    out: list[str] = []
    days = around_a_call(
        datetime.now(UTC),
        lambda: out.append(
            subprocess.run(
                ["sh", "-c", shown + line], capture_output=True, text=True, check=True, env=with_rayflow()
            ).stdout
        ),
    )
    arguments = json.loads(out[0])
    assert arguments[-2] == "--date" and arguments[-1] in days
    (once,) = export(nightly(command="run"), format, ["gpus=8"]).values()
    words = shlex.split(submitted(once))
    assert words[words.index("rayflow") + 1] == "run" and "--date" not in words


def test_a_raycronjob_has_the_four_fields_that_there_are(nightly: Callable[..., Schedule]) -> None:
    (text,) = export(nightly(), "raycronjob", ["gpus=8", "name=night-cluster"]).values()
    made = yaml.safe_load(text)
    check(made)
    assert set(made["spec"]) == {"schedule", "timeZone", "suspend", "jobTemplate"}
    with pytest.raises(ConfigError, match="how many GPUs"):
        export(nightly(), "raycronjob", [])
    with pytest.raises(ConfigError, match="too long a name"):
        export(nightly(name="n" * 39), "raycronjob", ["gpus=8"])
    with pytest.raises(ConfigError, match="must begin with a letter"):
        export(nightly(name="2am"), "cronjob", ["gpus=8"])
