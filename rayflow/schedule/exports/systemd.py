"""A timer and its service for systemd, which makes up for a missed time once (`Persistent=true`)."""

from __future__ import annotations

from rayflow.schedule.exports.fields import field_sets
from rayflow.schedule.exports.shell import command
from rayflow.schedule.records import Schedule

_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


def export(schedule: Schedule) -> dict[str, str]:
    """The two units, for /etc/systemd/system, or ~/.config/systemd/user with `systemctl --user`."""
    elapses = "\n".join(f"OnCalendar={text} {schedule.timezone}" for text in calendar(schedule))
    shell = command(schedule).replace("\\", "\\\\").replace("'", "\\'")
    line = shell.replace("%", "%%").replace("$", "$$")  # systemd's own signs, the way it escapes them
    folder = str(schedule.folder).replace("%", "%%")
    timer = f"""\
[Unit]
Description=Times of rayflow's schedule '{schedule.name}'

[Timer]
{elapses}
Persistent={"true" if schedule.missed == "run-once" else "false"}
AccuracySec=1s

[Install]
WantedBy=timers.target
"""
    service = f"""\
[Unit]
Description=rayflow's schedule '{schedule.name}'
# Secrets, such as HF_TOKEN, by `systemctl edit {schedule.name}.service`: EnvironmentFile=/path, mode 0600.

[Service]
Type=oneshot
WorkingDirectory={folder}
ExecStart=/bin/sh -c 'exec {line}'
# 75: another one is at the same day. Nothing is wrong.
SuccessExitStatus=75
# SIGTERM to the command alone, which ends its own processes; what is finished is kept.
KillMode=mixed
TimeoutStopSec=5min
"""
    return {f"{schedule.name}.service": service, f"{schedule.name}.timer": timer}


def calendar(schedule: Schedule) -> list[str]:
    """The times as systemd writes them. Days of the month "or" of the week become two lines."""
    (_, _, day, _, weekday), (minutes, hours, days, months, weekdays) = field_sets(schedule.cron)
    clock = f"{_places(hours, 24, 0)}:{_places(minutes, 60, 0)}:00"
    month, dates = _places(months, 12, 1), _places(days, 31, 1)
    names = "" if len(weekdays) == 7 else ",".join(_WEEKDAYS[d] for d in weekdays) + " "
    if day.startswith("*") or weekday.startswith("*"):
        return [f"{names}*-{month}-{dates} {clock}"]
    return [f"*-{month}-{dates} {clock}", f"{names}*-{month}-* {clock}"]


def _places(values: list[int], size: int, low: int) -> str:
    return "*" if values == list(range(low, low + size)) else ",".join(f"{v:02d}" for v in values)
