"""The memory stores of this process that have a name, and who has them open."""

from __future__ import annotations

import os
import threading
import time

from taskito.backends.base import BackendOptions
from taskito.backends.memory.store import Store
from taskito.exceptions import ConfigurationError

__all__ = ["SystemClock", "put_back", "take"]

_NANOSECONDS = 1_000_000
# Linux has a clock that goes on while the host is suspended; elsewhere the monotonic one has to do.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The clocks of the host."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return time.time_ns() // _NANOSECONDS

    def steady_ms(self) -> int:
        """Return milliseconds of a clock that nobody can set."""
        return time.clock_gettime_ns(_STEADY) // _NANOSECONDS


class _Entry:
    """A shared store and the number of backends that have it open."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.holders = 0


_Key = tuple[int, str, str]
_entries: dict[_Key, _Entry] = {}
_lock = threading.Lock()


def take(name: str, options: BackendOptions) -> Store:
    """Return the store of this name and namespace, a new one if nobody has it open.

    Raises:
        ConfigurationError: It is open with another clock.
    """
    if not name:
        return _new(options)
    with _lock:
        # A child of a fork shares nothing, so the names begin anew there.
        key = (os.getpid(), name, options.namespace)
        entry = _entries.get(key)
        if entry is None:
            entry = _entries[key] = _Entry(_new(options))
        elif options.clock is not None and options.clock is not entry.store.clock:
            raise ConfigurationError(
                f"clock: the memory store {name!r} is open with another clock; "
                "give all that share it the same one"
            )
        entry.holders += 1
        return entry.store


def put_back(name: str, store: Store) -> None:
    """Give a store back; it ends with its last holder."""
    if not name:
        store.close()
        return
    with _lock:
        key = (os.getpid(), name, store.namespace)
        entry = _entries.get(key)
        if entry is None or entry.store is not store:
            return
        entry.holders -= 1
        if not entry.holders:
            del _entries[key]
            store.close()


def _new(options: BackendOptions) -> Store:
    return Store(options.clock if options.clock is not None else SystemClock(), options.namespace)
