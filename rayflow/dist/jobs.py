"""Jobs on a Ray cluster, through its job server: submit once, list, follow, cancel.

A submission id names what is submitted, by content, and the try: `<name>-<digest>-<number>`. So the same job
submitted twice is found rather than started twice, and a finished or failed one can be submitted again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from rayflow.core.ray_token import MODE, find_token
from rayflow.errors import JobError

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ROOT = "rayflow_root"
NAME = "rayflow_name"
FINISHED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
STOPPED_EXIT = 143
"""What --wait ends with for a job that was cancelled: the code of a process that SIGTERM ended."""
_LOST_AFTER_S = 300.0
_POLL_S = 2.0


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


class JobServer:
    """The job server of one cluster.

    Args:
        address: its URL; None takes RAY_API_SERVER_ADDRESS, or the port 8265 of this machine.

    Raises:
        JobError: nothing answers there, or it refuses the token.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = url_of(address)
        if find_token() is not None:
            os.environ.setdefault(MODE, "token")  # before Ray is imported, which reads it once
        from ray.job_submission import JobSubmissionClient

        with _answers(self.address), _only_address():
            self._client = JobSubmissionClient(self.address)

    def submit(self, request: Request) -> tuple[Job, bool]:
        """Start the job, unless it is running already.

        Returns:
            The job, and whether it was started now.

        Raises:
            JobError: another job works in the same folder, or the server refuses this one.
        """
        jobs = self.jobs()
        if (running := _running(jobs, request)) is not None:
            return running, False
        numbers = [_number(job.id, request.key) for job in jobs]
        identity = f"{request.key}-{max(numbers, default=0) + 1}"
        try:
            with _answers(self.address):
                self._client.submit_job(
                    entrypoint=request.entrypoint,
                    submission_id=identity,
                    runtime_env={"working_dir": request.working_dir, "env_vars": request.env},
                    metadata={NAME: request.name, ROOT: request.root},
                )
        except JobError:  # perhaps somebody else was first with the same job
            if (running := _running(self.jobs(), request)) is not None:
                return running, False
            raise
        return self.job(identity), True

    def jobs(self) -> list[Job]:
        """All submitted jobs, the newest first."""
        with _answers(self.address):
            found = [_job(each) for each in self._client.list_jobs() if each.submission_id]
        return sorted(found, key=lambda job: job.started or 0, reverse=True)

    def job(self, identity: str) -> Job:
        """One job by its submission id, or the newest by its run's name.

        Raises:
            JobError: there is none.
        """
        jobs = self.jobs()
        match = [job for job in jobs if job.id == identity] or [job for job in jobs if job.name == identity]
        if not match:
            raise JobError(
                f"No job '{identity}' at {self.address}: neither a submission id nor a run's name. List them with "
                "`rayflow jobs`."
            )
        return match[0]

    def logs(self, identity: str) -> str:
        """Everything that the job has printed so far."""
        with _answers(self.address):
            return self._client.get_job_logs(identity)

    def follow(self, identity: str, write: Callable[[str], None]) -> Job:
        """Hand on what the job prints, until it is finished; the connection may be lost meanwhile.

        Raises:
            JobError: the server did not answer for five minutes.
        """
        shown = 0

        async def tail() -> None:
            nonlocal shown
            seen = 0
            async for text in self._client.tail_job_logs(identity):
                new = text[max(0, shown - seen) :]  # a new connection begins with the log's beginning
                seen += len(text)
                if new:
                    write(new)
                    shown = max(shown, seen)

        for _ in self._until_finished(identity):
            with contextlib.suppress(OSError, RuntimeError):
                asyncio.run(tail())
        write(self.logs(identity)[shown:])
        return self.job(identity)

    def wait(self, identity: str) -> Job:
        """Return when the job is finished.

        Raises:
            JobError: the server did not answer for five minutes.
        """
        for _ in self._until_finished(identity):
            pass
        return self.job(identity)

    def cancel(self, identity: str) -> Job:
        """Ask the job to end, and wait until it has: it gets SIGTERM, and later SIGKILL."""
        with _answers(self.address):
            self._client.stop_job(identity)
        return self.wait(identity)

    def link(self, identity: str) -> str:
        """The job's page on the dashboard."""
        return f"{self.address}/#/jobs/{identity}"

    def _until_finished(self, identity: str) -> Iterator[None]:
        heard = time.monotonic()
        while True:
            try:
                if self.job(identity).finished:
                    return
                heard = time.monotonic()
            except JobError:
                if time.monotonic() - heard > _LOST_AFTER_S:
                    raise
            yield
            time.sleep(_POLL_S)


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


def _running(jobs: list[Job], request: Request) -> Job | None:
    """The same job if it is under way.

    Raises:
        JobError: another job works in the same folder.
    """
    for job in jobs:
        if job.finished:
            continue
        if _number(job.id, request.key):
            return job
        if job.root and job.root == request.root:
            raise JobError(
                f"Job {job.id} works in {job.root} with another configuration or other code. Wait for it, cancel it "
                f"(rayflow cancel {job.id}), or give this run another name (--name)."
            )
    return None


def _number(identity: str, key: str) -> int:
    """Which try of the job `key` this id is; 0 if it is another job's."""
    match = re.fullmatch(re.escape(key) + r"-(\d+)", identity)
    return int(match[1]) if match else 0


def _job(details: Any) -> Job:
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


@contextlib.contextmanager
def _answers(address: str) -> Iterator[None]:
    """What can go wrong with a request, as a sentence.

    Raises:
        JobError: with what to do.
    """
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        told = "did not accept the token of this machine" if find_token() else "asks for a token"
        raise JobError(
            f"The job server at {address} {told}. Set RAY_AUTH_TOKEN to the cluster's token, or put it into "
            "~/.ray/auth_token with mode 0600 (`ray get-auth-token` prints it on a machine of the cluster)."
        ) from None
    except (ConnectionError, requests.ConnectionError, requests.Timeout):
        raise JobError(
            f"No job server answers at {address}. Is the cluster running, with ray[default] installed, and is this the "
            "address of its dashboard? From outside, forward the port: ssh -L 8265:127.0.0.1:8265 HEAD, or kubectl "
            "port-forward."
        ) from None
    except (RuntimeError, requests.RequestException) as error:
        raise JobError(f"The job server at {address} refused: {_last_line(str(error))}") from None


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it did not say why"


@contextlib.contextmanager
def _only_address() -> Iterator[None]:
    """Ray lets these variables win over an address that was asked for; here the person's word counts."""
    hidden = {name: os.environ.pop(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
