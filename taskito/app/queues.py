"""What the named queues of a store can be told: pause, resume, limits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence

from taskito import config
from taskito.backends.params import Rate
from taskito.connection import Connection
from taskito.plugins.events import QueuePaused, QueueResumed
from taskito.plugins.observing import Publisher

__all__ = ["Queues"]

_PATIENCE = 2.0
"""Seconds that a pause waits for the workers to give back what has not started."""

_LOOK_AGAIN = 0.05
"""Seconds between two looks at what they still hold."""


class Queues:
    """The part of ``Queue`` that steers its named queues."""

    _connection: Connection
    _events: Publisher | None

    def pause(self, queue: str = "default") -> None:
        """Let no job of a queue start until ``resume``; what runs goes on.

        When this returns, nothing of the queue starts any more: every worker has given back what it
        had claimed and not started. A worker that does not answer within two seconds (it is
        stopped, or its machine is away) is named in a ``RuntimeWarning``.

        The pause is stored; it survives restarts and holds for every worker.

        Raises:
            CapabilityError: The backend cannot pause.
        """
        queue = config.check_name("queue", queue)
        self._connection.require("pauses", "pause()")
        backend = self._connection.backend
        backend.pause(queue)
        if self._events is not None:
            self._events.publish(QueuePaused(time.time_ns() // 1_000_000, queue))
        seen = 0
        deadline = time.monotonic() + _PATIENCE
        while workers := backend.unstarted(queue):
            if time.monotonic() > deadline:
                warnings.warn(
                    f"queue {queue!r} is paused, but {_named(workers)} may still start jobs that "
                    f"were claimed before: no answer within {_PATIENCE:g} s",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return
            seen = backend.wait(seen, _LOOK_AGAIN)

    def resume(self, queue: str = "default") -> None:
        """Undo ``pause``; resuming a queue that is not paused does nothing."""
        queue = config.check_name("queue", queue)
        self._connection.require("pauses", "resume()")
        self._connection.backend.resume(queue)
        if self._events is not None:
            self._events.publish(QueueResumed(time.time_ns() // 1_000_000, queue))

    def paused_queues(self) -> list[str]:
        """Return the names of the paused queues, sorted."""
        self._connection.require("pauses", "paused_queues()")
        return sorted(self._connection.backend.paused())

    def set_queue_rate_limit(self, queue: str, rate_limit: str | None) -> None:
        """Let jobs of a queue start at this rate at most, over all workers and tasks.

        It is stored, holds from the next claim on, and adds to the limits of the tasks. Any time
        ``t`` holds at most ``100 + 100 * t / 1 min`` starts of "100/m", and
        ``1 + 100 * t / 1 min`` of "100/m burst 1". A changed limit gives no new tokens at once.

        Args:
            queue: The name of the queue.
            rate_limit: "100/m", "10/s", "5/30s", "100/m burst 1"; None takes the limit away.

        Raises:
            ConfigurationError: The name or the rate is not allowed.
            CapabilityError: The backend has no limits.

        Example:
            >>> queue.set_queue_rate_limit("mails", "100/m")
        """
        queue = config.check_name("queue", queue)
        rate = None
        if rate_limit is not None:
            count, period_ms, burst = config.parse_rate_limit("rate_limit", rate_limit)
            rate = Rate(count=count, period_ms=period_ms, burst=burst)
        self._connection.require("limits", "set_queue_rate_limit()")
        self._connection.backend.limit_rate(queue, rate)

    def set_queue_concurrency(self, queue: str, max_concurrent: int | None) -> None:
        """Let at most so many jobs of a queue run at a time, over all workers and tasks.

        It is stored, holds from the next claim on, and adds to the limits of the tasks. What runs
        already is not stopped.

        Args:
            queue: The name of the queue.
            max_concurrent: 1 or more; None takes the limit away.

        Raises:
            ConfigurationError: The name or the number is not allowed.
            CapabilityError: The backend has no limits.

        Example:
            >>> queue.set_queue_concurrency("video", 2)
        """
        queue = config.check_name("queue", queue)
        if max_concurrent is not None:
            config.check_integer("max_concurrent", max_concurrent, minimum=1)
        self._connection.require("limits", "set_queue_concurrency()")
        self._connection.backend.limit_concurrency(queue, max_concurrent)


def _named(workers: Sequence[str]) -> str:
    return f"{'worker' if len(workers) == 1 else 'workers'} {', '.join(workers)}"
