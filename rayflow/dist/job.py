"""A job of a cluster, what is asked for when it is submitted, and which of them are the same.

A submission id names what is submitted, by content, and the try: `<name>-<digest>-<number>`. So the same job
submitted twice is found rather than started twice, and a finished or failed one can be submitted again.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from rayflow.errors import JobError

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ROOT = "rayflow_root"
NAME = "rayflow_name"
FINISHED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
STOPPED_EXIT = 143
"""What --wait ends with for a job that was cancelled: the code of a process that SIGTERM ended."""


@dataclass(frozen=True)
class Job:
    """A job as its server tells of it, without its environment.

    Attributes:
        id: submission id.
        state: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        name, root: the run's name and folder; empty for a job that is not rayflow's.
        message: the server's own words, with the end of the log if it failed.
        started, ended: Unix times, or None.
        exit_code: of the entry point, or None.
    """

    id: str
    state: str
    name: str
    root: str
    message: str
    started: float | None
    ended: float | None
    exit_code: int | None

    @property
    def finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in FINISHED

    @property
    def exit_status(self) -> int:
        """What a command that waits for it ends with: 0, the job's own code, or 143 if it was stopped."""
        if self.state == "SUCCEEDED":
            return 0
        return STOPPED_EXIT if self.state == "STOPPED" else self.exit_code or 1


@dataclass(frozen=True)
class Request:
    """What is submitted.

    Attributes:
        key: names the content; the submission id begins with it.
        entrypoint: the command.
        working_dir: folder to send.
        env: plain variables of the job. They are kept and shown by the job server, so no secret is among them.
        name, root: of the run.
    """

    key: str
    entrypoint: str
    working_dir: str
    env: dict[str, str]
    name: str
    root: str


def running_job(jobs: list[Job], request: Request) -> Job | None:
    """The same job if it is under way.

    Raises:
        JobError: another job works in the same folder.
    """
    for job in jobs:
        if job.finished:
            continue
        if number_of(job.id, request.key):
            return job
        if job.root and job.root == request.root:
            raise JobError(
                f"Job {job.id} works in {job.root} with another configuration or other code. Wait for it, cancel it "
                f"(rayflow cancel {job.id}), or give this run another name (--name)."
            )
    return None


def number_of(identity: str, key: str) -> int:
    """Which try of the job `key` this id is; 0 if it is another job's."""
    match = re.fullmatch(re.escape(key) + r"-(\d+)", identity)
    return int(match[1]) if match else 0


def job_of(details: Any) -> Job:
    metadata = details.metadata or {}
    return Job(
        id=details.submission_id,
        state=details.status.value,
        name=metadata.get(NAME, ""),
        root=metadata.get(ROOT, ""),
        message=details.message or "",
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
        exit_code=details.driver_exit_code,
    )


def url_of(address: str | None) -> str:
    """The job server's URL, from what a person gave or the environment says.

    Raises:
        JobError: it is not an http address.
    """
    given = address or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
    url = given if "://" in given else f"http://{given}"
    if not re.match(r"https?://[^/\s]+", url):
        raise JobError(
            f"'{given}' is not the address of a job server. It is that of the dashboard, such as {DEFAULT_ADDRESS}."
        )
    return url.rstrip("/")
