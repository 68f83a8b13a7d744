"""Real processes: servers that are killed, commands that outlive them, signals, exit codes, one run at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import psutil
import pytest

from rayflow.schedule.ledger import Ledger
from rayflow.schedule.records import Schedule
from tests.schedule.conftest import ROOT, Program, Servers, wait_for

# Each starts a few Python processes, which is most of its time.


def ended(ledger: Ledger) -> bool:
    """The run is over, and its processes have let go."""
    run = ledger.last_run("nightly")
    return run is not None and run.state == "done" and not ledger.is_running("nightly")


def begun(program: Program, times: int = 1) -> bool:
    return len(program.events("begin")) == times


def around(program: Program) -> psutil.Process:
    """The process around the newest command, whoever its parent is by now."""
    (command,) = [psutil.Process(program.events("begin")[-1]["pid"])]
    return next(p for p in command.parents() if "rayflow.schedule.attempt" in p.cmdline())


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rayflow", "schedule", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
    )


def test_a_command_outlives_its_killed_server_and_the_next_one_finds_it(
    ledger: Ledger, due: Schedule, program: Program, serve: Servers
) -> None:
    program.hold()
    first = serve()
    wait_for(lambda: begun(program), "the first server to start the command")
    first.kill()
    first.wait()
    assert ledger.is_running("nightly")
    second = serve()
    assert "serving 1 schedules" in second.stdout.readline()
    assert ledger.is_served()
    program.exit_code(3)
    program.release()
    wait_for(lambda: ended(ledger), "the end to be recorded")
    run = ledger.last_run("nightly")
    assert (run.attempts, run.lost, run.exit_code, run.result) == (1, 0, 3, "held back")
    assert len(program.events("begin")) == 1
    (event,) = program.events("end")
    today = datetime.now(UTC)
    assert event["arguments"] == [
        "refresh",
        str(due.config),
        "--date",
        due.times.date(due.times.latest(due.cursor, today)),
    ]
    assert event["folder"] == str(due.folder)
    assert "the program says hello" in run.log.read_text() and "exit code 3" in run.log.read_text()
    assert run.log.stat().st_mode & 0o777 == 0o600


def test_a_run_whose_processes_were_all_killed_is_resumed_for_the_same_day(
    ledger: Ledger, due: Schedule, program: Program, serve: Servers
) -> None:
    program.hold()
    first = serve()
    wait_for(lambda: begun(program), "the command")
    attempt = around(program)
    for process in (psutil.Process(first.pid), attempt, psutil.Process(program.events("begin")[0]["pid"])):
        process.kill()
    wait_for(lambda: not ledger.is_running("nightly"), "the lock to be free")
    program.release()
    serve()
    wait_for(lambda: ended(ledger), "the resumed run to end")
    run = ledger.last_run("nightly")
    assert (run.attempts, run.lost, run.result) == (2, 1, "ok")
    first_call, second_call = program.events("begin")
    assert first_call["arguments"] == second_call["arguments"]
    assert run.log.read_text().count("attempt ") == 2


def test_while_an_orphaned_command_is_at_work_nothing_else_is_started(
    ledger: Ledger, due: Schedule, program: Program, serve: Servers
) -> None:
    """Server and the process around the command are gone: the command itself holds the lock."""
    program.hold()
    first = serve()
    wait_for(lambda: begun(program), "the command")
    attempt = around(program)
    first.kill()
    attempt.kill()
    attempt.wait()
    second = serve()
    assert "serving" in second.stdout.readline()
    refused = cli("run-now", "nightly", "--state", str(ledger.folder))
    assert refused.returncode == 75 and "is running since" in refused.stderr
    assert len(program.events("begin")) == 1
    program.release()
    wait_for(lambda: ended(ledger), "the run to be taken up and to end")
    assert len(program.events("end")) == 2 and ledger.last_run("nightly").attempts == 2


def test_two_servers_start_one_run(ledger: Ledger, due: Schedule, program: Program, serve: Servers) -> None:
    servers = serve(), serve()
    for server in servers:
        assert "serving" in server.stdout.readline()
    wait_for(lambda: ended(ledger), "the run")
    for server in servers:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert len(program.events("begin")) == 1 and len(ledger.runs("nightly")) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_ends_its_command_by_sigterm_and_waits_for_it(
    number: signal.Signals, ledger: Ledger, due: Schedule, program: Program, serve: Servers
) -> None:
    program.hold()
    server = serve()
    wait_for(lambda: begun(program), "the command")
    server.send_signal(number)
    assert server.wait(60) == 0
    assert len(program.events("SIGTERM")) == 1 and not ledger.is_running("nightly")
    run = ledger.last_run("nightly")
    assert (run.state, run.exit_code) == ("interrupted", 143)
    program.release()
    serve()
    wait_for(lambda: ended(ledger), "the interrupted run to be resumed")
    assert ledger.last_run("nightly").lost == 0


def test_a_command_that_kills_itself_is_tried_three_times(
    ledger: Ledger, due: Schedule, program: Program, serve: Servers
) -> None:
    program.path.write_text(program.path.read_text().replace('write("end")', "os.kill(os.getpid(), 9)"))
    serve()
    wait_for(lambda: ended(ledger), "the run to be given up")
    run = ledger.last_run("nightly")
    assert (run.exit_code, run.attempts, run.result) == (137, 3, "failed")


def test_a_program_that_is_gone_is_a_failure_with_its_reason(
    ledger: Ledger, due: Schedule, program: Program, serve: Servers
) -> None:
    program.path.unlink()
    serve()
    wait_for(lambda: ended(ledger), "the failure")
    run = ledger.last_run("nightly")
    assert run.exit_code == 127 and "No such file" in run.log.read_text()


def test_run_now_shows_what_the_command_says_and_exits_as_it_does(
    ledger: Ledger, due: Schedule, program: Program
) -> None:
    program.exit_code(3)
    done = cli("run-now", "nightly", "--date", "2026-11-01", "--state", str(ledger.folder))
    assert done.returncode == 3 and "the program says hello" in done.stdout
    run = ledger.last_run("nightly")
    assert (run.scheduled, run.date, run.result) == (None, "2026-11-01", "held back")
    wrong = cli("run-now", "nightly", "--date", "tomorrow", "--state", str(ledger.folder))
    assert wrong.returncode == 1 and "is no day" in wrong.stderr


def test_ctrl_c_on_run_now_ends_the_command_and_a_second_call_takes_it_up(
    ledger: Ledger, due: Schedule, program: Program
) -> None:
    program.hold()
    call = [
        sys.executable,
        "-m",
        "rayflow",
        "schedule",
        "run-now",
        "nightly",
        "--state",
        str(ledger.folder),
    ]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)})
    wait_for(lambda: begun(program), "the command")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130 and len(program.events("SIGTERM")) == 1
    program.release()
    again = cli("run-now", "nightly", "--state", str(ledger.folder))
    assert again.returncode == 0 and len(ledger.runs("nightly")) == 1
    assert ledger.last_run("nightly").attempts == 2
