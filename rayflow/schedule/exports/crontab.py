"""A line for cron. It needs no lock: the command is idempotent, and says 75 while it is at work already."""

from __future__ import annotations

import shlex

from rayflow.schedule.exports.fields import portable
from rayflow.schedule.exports.shell import command
from rayflow.schedule.records import Schedule


def export(schedule: Schedule) -> dict[str, str]:
    """The file, for `crontab FILE` or to be added with `crontab -e`."""
    # In a crontab an unescaped % ends the command.
    line = f"cd {shlex.quote(str(schedule.folder))} && {command(schedule)}".replace("%", r"\%")
    text = f"""\
# Schedule '{schedule.name}' of rayflow.
# CRON_TZ is read by cronie (Fedora, RHEL, Arch, SUSE). Debian's and Ubuntu's cron ignores it and goes by the
# machine's zone: set that to {schedule.timezone}, or export for systemd. CRON_TZ counts for all lines below it.
# A time that passes while the machine is off is skipped by cron. No flock is needed: one run at a time is the
# command's own rule (exit code 75 while another one is at it).
CRON_TZ={schedule.timezone}
{portable(schedule.cron)} {line}
"""
    return {f"{schedule.name}.crontab": text}
