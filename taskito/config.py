"""Validation of option values, and their conversion into what crosses the seam.

Every function takes the name of the option and the value that was given. A wrong value raises
``ConfigurationError`` with the name, the value and what is allowed; nothing is corrected silently.
Seconds become whole milliseconds here and nowhere else.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from taskito.exceptions import ConfigurationError

__all__ = [
    "MAX_INTEGER",
    "MAX_KEY_BYTES",
    "MAX_NAME_LENGTH",
    "MAX_PERIOD_MS",
    "MAX_RATE",
    "MAX_SECONDS",
    "check_arguments",
    "check_boolean",
    "check_choice",
    "check_concurrency_key",
    "check_exceptions",
    "check_expiry",
    "check_instant",
    "check_integer",
    "check_job_id",
    "check_key",
    "check_keywords",
    "check_metadata",
    "check_name",
    "check_names",
    "check_percent",
    "check_priority",
    "check_rate_limit",
    "check_retry_delays",
    "check_seconds",
    "instant_to_milliseconds",
    "parse_rate_limit",
    "to_milliseconds",
]

MAX_NAME_LENGTH = 255
"""The longest name of a task, a queue, a namespace or a key, in characters."""

MAX_KEY_BYTES = 1_024
"""The longest unique or idempotency key, in bytes of UTF-8."""

MAX_SECONDS = 3_153_600_000
"""The longest duration: 100 years of 365 days."""

MAX_INTEGER = 2_147_483_647
"""The largest count."""

MAX_RATE = 1_000_000
"""The most starts in the period of a rate limit."""

MAX_PERIOD_MS = 366 * 24 * 60 * 60 * 1_000
"""The longest period of a rate limit."""

# The seam's own bounds, repeated here because this module lies below it.
_MIN_PRIORITY = -128
_MAX_PRIORITY = 127
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_EXCEPTIONS = (
    'an exception class, a name such as "requests.exceptions.ConnectionError", or a list of those'
)
_LONGEST_SHOWN = 200
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SIZE = re.compile(r"(?P<number>[0-9]{1,15})(?P<unit>[kKmMgG]?)")
_SIZE_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30}
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RATE_LIMIT = re.compile(
    r"(?P<count>[0-9]{1,9})/(?P<every>[0-9]{0,9})(?P<unit>[smhd])( burst (?P<burst>[0-9]{1,9}))?"
)


def _wrong(field: str, value: object, allowed: str) -> ConfigurationError:
    shown = repr(value)
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}..."
    return ConfigurationError(f"{field}: {shown} is not allowed; give {allowed}")


# Numbers ------------------------------------------------------------------------------------------


def check_boolean(field: str, value: object) -> bool:
    """Return ``value`` if it is True or False."""
    if not isinstance(value, bool):
        raise _wrong(field, value, "True or False")
    return value


def check_integer(field: str, value: object, minimum: int = 0, maximum: int = MAX_INTEGER) -> int:
    """Return ``value`` if it is an integer from ``minimum`` to ``maximum``; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise _wrong(field, value, f"an integer from {minimum} to {maximum}")
    return int(value)


