"""Something small that is done again and again, beside the work."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def every(
    seconds: float,
    act: Callable[[], object],
    name: str,
    *,
    rest: float = 0.0,
    at_end: bool = False,
    forgive: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Call `act` in a thread while the block runs, the first time after `seconds`.

    Args:
        seconds: between the end of a call and the next one.
        act: ends the calls by returning False; an exception ends them too.
        name: of the thread.
        rest: at least so many times as long as a call has taken is waited for the next one.
        at_end: call it once more when the block has ended, however it did.
        forgive: exceptions that do not end the calls in the thread, such as those of storage that comes back.
    """
    stop = threading.Event()

    def beat() -> None:
        took = 0.0
        while not stop.wait(max(seconds, rest * took)):
            begin = time.monotonic()
            with contextlib.suppress(*forgive):
                if act() is False:
                    return
            took = time.monotonic() - begin

    thread = threading.Thread(target=beat, daemon=True, name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if at_end:
            act()
