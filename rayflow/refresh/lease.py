"""One worker at a time, agreed on in the storage that all of them see.

    lease/00000007.json   generation 7: who holds it, until when, whether it was given back

Taking the lease is creating the next generation's file exclusively, which of two takers exactly one can
(compare-and-set). Only its holder rewrites it, to push the expiry ahead, so a holder that was given up for
dead finds a higher generation and stops. A holder whose lease ran out without anybody taking it, because its
machine slept or its clock jumped, takes the next generation itself and goes on. Expiry compares clocks of
different machines: they must agree much better than `lease_seconds`. On one machine a holder whose process
is gone is not waited for.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rayflow.core.beats import every
from rayflow.core.files import read_json, write_json
from rayflow.errors import ArtifactError, BusyError, LeaseError
from rayflow.refresh.folder import create_json, numbers

KEPT = 3
"""Generations whose files stay, for the curious."""


class Lease:
    """A held lease.

    Args:
        folder: where its generations are.
        seconds: how long it holds without a sign of life.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._generation = 0
        self._expires = 0.0
        self._turn = threading.RLock()  # the heartbeat and the work both look at it, and may both renew it

    def acquire(self, what: str, say: Callable[[str], None] | None = None) -> None:
        """Take the lease.

        Args:
            what: is being done, for those who find it taken.
            say: tells why it takes a while. Given, a holder of which nothing can be known is watched for a sign of
                life, and one that gives none is waited out: so a refresh whose machine was lost, or started anew,
                is gone on with by the first call after that.

        Raises:
            BusyError: somebody else holds it, or was faster.
        """
        if say is not None:
            self._outwait(say)
        newest = max(numbers(self._folder), default=0)
        if newest:
            _refuse_if_held(self._read(newest))
        self._data = {"owner": owner(), "doing": what, "acquired": time.time()}
        if not self._take(newest + 1):
            _refuse_if_held(self._read(newest + 1))
            raise BusyError("Another refresh took the lease at the same moment. Try again.")
        for old in numbers(self._folder):
            if old <= newest - KEPT:
                self._path(old).unlink(missing_ok=True)

    def renew(self) -> None:
        """Push the expiry ahead.

        Raises:
            LeaseError: the lease is somebody else's by now.
        """
        with self._turn:
            self.check()
            self._expires = time.time() + self._seconds
            write_json(self._path(self._generation), self._content())

    def check(self) -> None:
        """Make sure that the lease is still held, before something is done that cannot be undone.

        Raises:
            LeaseError: it ran out, and somebody else took it.
        """
        with self._turn:
            mine = max(numbers(self._folder), default=0) == self._generation
            # One that ran out is free for all: of those who want it, who creates the next generation has it.
            if not mine or (time.time() > self._expires and not self._take(self._generation + 1)):
                raise LeaseError(
                    "This refresh was not heard of for too long (a suspended machine, storage that hung, a clock "
                    "that jumped), and another one has taken over. What that one has not finished a further call "
                    "goes on with; if it happens again, raise refresh.lease_seconds."
                )

    def release(self) -> None:
        """Give it back, if it is still held."""
        with self._turn:
            if max(numbers(self._folder), default=0) == self._generation:
                write_json(self._path(self._generation), {**self._content(), "released": True})

    @contextmanager
    def held(self, what: str, say: Callable[[str], None] | None = None) -> Iterator[Lease]:
        """Hold the lease until the block ends, renewed from a thread; see `acquire`."""
        self.acquire(what, say)

        def beat() -> bool:
            try:
                self.renew()
            except LeaseError:
                return False  # `check` says so to whoever does the work
            except (OSError, ArtifactError):
                pass  # storage may come back before the lease runs out
            return True

        try:
            with every(self._seconds / 4, beat, "lease"):
                yield self
        finally:
            with suppress(OSError, ArtifactError):  # it runs out by itself, and what was done stands
                self.release()

    def _outwait(self, say: Callable[[str], None]) -> None:
        """Wait until the newest lease has run out, or its holder has given a sign of life."""
        newest = max(numbers(self._folder), default=0)
        record = self._read(newest) if newest else None
        if record is None or not _is_held(record) or is_alive(record["owner"]):
            return
        who, left = record["owner"], record["expires"] - time.time()
        say(
            f"Process {who['pid']} of {who['host']} holds this table ({record['doing']}). Looking for a sign of life: "
            f"at most {left:.0f} s."
        )
        while _is_held(record) and max(numbers(self._folder)) == newest:
            time.sleep(min(1.0, self._seconds / 20))
            seen = self._read(newest)
            if seen["expires"] != record["expires"]:
                return

    def _take(self, generation: int) -> bool:
        """Create a generation as one's own; False if somebody was faster."""
        expires = time.time() + self._seconds
        if not create_json(self._path(generation), {**self._data, "expires": expires, "released": False}):
            return False
        self._generation, self._expires = generation, expires
        return True

    def _read(self, generation: int) -> dict[str, Any]:
        return read_json(self._path(generation))

    def _content(self) -> dict[str, Any]:
        return {**self._data, "expires": self._expires, "released": False}

    def _path(self, generation: int) -> Path:
        return self._folder / f"{generation:08d}.json"


def _is_held(record: dict[str, Any]) -> bool:
    """Whether it was neither given back nor ran out, and its holder is not known to be dead."""
    return not (record["released"] or record["expires"] < time.time() or is_gone(record["owner"]))


def _refuse_if_held(record: dict[str, Any]) -> None:
    if not _is_held(record):
        return
    who, left = record["owner"], record["expires"] - time.time()
    raise BusyError(
        f"Another process is refreshing this table ({record['doing']}): {who['host']}, process {who['pid']}. It is "
        f"given up for dead if it is silent for {left:.0f} s more."
    )


def owner() -> dict[str, Any]:
    """This process, named so that another one on the same machine can tell whether it still runs."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid()), **_machine()}


def is_gone(who: dict[str, Any]) -> bool:
    """Whether an owner is known to be dead: of this machine, and its process is not there any more.

    False where that cannot be known: another machine, or another container, which counts its own processes.
    """
    return _is_of_here(who) and _started(who["pid"]) != who["started"]


def is_alive(who: dict[str, Any]) -> bool:
    """Whether an owner is known to run; False where that cannot be known."""
    return _is_of_here(who) and _started(who["pid"]) == who["started"]


def _is_of_here(who: dict[str, Any]) -> bool:
    here = _machine()
    known = bool(here["boot"] and here["namespace"])
    return known and all(who.get(key) == value for key, value in here.items())


def _machine() -> dict[str, str]:
    """This start of this machine, and the space in which its process numbers mean something."""
    boot, namespace = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return {"boot": boot, "namespace": namespace}


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot, so that a reused number is not taken for it; None if gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
