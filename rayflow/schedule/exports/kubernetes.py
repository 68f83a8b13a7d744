"""A schedule as a CronJob that creates RayJobs, or as a RayCronJob; `rayflow.cluster` builds them."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import yaml

from rayflow.cluster.cron import cron_job
from rayflow.cluster.kuberay import ray_cron_job
from rayflow.cluster.options import ClusterOptions
from rayflow.config.load import load_options
from rayflow.errors import ConfigError
from rayflow.schedule.due import GRACE
from rayflow.schedule.exports.fields import portable
from rayflow.schedule.records import Schedule

_LONGEST_NAME = 38
"""A RayJob is called by it and by nine characters more, and KubeRay refuses more than 47."""
_SKIP_SECONDS = 5 * int(GRACE.total_seconds())
"""When times are skipped: a controller looks every ten seconds, and a pod's image may have to be fetched."""
_NOTES = {
    "cronjob": """\
# Schedule '{name}' of rayflow: a pod creates a RayJob with a cluster of its own, waits for it and ends as it does. One
# at a time (Forbid). A time that could not start within {deadline} seconds is skipped; of several missed ones the
# latest is run. Needs storage.yaml, config.yaml and network-policy.yaml, rendered for the cluster '{cluster}'.
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
    if not schedule.name[0].isalpha():
        raise ConfigError(f"'{schedule.name}' is no name for a RayJob: it must begin with a letter.")
    options = cluster_of(schedule, settings)
    if format == "cronjob":
        made = cron_job(options, schedule.name, schedule.command)
        made[-1]["spec"]["startingDeadlineSeconds"] = _deadline(schedule)
    else:
        made = [ray_cron_job(options, schedule.name, schedule.command)]
    made[-1]["spec"]["suspend"] = schedule.paused
    note = _NOTES[format].format(name=schedule.name, cluster=options.name, deadline=_deadline(schedule))
    return {f"{format}.yaml": note + yaml.safe_dump_all(made, sort_keys=False, width=110)}


def cluster_of(schedule: Schedule, settings: list[str]) -> ClusterOptions:
    """The cluster's, with the schedule's times and configuration; paths in the project are the image's, too."""
    inside = schedule.config.is_relative_to(schedule.folder)
    config = schedule.config.relative_to(schedule.folder) if inside else schedule.config
    data: dict[str, Any] = {"config": str(config), "refresh_config": str(config)}
    data |= {"schedule": portable(schedule.cron), "time_zone": schedule.timezone}
    return load_options(data, settings, ClusterOptions, "The cluster")


def _deadline(schedule: Schedule) -> int:
    """Until the next time: by then that one is run in its place. In seconds."""
    if schedule.missed == "skip":
        return _SKIP_SECONDS
    times = [schedule.cursor]
    for _ in range(8):
        times.append(schedule.times.after(times[-1]))
    longest = max(later - earlier for earlier, later in pairwise(times[1:]))
    return int(max(longest, timedelta(seconds=_SKIP_SECONDS)).total_seconds())
