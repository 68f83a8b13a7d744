"""A schedule for those who keep it instead of `rayflow schedule serve`. All of them start the same idempotent command.

At clock changes each follows its own rules, which the files name.
"""

from __future__ import annotations

from difflib import get_close_matches

from rayflow.errors import ConfigError
from rayflow.schedule.exports import airflow, crontab, systemd
from rayflow.schedule.records import Schedule

KUBERNETES = ("cronjob", "raycronjob")
FORMATS = (*KUBERNETES, "crontab", "systemd", "airflow")


def export(schedule: Schedule, format: str, settings: list[str]) -> dict[str, str]:
    """The files by name.

    Args:
        schedule: to be exported.
        format: cronjob, raycronjob, crontab, systemd or airflow.
        settings: "a=value" of the cluster, for the first two; see `rayflow cluster render`.

    Raises:
        ConfigError: an unknown format, the cron expression says what the format cannot, or a setting does not fit.
    """
    if format not in FORMATS:
        near = "crontab" if format == "cron" else next(iter(get_close_matches(format, FORMATS, n=1)), None)
        hint = f"Did you mean {near}?" if near else f"Known: {', '.join(FORMATS)}."
        raise ConfigError(f"Unknown format '{format}'. {hint}")
    if format in KUBERNETES:
        from rayflow.schedule.exports import kubernetes

        return kubernetes.export(schedule, format, settings)
    return {"crontab": crontab, "systemd": systemd, "airflow": airflow}[format].export(schedule)
