"""Events on their way to plugins: in batches, on threads of their own, never in a job's way.

Whoever has an event puts it into one bounded buffer per plugin and goes on. A thread per plugin
takes what has gathered and calls the hook. One that raises is named in the log and counted; one
that hangs holds up nobody, and once its buffer is full, events for it are dropped and counted.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from taskito.plugins.events import Event, JobEnqueued
from taskito.plugins.manager import PluginManager, plugin_manager

__all__ = ["BUFFER_SIZE", "ObserverStatistics", "Publisher", "publisher"]

Hook: TypeAlias = Callable[[Sequence[Event]], object]

BUFFER_SIZE = 10_000
"""How many events wait for one plugin at most."""

_GATHERING = 0.05
"""Seconds for which events gather before they are delivered."""

_HANGING = 10.0
"""Seconds after which a hook that has not returned is called hanging."""

_AT_EXIT = 2.0
"""Seconds that the end of the interpreter waits for events to be delivered."""

_LOOK_AGAIN = 0.005
"""Seconds between two looks at what is still to be delivered."""

_OPEN_ENQUEUE = 10.0
"""Seconds that a delivery waits for an enqueue under way, so that it is told before the start."""

_logger = logging.getLogger("taskito.plugins")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserverStatistics:
    """How the deliveries to one plugin went.

    Attributes:
        plugin: How messages name the plugin.
        delivered: Events that its hook was given and returned from.
        failed: Calls of the hook that raised.
        dropped: Events that found the buffer full.
        hanging: Whether the hook has been in one call for longer than 10 seconds.
    """

    plugin: str
    delivered: int
    failed: int
    dropped: int
    hanging: bool


class _Observer:
    """One plugin: its buffer, its thread, its counters."""

    def __init__(self, plugin: str, hook: Hook, publisher: Publisher) -> None:
        self.plugin = plugin
        self.delivered = self.failed = self.dropped = 0
        self._hook = hook
        self._publisher = publisher
        self._buffer: deque[Event] = deque()
        self._wanted = threading.Event()
        self._busy = False
        self._since: float | None = None
        self._told_hanging = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, event: Event) -> None:
        """Take an event; never waits."""
        if len(self._buffer) >= BUFFER_SIZE:
            if not self.dropped:
                _logger.warning(
                    "%s takes events slower than they come; from now on some are dropped",
                    self.plugin,
                )
            with self._lock:
                self.dropped += 1
            self.hanging()
            return
        self._buffer.append(event)
        if not self._wanted.is_set():
            self._wanted.set()
            if self._thread is None:
                self._start()

    def hanging(self) -> bool:
        """Return whether the hook hangs, and name it in the log the first time."""
        since = self._since
        hangs = since is not None and time.monotonic() - since > _HANGING
        if hangs and not self._told_hanging:
            self._told_hanging = True
            _logger.warning(
                "taskito_on_events of the %s has not returned for %g s; jobs go on without it",
                self.plugin,
                _HANGING,
            )
        return hangs

    def flush(self, deadline: float) -> bool:
        """Wait for all that was put before; return whether it was delivered in time."""
        while self._buffer or self._busy:
            if time.monotonic() > deadline:
                self.hanging()
                return False
            time.sleep(_LOOK_AGAIN)
        return True

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name=f"taskito-events-{self.plugin}", daemon=True
                )
                self._thread.start()

    def _work(self) -> None:
        carried: list[Event] = []
        while True:
            if not carried:
                self._wanted.wait()
                time.sleep(_GATHERING)
            # Both before the buffer is emptied: what is put from now on wakes this thread again,
            # and at no moment does a batch belong to nobody.
            self._wanted.clear()
            self._busy = True
            batch, carried = self._take(carried)
            if batch:
                self._deliver(batch)
            self._busy = bool(carried)

    def _take(self, carried: list[Event]) -> tuple[list[Event], list[Event]]:
        """Return the next batch, and what is left for the one after it.

        A worker of this process may start a job before its enqueue has returned. So the enqueues
        that are under way are waited for, and theirs are told first.
        """
        batch = carried + self._drain()
        carried = []
        if self._publisher.wait_for_enqueues():
            late = self._drain()
            batch += [event for event in late if isinstance(event, JobEnqueued)]
            carried = [event for event in late if not isinstance(event, JobEnqueued)]
        # Stable: of one job, nothing but its enqueue moves.
        batch.sort(key=lambda event: not isinstance(event, JobEnqueued))
        return batch, carried

    def _drain(self) -> list[Event]:
        buffer = self._buffer
        return [buffer.popleft() for _ in range(len(buffer))]

    def _deliver(self, batch: list[Event]) -> None:
        self._since = time.monotonic()
        try:
            self._hook(tuple(batch))
        except BaseException:
            self.failed += 1
            # Each power of two: the log tells that it goes on, and is not flooded.
            if self.failed & (self.failed - 1) == 0:
                _logger.exception(
                    "taskito_on_events of the %s raised (failure %d, %d events); jobs go on",
                    self.plugin,
                    self.failed,
                    len(batch),
                )
        else:
            self.delivered += len(batch)
        finally:
            self._since = None
            self._told_hanging = False


class Publisher:
    """Hands events to the plugins that implement ``taskito_on_events``.

    Args:
        hooks: Of each plugin, how messages name it and its hook.
    """

    def __init__(self, hooks: Sequence[tuple[str, Hook]]) -> None:
        self._hooks = tuple(hooks)
        self._begin()
        _publishers.add(self)

    def publish(self, event: Event) -> None:
        """Hand an event to every plugin; never waits and never raises."""
        for observer in self._observers:
            observer.put(event)

    @contextlib.contextmanager
    def enqueue(self) -> Iterator[None]:
        """Mark an enqueue whose events are published before the block ends."""
        mark = object()
        self._enqueues.add(mark)
        try:
            yield
        finally:
            self._enqueues.discard(mark)

    def wait_for_enqueues(self) -> bool:
        """Wait until the enqueues that are under way have published; return whether any were."""
        under_way = self._enqueues.copy()
        if not under_way:
            return False
        deadline = time.monotonic() + _OPEN_ENQUEUE
        while under_way & self._enqueues.copy() and time.monotonic() < deadline:
            time.sleep(0.001)
        return True

    def flush(self, timeout: float) -> bool:
        """Wait until all events published so far are delivered; return whether they were."""
        deadline = time.monotonic() + timeout
        # Every one gets its chance, however the first ones fare.
        return not [one for one in self._observers if not one.flush(deadline)]

    def statistics(self) -> list[ObserverStatistics]:
        """Return how the deliveries to each plugin went."""
        return [
            ObserverStatistics(
                plugin=observer.plugin,
                delivered=observer.delivered,
                failed=observer.failed,
                dropped=observer.dropped,
                hanging=observer.hanging(),
            )
            for observer in self._observers
        ]

    def _begin(self) -> None:
        """Make buffers and counters; after a fork, too, where no thread is left."""
        self._enqueues: set[object] = set()
        self._observers = [_Observer(plugin, hook, self) for plugin, hook in self._hooks]


_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()
_of_managers: weakref.WeakKeyDictionary[PluginManager, Publisher | None] = (
    weakref.WeakKeyDictionary()
)


def publisher(plugins: PluginManager | None = None) -> Publisher | None:
    """Return the publisher of this process, or None if no plugin observes events."""
    manager = plugins or plugin_manager()
    if manager not in _of_managers:
        hooks = manager.observers()
        _of_managers[manager] = Publisher(hooks) if hooks else None
    return _of_managers[manager]


def _after_fork() -> None:
    for one in tuple(_publishers):
        one._begin()  # noqa: SLF001 - the hook belongs to the class


def _at_exit() -> None:
    for one in tuple(_publishers):
        one.flush(_AT_EXIT)


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
