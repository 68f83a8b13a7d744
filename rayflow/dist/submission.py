"""From a configuration to what is sent to a job server. Nothing here talks to a cluster."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rayflow.config import JobConfig
from rayflow.config.refresh import RefreshConfig, checked_date, for_date
from rayflow.core.ray_token import find_token
from rayflow.core.sealed import SEALED, seal
from rayflow.dist.job import Request
from rayflow.errors import ConfigError
from rayflow.pipeline.arrival import REQUIRED, SUBMITTED
from rayflow.pipeline.package import Package, pack

JOBS = {
    "pipeline": ("run",),
    "sample": ("run", "--only", "sample"),
    "score": ("run", "--only", "score"),
    "select": ("run", "--only", "select"),
    "train": ("run", "--only", "train"),
    "evaluate": ("evaluate",),
    "train_reward": ("train-reward",),
    "refresh": ("refresh",),
    "study": ("study", "run"),
}
"""The entry points in `jobs/`, and the command that each of them is."""
JOB_OF = {
    "RunConfig": "pipeline",
    "RewardConfig": "train_reward",
    "RefreshConfig": "refresh",
    "EvaluateConfig": "evaluate",
    "StudyConfig": "study",
}
"""The entry point that a configuration is for, where none is named."""

TAKES = {
    "run": ("--force-stage", "--until"),
    "train-reward": ("--force-stage",),
    "evaluate": ("--force-stage",),
    "refresh": ("--date",),
}
"""Which of the options that `submit` passes on a command has."""


@dataclass(frozen=True)
class SubmitOptions:
    """How a job is submitted.

    Attributes:
        job: which entry point; None is the one that the configuration is for.
        env: variables of this shell to send, sealed.
        cluster_env: variables that the cluster's machines must have.
        shared: folders that are the same here and there.
        force: stages to redo.
        until: the last part of a run to compute; None is the whole job.
        date: the day of a refresh, ISO; None is today in UTC.
        stop_wait_s: seconds that a cancelled job gets to end by itself.
        python: the interpreter there.
    """

    job: str | None = None
    env: Sequence[str] = ()
    cluster_env: Sequence[str] = ()
    shared: Sequence[str] = ()
    force: Sequence[str] = ()
    until: str | None = None
    date: str | None = None
    stop_wait_s: int = 60
    python: str = "python"


def prepare(
    config: JobConfig, folder: Path, options: SubmitOptions, parts: Mapping[str, JobConfig] | None = None
) -> tuple[Package, Request]:
    """Pack a job, with the configurations that a study is made of, into an empty folder.

    Raises:
        ConfigError, DataError: see `pack`; an unknown job, or an option that it lacks; a variable that cannot be
            sent.
    """
    own = JOB_OF[type(config).__name__]
    options = replace(options, job=options.job or own)
    passed_on = _passed_on(options, own)
    if isinstance(config, RefreshConfig) and options.job == "refresh":
        # The day is settled here: its data is sent, and a job that starts after midnight is still for it.
        options = replace(options, date=checked_date(options.date))
        config = for_date(config, options.date)
    env = _environment(options)
    package = pack(config, folder, options.shared, parts)
    command = shlex.join([*_command(options, package), *passed_on])
    digest = hashlib.sha256(f"{package.digest} {command}".encode()).hexdigest()[:12]
    request = Request(
        key=f"{config.name}-{digest}",
        entrypoint=command,
        working_dir=str(folder),
        env=env,
        name=config.name,
        root=str(Path(package.config.runs_dir, config.name)),
    )
    return package, request


def _command(options: SubmitOptions, package: Package) -> list[str]:
    script = f"jobs/{options.job}.py"
    if (package.folder / script).exists():
        return [options.python, script, "config.yaml"]
    # rayflow was installed from a wheel, which has no `jobs`
    return [options.python, "-m", "rayflow", *JOBS[options.job or ""], "config.yaml"]


def _fits(job: str, own: str) -> bool:
    """Whether a job takes the configurations that the job `own` is for; a run's evaluation is a part of the run."""
    return JOBS[job][0] == JOBS[own][0] or (job == "evaluate" and own == "pipeline")


def _passed_on(options: SubmitOptions, own: str) -> list[str]:
    """Options of the job's own command.

    Raises:
        ConfigError: there is no such job, it is for another kind of configuration than the job `own`, or its command
            has no such option.
    """
    if options.job not in JOBS:
        raise ConfigError(f"Unknown job '{options.job}'. Known: {', '.join(JOBS)}.")
    if not _fits(options.job, own):
        fitting = ", ".join(job for job in JOBS if _fits(job, own))
        raise ConfigError(
            f"The job '{options.job}' is for another kind of configuration; for this one: {fitting}."
        )
    if options.until and "--only" in JOBS[options.job]:
        raise ConfigError(
            f"--until: the job '{options.job}' is one stage alone. Leave it out, or submit the job pipeline."
        )
    given = {"--force-stage": options.force, "--until": (options.until,), "--date": (options.date,)}
    words = [(name, value) for name, values in given.items() for value in values if value]
    command = JOBS[options.job][0]
    for name, _ in words:
        if name not in TAKES.get(command, ()):
            takes = " and ".join(TAKES.get(command, ())) or "none"
            raise ConfigError(
                f"{name}: the job '{options.job}' is `rayflow {command}`, which has no such option (of those that "
                f"are passed on it takes {takes}). Leave it out."
            )
    return [word for pair in words for word in pair]


def _environment(options: SubmitOptions) -> dict[str, str]:
    """The job's variables. The job server keeps and shows them, so secrets are sealed."""
    for name in (*options.env, *options.cluster_env):
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ConfigError(
                f"'{name.partition('=')[0]}...' is not the name of an environment variable. Give the name alone; its "
                "value is taken from this shell (--env) or from the cluster's machines (--cluster-env)."
            )
    env = {SUBMITTED: "1", "RAY_JOB_STOP_WAIT_TIME_S": str(options.stop_wait_s)}
    if options.cluster_env:
        env[REQUIRED] = ",".join(options.cluster_env)
    if options.env:
        token = find_token()
        if token is None:
            raise ConfigError(
                f"--env {options.env[0]}: a cluster without a token would keep and show the value to everyone who can "
                "reach it. Turn token authentication on (RAY_AUTH_MODE=token), or set the variable on its machines and "
                f"use --cluster-env {options.env[0]}."
            )
        env[SEALED] = seal(options.env, token)
    return env