def check_bytes(field: str, value: object) -> int:
    """Return an amount of memory in bytes, given as such or as text: "512M", "2G"; 1K is 1024."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)) is not None:
        value = int(match["number"]) << _SIZE_SHIFTS[match["unit"].upper()]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_INTEGER:
        raise _wrong(field, value, 'a number of bytes above 0, or a text such as "512M" or "2G"')
    return int(value)


def check_priority(field: str, value: object) -> int:
    """Return ``value`` if it is an integer from -128 to 127."""
    return check_integer(field, value, _MIN_PRIORITY, _MAX_PRIORITY)


def check_seconds(field: str, value: object, *, positive: bool = False) -> float:
    """Return ``value`` as a float if it is a finite number of seconds, 0 to 100 years.

    Args:
        field: The name of the option.
        value: An int or a float; a bool is no number.
        positive: Whether 0 is refused.
    """
    least = "more than 0" if positive else "0 or more"
    allowed = f"a number of seconds, {least}, at most {MAX_SECONDS}"
    if isinstance(value, timedelta):
        raise _wrong(field, value, f"{allowed} (for a timedelta: its total_seconds())")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(field, value, allowed)
    # Compared before the conversion, which fails for integers that no float can hold.
    if not 0 <= value <= MAX_SECONDS or (positive and value == 0):
        raise _wrong(field, value, allowed)
    return float(value)


def to_milliseconds(seconds: float) -> int:
    """Convert checked seconds; what is above zero stays above zero, since 0 often means "none"."""
    milliseconds = round(seconds * 1000)
    return 1 if milliseconds == 0 and seconds > 0 else milliseconds


def check_percent(field: str, value: object) -> int:
    """Return a number as whole percent, 0 to 100; what lies outside is moved to the nearest end."""
    # Only "not a number" differs from itself.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:  # noqa: PLR0124
        raise _wrong(field, value, "a number from 0 to 100")
    return int(min(max(value, 0), 100))


def check_retry_delays(field: str, value: object) -> tuple[float, ...]:
    """Return the seconds before each retry as a tuple; at least one is needed."""
    allowed = "a list of seconds, one before each retry, at least one"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise _wrong(field, value, allowed)
    delays = tuple(check_seconds(f"{field}[{index}]", item) for index, item in enumerate(value))
    if not delays:
        raise _wrong(field, value, allowed)
    return delays


# Instants -----------------------------------------------------------------------------------------


def check_instant(field: str, value: object) -> int:
    """Return an aware datetime as milliseconds since the epoch; a naive one is refused."""
    if not isinstance(value, datetime):
        raise _wrong(field, value, "an aware datetime (for seconds from now: delay=)")
    return instant_to_milliseconds(field, value)


def check_expiry(field: str, value: object) -> tuple[int | None, int | None]:
    """Return an expiry as (milliseconds from the enqueue, milliseconds since the epoch).

    One of the two is None.

    Args:
        field: The name of the option.
        value: Seconds from the enqueue, or an aware datetime.
    """
    if isinstance(value, datetime):
        return None, instant_to_milliseconds(field, value)
    return to_milliseconds(check_seconds(field, value)), None


def instant_to_milliseconds(field: str, value: datetime) -> int:
    """Return an aware datetime as milliseconds since the epoch; instants before it count as 0."""
    if value.utcoffset() is None:
        raise _wrong(
            field, value, "an aware datetime, e.g. datetime.now(UTC) or with tzinfo=ZoneInfo(...)"
        )
    return max(0, (value - _EPOCH) // _MILLISECOND)


# Texts --------------------------------------------------------------------------------------------


def check_name(field: str, value: object) -> str:
    """Return ``value`` if it is 1 to 255 characters long and free of control characters."""
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= MAX_NAME_LENGTH
        or _CONTROL.search(value)
        or _SURROGATE.search(value)
    ):
        raise _wrong(field, value, f"1 to {MAX_NAME_LENGTH} characters without control characters")
    return str(value)


def check_key(field: str, value: object) -> str:
    """Return ``value`` if it is a text of 1 to 1,024 bytes in UTF-8; any character is fine."""
    if (
        not isinstance(value, str)
        or _SURROGATE.search(value)
        or not 1 <= len(value.encode()) <= MAX_KEY_BYTES
    ):
        raise _wrong(field, value, f"a text of 1 to {MAX_KEY_BYTES} bytes in UTF-8")
    return str(value)


def check_names(field: str, value: object) -> tuple[str, ...]:
    """Return a list of at least one name as a tuple without repetitions; a single text is none."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise _wrong(field, value, "a list of names")
    names = tuple(
        dict.fromkeys(check_name(f"{field}[{index}]", item) for index, item in enumerate(value))
    )
    if not names:
        raise _wrong(field, value, "a list of at least one name, or None")
    return names


