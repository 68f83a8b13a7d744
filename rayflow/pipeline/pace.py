"""How fast something gets done, and how long it will still take."""

from __future__ import annotations

import time


class Pace:
    """Counted from when the first thing that was finished had been begun.

    What comes before that, the start of an engine for instance, is no part of the pace of what follows. Where
    several things are in work at once, those that are not finished count as half done, which they are on the
    average; but never for more than what is finished, since they may be fewer than there is room for.

    Args:
        before: things that were there already.
        tokens: in these.
        abreast: things that may be in work at once.
    """

    def __init__(self, before: int = 0, tokens: int = 0, abreast: float = 0.0) -> None:
        self._before = self._done = before
        self._tokens_before = self._tokens = tokens
        self._abreast = abreast
        self._begin: float | None = None

    def note(self, done: int, tokens: int = 0, took: float = 0.0, now: float | None = None) -> None:
        """Tell how much there is by now.

        Args:
            done: things, with those of before.
            tokens: in these.
            took: seconds from the beginning of what is told first to its end. None are known: 0; then the pace is
                that of what comes after it.
            now: by `time.monotonic`.
        """
        if self._begin is None and done > self._before:
            self._begin = _now(now) - took
            if not took:
                self._before, self._tokens_before = done, tokens
        self._done, self._tokens = done, tokens

    def per_second(self, now: float | None = None) -> tuple[float, float]:
        """Things and tokens per second; 0 as long as nothing is known."""
        if self._begin is None or self._done == self._before:
            return 0.0, 0.0
        done = self._done - self._before
        seconds = max(_now(now) - self._begin, 1e-9)
        things = (done + self._in_work()) / seconds
        return things, (self._tokens - self._tokens_before) / done * things

    def left(self, total: int, now: float | None = None) -> str:
        """How long it will take until there are `total`, for a person; "" as long as nothing is known."""
        things, _ = self.per_second(now)
        if not things or self._done >= total:
            return ""
        rest = total - self._done
        rest = max(rest - self._in_work(), rest / 2)  # near the end no more is in work than is left
        return f"{clock(rest / things)} left"

    def _in_work(self) -> float:
        return min(self._abreast / 2, self._done - self._before)


def clock(seconds: float) -> str:
    """Seconds as a person says them: "42 s", "3 min 05 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _now(given: float | None) -> float:
    return time.monotonic() if given is None else given
