"""A DAG file for Airflow 2.6 and newer, Airflow 3 included."""

from __future__ import annotations

from datetime import UTC

from rayflow.schedule.exports.fields import portable
from rayflow.schedule.exports.shell import command
from rayflow.schedule.records import Schedule

_TEMPLATE = '''\
"""Schedule {name} of rayflow.

A refresh is idempotent: it exits 0 when the day is done, and 75 while another one is at it, which is shown as
skipped. {missed}
"""

from __future__ import annotations

import pendulum
from airflow.timetables.trigger import CronTriggerTimetable

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator

with DAG(
    dag_id={name!r},
    schedule=CronTriggerTimetable({cron!r}, timezone={timezone!r}),
    start_date=pendulum.datetime({start}, tz={timezone!r}),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation={paused},
    tags=["rayflow"],
):
    BashOperator(
        task_id={command!r},
        bash_command={line!r},
        cwd={folder!r},
        append_env=True,
        skip_on_exit_code=75,
        retries=2,
        retry_delay=pendulum.duration(minutes=10),
    )
'''
_MISSED = {
    "run-once": "Of times that were missed, the latest is made up for (catchup=False).",
    "skip": "Airflow makes up for the latest missed time (catchup=False); it cannot leave it out.",
}


def export(schedule: Schedule) -> dict[str, str]:
    """The file, for Airflow's folder of DAGs on a machine where the configuration and its folder are."""
    # The time of the run, not of its start: a late run is still for its own day. `run_after` is Airflow 3's.
    time = "(dag_run.run_after if dag_run.run_after is defined else data_interval_end)"
    day = f"\"$(TZ={schedule.timezone} date -d '{{{{ {time}.isoformat() }}}}' +%Y-%m-%d)\""
    start = schedule.cursor.astimezone(UTC)
    text = _TEMPLATE.format(
        name=schedule.name,
        missed=_MISSED[schedule.missed],
        cron=portable(schedule.cron),
        timezone=schedule.timezone,
        start=f"{start.year}, {start.month}, {start.day}",
        paused=schedule.paused,
        command=schedule.command,
        # A line that ends in .sh would be taken for a template's file name.
        line=command(schedule, day) + " ",
        folder=str(schedule.folder),
    )
    return {f"{schedule.name.replace('-', '_')}.py": text}