def check_choice(field: str, value: object, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``allowed``."""
    choices = tuple(allowed)
    if not isinstance(value, str) or value not in choices:
        raise _wrong(field, value, "one of " + ", ".join(repr(choice) for choice in choices))
    return str(value)


def check_job_id(field: str, value: object) -> str:
    """Return the id of a job, given as its text or as anything with an ``id`` (``JobResult``)."""
    identifier = value if isinstance(value, str) else getattr(value, "id", None)
    if not isinstance(identifier, str) or not identifier:
        raise _wrong(field, value, "the id of a job or its JobResult")
    return identifier


# Limits -------------------------------------------------------------------------------------------


def check_rate_limit(field: str, value: object) -> str:
    """Return ``value`` if it is a rate such as "100/m", "10/s", "5/30s" or "100/m burst 1"."""
    parse_rate_limit(field, value)
    return str(value)


def parse_rate_limit(field: str, value: object) -> tuple[int, int, int]:
    """Return a rate as (count, period in milliseconds, burst).

    "100/m" is 100 starts per minute with room for 100 at once, "100/m burst 1" spaces them evenly.

    Example:
        >>> parse_rate_limit("rate_limit", "5/30s")
        (5, 30000, 5)
    """
    allowed = 'a rate such as "100/m", "10/s", "3600/h", "5/30s" or "100/m burst 1"'
    match = _RATE_LIMIT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _wrong(field, value, allowed)
    count, every, burst = (
        int(match[part]) if match[part] else None for part in ("count", "every", "burst")
    )
    if 0 in (count, every, burst):
        raise _wrong(field, value, f"{allowed}; no number in it may be 0")
    count = count or 1
    period_ms = (every or 1) * _UNITS_MS[match["unit"]]
    burst = burst or count
    if max(count, burst) > MAX_RATE or period_ms > MAX_PERIOD_MS:
        raise _wrong(field, value, f"{allowed}; at most {MAX_RATE} starts, in at most 366 days")
    return count, period_ms, burst


def check_concurrency_key(field: str, value: object) -> str | Callable[..., str | None]:
    """Return ``value`` if it is a key, or a function that makes one from the task's arguments."""
    if callable(value):
        return value
    return check_key(field, value)


# Collections --------------------------------------------------------------------------------------


def check_exceptions(field: str, value: object) -> tuple[type[BaseException] | str, ...]:
    """Return an exception class, its dotted name, or a list of those, as a tuple.

    A name without a dot is one of Python's own exceptions, and becomes the class.
    """
    if isinstance(value, (type, str)):
        value = (value,)
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise _wrong(field, value, _EXCEPTIONS)
    return tuple(_check_exception(field, item) for item in value)


def _check_exception(field: str, item: object) -> type[BaseException] | str:
    if isinstance(item, str):
        parts = item.split(".")
        if len(parts) > 1 and all(part.isidentifier() or part == "<locals>" for part in parts):
            return item
        item = getattr(builtins, item, item)
    if not (isinstance(item, type) and issubclass(item, BaseException)):
        raise _wrong(field, item, _EXCEPTIONS)
    return item


def check_arguments(field: str, value: object) -> list[Any]:
    """Return positional arguments as a list; only a list or a tuple holds them."""
    if not isinstance(value, (list, tuple)):
        raise _wrong(field, value, "a list or a tuple of positional arguments")
    return list(value)


def check_keywords(field: str, value: object) -> dict[str, Any]:
    """Return keyword arguments as a new dict; None means none."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(field, value, "a dict of keyword arguments with names as keys")
    return dict(value)


def check_metadata(field: str, value: object) -> dict[str, Any]:
    """Return metadata as a new dict; its keys are texts."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(field, value, "a dict with texts as keys")
    return dict(value)
