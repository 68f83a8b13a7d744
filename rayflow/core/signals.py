"""SIGTERM as an orderly end: what Kubernetes, Slurm, systemd and `ray job stop` send first.

By default it ends a Python process on the spot, with no `finally`: Ray's processes would be left to find out
for themselves.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes by custom: 128 and the number of SIGINT, of SIGTERM."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. A kind of KeyboardInterrupt, which every library lets pass and cleans up after."""


_arrived = threading.Event()
"""SIGTERM has arrived. Ray's core, where it waits, makes a plain KeyboardInterrupt of whatever a handler raises."""


def exit_code(stop: KeyboardInterrupt) -> int:
    """What the process says to who started it."""
    return TERMINATED if isinstance(stop, Terminated) or _arrived.is_set() else INTERRUPTED


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """While the block runs, SIGTERM raises `Terminated` in the main thread."""
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    _arrived.clear()
    raise_when_terminated()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def raise_when_terminated() -> None:
    """Set the handler, again where a library has put its own in its place."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)


def interrupt_main_thread() -> bool:
    """Raise `Terminated` in the main thread, also where it waits; False where no signal would.

    A real signal, because `_thread.interrupt_main` would not wake a thread that waits. Where a library has put a
    handler of its own in place of ours, it is Ctrl-C's, a plain KeyboardInterrupt.
    """
    raising = {signal.SIGTERM: _raise, signal.SIGINT: signal.default_int_handler}
    for number, handler in raising.items():
        if signal.getsignal(number) is handler:
            signal.pthread_kill(threading.main_thread().ident or 0, number)
            return True
    return False


def _raise(number: int, frame: FrameType | None) -> None:
    _arrived.set()
    raise Terminated
