"""The stall watch: ends a run in which nothing is finished any more, and writes down what it looked like.

A lost machine can leave Ray waiting for resources that will not come back. Nobody sees that at night, so a
step that finishes nothing for `compute.stall_minutes` is ended with an error that says so; what was finished
is kept, and running again goes on.
"""

from __future__ import annotations

import contextlib
import faulthandler
import threading
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path

import ray

from rayflow.core.signals import interrupt_main_thread
from rayflow.errors import ArtifactError, StageError
from rayflow.pipeline.stage import ShardWorker

_POLL_S = 30.0
_ASK_RAY_S = 20.0


@contextlib.contextmanager
def stall_watch(
    minutes: float, progress: Callable[[], Hashable], state: Callable[[], str], logs: Path
) -> Iterator[None]:
    """End the block when it makes no progress.

    Args:
        minutes: without progress, after which it is ended; 0 never ends it.
        progress: changes whenever something was finished.
        state: what is being done, in a first line for the error, and how far it is, for the file.
        logs: folder for the state that is written down.

    Raises:
        StageError: nothing was finished for so long; it names the file with the state.
    """
    stop = threading.Event()
    stalled: list[tuple[str, str]] = []

    def end() -> None:
        stalled.append(_state_of(state, minutes, logs))
        if not stop.is_set() and not interrupt_main_thread():
            warnings.warn(
                f"{_said(stalled[0], minutes)} It cannot be ended from here: end it by hand.", stacklevel=2
            )

    thread = threading.Thread(
        target=_watch, args=(minutes, progress, stop, end), daemon=True, name="stall-watch"
    )
    if minutes:
        thread.start()
    try:
        yield
    except KeyboardInterrupt as error:
        if not stalled:
            raise
        raise StageError(
            f"{_said(stalled[0], minutes)} So the run was ended. Often a machine is lost and its "
            "workers fit on no other: finished shards are kept, run again when there is room. If one shard takes "
            "longer than that, lower compute.shard_size (in a new run) or raise compute.stall_minutes."
        ) from error
    finally:
        stop.set()


def _state_of(state: Callable[[], str], minutes: float, logs: Path) -> tuple[str, str]:
    """The first line of what is being done, and where the rest is; the run is ended, whatever cannot be written."""
    try:
        what = state()
        return what.splitlines()[0], f"is in {_write_state(what, minutes, logs)}"
    except (OSError, ArtifactError) as error:
        return "the run", f"could not be written down ({error})"


def _watch(
    minutes: float, progress: Callable[[], Hashable], stop: threading.Event, end: Callable[[], None]
) -> None:
    """Call `end` once nothing has changed for so long."""
    seen: Hashable = None
    since = time.monotonic()
    while not stop.wait(min(_POLL_S, 60 * minutes / 4)):
        now = seen
        # Storage that does not answer has made no progress either.
        with contextlib.suppress(OSError, ArtifactError):
            now = progress()
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > 60 * minutes:
            end()
            return


def _said(stalled: tuple[str, str], minutes: float) -> str:
    what, told = stalled
    return f"{what}: nothing was finished for {minutes:g} minutes. What Ray had, and what it still had to do, {told}."


def shards_done(workers: Sequence[ShardWorker]) -> int:
    """Committed shards of all stages of a stream."""
    return sum(len(worker.target.shards.committed()) for worker in workers)


def stream_state(workers: Sequence[ShardWorker]) -> str:
    """A heading, and a line for every stage: how far it is and what it asks for."""
    lines = [", ".join(worker.stage.name for worker in workers)]
    for worker in workers:
        pool, pending = worker.stage.pool, worker.target.pending_shards()
        held = f"{pool.num_workers} workers" if worker.stage.actor else "tasks"
        lines.append(
            f"  {worker.stage.name}: {len(pending)} of {worker.target.num_shards} shards pending "
            f"{pending[:20]}; {held} of {pool.num_cpus:g} CPU and {pool.num_gpus:g} GPU each"
        )
    return "\n".join(lines)


def _write_state(what: str, minutes: float, logs: Path) -> Path:
    """A file with all that is known.

    First what cannot hang, then what Ray says, if it answers.
    """
    path = logs / f"stall-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"Nothing was finished for {minutes:g} minutes.\n\n{what}\n\nThreads of this process:\n")
        file.flush()
        faulthandler.dump_traceback(file)
    asking = threading.Thread(target=_append_ray_state, args=(path,), daemon=True)
    asking.start()
    asking.join(_ASK_RAY_S)
    return path


def _append_ray_state(path: Path) -> None:
    with open(path, "a", encoding="utf-8") as file:
        try:
            file.write(f"\nResources of the cluster: {ray.cluster_resources()}\n")
            file.write(f"Not in use: {ray.available_resources()}\n")
            for node in ray.nodes():
                alive = "alive" if node["Alive"] else "DEAD"
                file.write(
                    f"Node {node['NodeID'][:12]} {node['NodeManagerAddress']} {alive} {node['Resources']}\n"
                )
        except (ray.exceptions.RayError, RuntimeError, ConnectionError) as error:
            file.write(f"\nRay does not answer: {error}\n")
