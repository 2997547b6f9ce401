"""Cron lines: when they fire, in which time zone, and what a change of the clock does to them.

One parser serves the engine, every backend and this module. A line has five fields (minute, hour,
day of month, month, day of week) or six, with seconds first, or is one of ``@yearly``,
``@annually``, ``@monthly``, ``@weekly``, ``@daily``, ``@midnight`` and ``@hourly``. The meaning is
that of Vixie's cron, crontab(5): weekdays are 0 to 7 with 0 and 7 for Sunday, names are allowed,
and when day of month and day of week are both restricted, either is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from taskito.exceptions import ConfigurationError

__all__ = ["Schedule", "next_fires", "zone_name"]

_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Schedule:
    """When something fires: a cron line in a time zone.

    Args:
        line: The cron line.
        timezone: The name of a time zone, such as "Europe/Paris".

    Raises:
        ConfigurationError: The line or the name cannot be read, or the line never fires; names the
            field.

    Example:
        >>> Schedule("30 4 * * *").next_after(1_800_000_000_000)
        1800073800000
    """

    __slots__ = ("_native", "line", "timezone")

    def __init__(self, line: str, timezone: str = "UTC") -> None:
        # Imported here: nothing native is loaded before somebody asks about a line.
        from taskito._core import CronSchedule

        if not isinstance(line, str):
            raise ConfigurationError(f"cron: {line!r} is not allowed; give a text: '0 4 * * *'")
        self.line = line
        self.timezone = timezone
        self._native = CronSchedule(line, timezone)

    def next_after(self, after_ms: int) -> int | None:
        """Return the first fire after an instant, both in milliseconds since the Unix epoch.

        Returns:
            None if there is no fire before the year 2100.
        """
        return self._native.next_after(after_ms)

    def between(self, after_ms: int, until_ms: int) -> Iterator[int]:
        """Return the fires after ``after_ms`` and not after ``until_ms``, oldest first."""
        at_ms = self.next_after(after_ms)
        while at_ms is not None and at_ms <= until_ms:
            yield at_ms
            at_ms = self.next_after(at_ms)


def next_fires(
    line: str,
    n: int = 1,
    timezone: str | tzinfo | None = None,
    *,
    after: datetime | None = None,
) -> list[datetime]:
    """Return the next times at which a cron line fires.

    Args:
        line: Five fields, six with seconds first, or ``@daily`` and its like.
        n: How many times, 0 or more.
        timezone: The zone whose clock the line is about: a name or a ``ZoneInfo``; None means UTC.
        after: Only later times count, an aware datetime; None means now.

    Returns:
        Aware datetimes in that zone, oldest first; fewer than ``n`` if the line does not fire so
        often before the year 2100.

    Raises:
        ConfigurationError: An argument is not allowed; names it.

    Example:
        >>> from datetime import UTC, datetime
        >>> next_fires("30 2 * * *", 1, "Europe/Paris", after=datetime(2027, 3, 27, 12, tzinfo=UTC))
        [datetime.datetime(2027, 3, 28, 3, 0, tzinfo=zoneinfo.ZoneInfo(key='Europe/Paris'))]
    """
    _check_count(n)
    moment = datetime.now(UTC) if after is None else _aware(after)
    name = zone_name(timezone)
    schedule = Schedule(line, name)
    zone = ZoneInfo(name)
    fires: list[datetime] = []
    at_ms = (moment - _EPOCH) // _MILLISECOND
    while len(fires) < n:
        following = schedule.next_after(at_ms)
        if following is None:
            break
        at_ms = following
        fires.append((_EPOCH + at_ms * _MILLISECOND).astimezone(zone))
    return fires


def zone_name(timezone: str | tzinfo | None) -> str:
    """Return the name of a time zone that may be given as an object; None means UTC.

    Raises:
        ConfigurationError: It is an object without a name of the time zone database.
    """
    if timezone is None or timezone is UTC:
        return "UTC"
    name = getattr(timezone, "key", timezone)
    if not isinstance(name, str):
        raise ConfigurationError(
            f"timezone: {timezone!r} is not allowed; give the name of a zone, such as "
            f"'Europe/Paris', or a ZoneInfo"
        )
    return name


def _check_count(n: object) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or n < 0:
        raise ConfigurationError(f"n: {n!r} is not allowed; give a whole number, 0 or more")


def _aware(after: object) -> datetime:
    if not isinstance(after, datetime) or after.utcoffset() is None:
        raise ConfigurationError(f"after: {after!r} is not allowed; give an aware datetime")
    return after
