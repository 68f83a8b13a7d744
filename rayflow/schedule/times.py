"""When a schedule's times are: a cron expression in a time zone, in; instants in UTC, out.

At a change of the clocks the rules are those of Debian's cron, which `cronsim` implements. A fixed time of
day that the clock skips comes at the end of the gap; one that the clock shows twice comes the first time only.
An expression whose minute or hour begins with `*` goes by elapsed time: nothing in the gap, both passes of the
repeated hour.
"""

from __future__ import annotations

import difflib
import zoneinfo
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from rayflow.errors import ConfigError

_WINDOWS = (timedelta(days=1), timedelta(days=40), timedelta(days=400), timedelta(days=3000))
"""Where the latest time is looked for first: a clock that jumps by decades must not be walked minute by minute."""


class Times:
    """The times of one schedule.

    Args:
        cron: five fields: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday).
        timezone: an IANA name, such as Europe/Berlin.

    Raises:
        ConfigError: the expression or the zone is none, or no such time ever comes.
    """

    def __init__(self, cron: str, timezone: str) -> None:
        self.cron = " ".join(cron.split())
        self.zone = _zone(timezone)
        self._check()

    def after(self, instant: datetime) -> datetime:
        """The first time later than an instant; both UTC."""
        for local in CronSim(self.cron, instant.astimezone(self.zone)):
            # Seen from the second pass of a repeated hour, the library's next may be of the first pass; and all
            # times inside a gap are one instant.
            if (found := local.astimezone(UTC)) > instant:
                return found
        raise ConfigError(f"The cron expression '{self.cron}' has no time after {instant:%Y-%m-%d}.")

    def between(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """The times later than `since`, up to and including `until`; UTC, ascending."""
        time = self.after(since)
        while time <= until:
            yield time
            time = self.after(time)

    def latest(self, since: datetime, until: datetime) -> datetime | None:
        """The last time later than `since`, up to and including `until`; None if there is none."""
        for window in (*_WINDOWS, until - since):
            last = deque(self.between(max(since, until - window), until), maxlen=1)
            found = last[0] if last else None
            if found or until - window <= since:
                return found
        return None

    def latest_day(self, now: datetime) -> str:
        """The zone's day of the last time up to now, ISO.

        Raises:
            ConfigError: there was none for many years.
        """
        found = self.latest(now - _WINDOWS[-1], now)
        if found is None:
            raise ConfigError(f"The cron expression '{self.cron}' has had no time before {now:%Y-%m-%d}.")
        return self.date(found)

    def local(self, instant: datetime) -> datetime:
        """An instant as the zone's clocks show it."""
        return instant.astimezone(self.zone)

    def date(self, instant: datetime) -> str:
        """The zone's day at an instant, ISO."""
        return self.local(instant).date().isoformat()

    def several_a_day(self, now: datetime) -> bool:
        """Whether two of the next times are of one day."""
        time, seen = now, set()
        for _ in range(50):
            time = self.after(time)
            if (day := self.date(time)) in seen:
                return True
            seen.add(day)
        return False

    def _check(self) -> None:
        if len(self.cron.split()) != 5:
            raise ConfigError(
                f"The cron expression '{self.cron}' must have five fields: minute, hour, day of the month, month, "
                "day of the week. Every night at two is '0 2 * * *'."
            )
        try:
            self.after(datetime(2026, 1, 1, tzinfo=UTC))
        except (CronSimError, AssertionError, ValueError) as error:
            raise ConfigError(
                f"The cron expression '{self.cron}' cannot be used: {str(error) or 'a field is not understood'}. "
                "The fields are minute (0-59), hour (0-23), day of the month (1-31), month (1-12) and day of the week "
                "(0-7)."
            ) from None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(name, sorted(zoneinfo.available_timezones()), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else " Zones are named as Europe/Berlin or UTC are."
        raise ConfigError(f"'{name}' is no time zone of this machine.{hint}") from None
