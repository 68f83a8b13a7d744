"""A schedule as a CronJob that submits to a standing cluster, or as a RayCronJob; `rayflow.cluster` builds them."""

from __future__ import annotations

import shlex
from datetime import timedelta
from itertools import pairwise
from typing import Any

import yaml

from rayflow.cluster.kuberay import ray_cron_job
from rayflow.cluster.kubernetes import cron_job
from rayflow.cluster.options import ClusterOptions
from rayflow.cluster.pods import job_command
from rayflow.config.load import load_options
from rayflow.errors import ConfigError
from rayflow.schedule.due import GRACE
from rayflow.schedule.exports.fields import portable
from rayflow.schedule.exports.shell import today
from rayflow.schedule.records import Schedule

_LONGEST_NAME = 40
"""KubeRay makes longer ones of it, within Kubernetes' 63."""
_SKIP_SECONDS = 5 * int(GRACE.total_seconds())
"""When times are skipped: a controller looks every ten seconds, and a pod's image may have to be fetched."""
_NOTES = {
    "cronjob": """\
# Schedule '{name}' of rayflow: submits to the standing cluster '{cluster}' and waits. One at a time (Forbid). A time
# that could not start within {deadline} seconds is skipped; of several missed ones the latest is run.
""",
    "raycronjob": """\
# Schedule '{name}' of rayflow, on a cluster of its own each time. Alpha: the operator's feature gate RayCronJob is off
# by default. The kind knows no concurrency policy and no deadline: after a pause of the operator it makes a job for
# every missed time. That the command is idempotent keeps the table right. The format cronjob is the recommended one.
""",
}


def export(schedule: Schedule, format: str, settings: list[str]) -> dict[str, str]:
    """The manifest.

    Raises:
        ConfigError: a setting does not fit, or the name is too long for the objects made from it.
    """
    if len(schedule.name) > _LONGEST_NAME:
        raise ConfigError(
            f"'{schedule.name}' is too long a name for Kubernetes: at most {_LONGEST_NAME} letters."
        )
    options = _options(schedule, format, settings)
    made = _cron_job(schedule, options) if format == "cronjob" else _ray_cron_job(schedule, options)
    made["metadata"]["name"] = schedule.name
    made["spec"]["suspend"] = schedule.paused
    note = _NOTES[format].format(name=schedule.name, cluster=options.name, deadline=_deadline(schedule))
    return {f"{format}.yaml": note + yaml.safe_dump(made, sort_keys=False, width=110)}


def _options(schedule: Schedule, format: str, settings: list[str]) -> ClusterOptions:
    """The cluster's, with the schedule's times and configuration; paths in the project are the image's, too."""
    inside = schedule.config.is_relative_to(schedule.folder)
    config = schedule.config.relative_to(schedule.folder) if inside else schedule.config
    data: dict[str, Any] = {"config": str(config), "refresh_config": str(config)}
    if format == "cronjob" and not any(text.startswith("gpus") for text in settings):
        data["gpus"] = 1  # the standing cluster has its size; the submitting pod has no GPU
    data |= {"schedule": portable(schedule), "time_zone": schedule.timezone}
    return load_options(data, settings, ClusterOptions, "The cluster")


def _cron_job(schedule: Schedule, options: ClusterOptions) -> dict[str, Any]:
    made = cron_job(options)
    made["spec"]["startingDeadlineSeconds"] = _deadline(schedule)
    (container,) = made["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    submit = container["command"][: container["command"].index("--") + 1]
    # `ray job submit` quotes it for the shell that runs it on the head; Kubernetes would read $( as its own.
    day = ["--date", today(schedule).strip('"').replace("$(", "$$(")] if schedule.command == "refresh" else []
    container["command"] = [*submit, *job_command(options, schedule.command), *day]
    return made


def _ray_cron_job(schedule: Schedule, options: ClusterOptions) -> dict[str, Any]:
    made = ray_cron_job(options)
    line = shlex.join(job_command(options, schedule.command))
    day = f" --date {today(schedule)}" if schedule.command == "refresh" else ""
    made["spec"]["jobTemplate"]["entrypoint"] = line + day
    return made


def _deadline(schedule: Schedule) -> int:
    """Until the next time: by then that one is run in its place. In seconds."""
    if schedule.missed == "skip":
        return _SKIP_SECONDS
    times = [schedule.cursor]
    for _ in range(8):
        times.append(schedule.times.after(times[-1]))
    longest = max(later - earlier for earlier, later in pairwise(times[1:]))
    return int(max(longest, timedelta(seconds=_SKIP_SECONDS)).total_seconds())
