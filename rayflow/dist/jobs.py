"""Jobs on a Ray cluster, through its job server: submit once, list, follow, cancel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from rayflow.core.ray_token import MODE, find_token
from rayflow.dist.job import NAME, ROOT, Job, Request, job_of, number_of, running_job, url_of
from rayflow.errors import JobError

_LOST_AFTER_S = 300.0
_POLL_S = 2.0
_TAIL_S = 600.0
_CONNECT_S, _ANSWER_S = 10.0, 120.0


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
        with _answers(self.address), _only_address():
            self._client = _client(self.address)

    def submit(self, request: Request) -> tuple[Job, bool]:
        """Start the job, unless it is running already.

        Returns:
            The job, and whether it was started now.

        Raises:
            JobError: another job works in the same folder, or the server refuses this one.
        """
        jobs = self.jobs()
        if (running := running_job(jobs, request)) is not None:
            return running, False
        numbers = [number_of(job.id, request.key) for job in jobs]
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
            if (running := running_job(self.jobs(), request)) is not None:
                return running, False
            raise
        return self.job(identity), True

    def jobs(self) -> list[Job]:
        """All submitted jobs, the newest first."""
        with _answers(self.address):
            found = [job_of(each) for each in self._client.list_jobs() if each.submission_id]
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
        from aiohttp import ClientError

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
            # A connection whose other end is gone says nothing for ever: a new one goes on where it ended.
            with contextlib.suppress(OSError, RuntimeError, ClientError):
                asyncio.run(asyncio.wait_for(tail(), _TAIL_S))
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


def _client(address: str) -> Any:
    """Ray's client, which would wait for ever for a server that takes a request and never answers."""
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, *args: Any, **kwargs: Any) -> Any:
            return super()._do_request(*args, **{"timeout": (_CONNECT_S, _ANSWER_S), **kwargs})

    return Client(address)


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
    hidden = {
        name: os.environ.pop(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS") if name in os.environ
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
