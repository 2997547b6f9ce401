"""Test mode: what is enqueued runs at once, in this process, and the real store is not touched.

Inside, the queue stands on a private store in memory that runs what it is given. So retries,
dependencies, unique keys and the rest follow the rules that they follow everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taskito.app.running import Running
from taskito.connection import Connection
from taskito.result import JobResult
from taskito.task import Task

__all__ = ["Recorded", "TestMode"]


class Recorded:
    """What was enqueued inside a block of ``Queue.test_mode``.

    Attributes:
        jobs: All of it, in the order of enqueueing, also what tasks enqueued. A call that met its
            own unique key is no new job.
    """

    def __init__(self) -> None:
        self.jobs: list[JobResult[Any]] = []
        self._tasks: list[str] = []

    def add(self, job: JobResult[Any], task_name: str) -> None:
        """Record a job; test mode does it."""
        self.jobs.append(job)
        self._tasks.append(task_name)

    def calls(self, task_name: str | Task[..., Any]) -> list[JobResult[Any]]:
        """Return the jobs of one task."""
        name = task_name.name if isinstance(task_name, Task) else task_name
        recorded = zip(self.jobs, self._tasks, strict=True)
        return [job for job, task in recorded if task == name]

    def __len__(self) -> int:
        """Return how many jobs were enqueued."""
        return len(self.jobs)

    def __iter__(self) -> Iterator[JobResult[Any]]:
        """Go through the jobs in the order of enqueueing."""
        return iter(self.jobs)


class TestMode(Running):
    """The part of ``Queue`` for tests of what uses it."""

    __test__ = False  # Not a class of tests, whatever its name.

    _connection: Connection

    @contextmanager
    def test_mode(self) -> Iterator[Recorded]:
        """Run tasks at once, where they are enqueued, and record them; the store stays untouched.

        ``delay`` and all others return when the job has ended, with a ``JobResult`` as always. An
        exception of a task does not reach the caller of ``delay``: it is in the job, and
        ``result()`` raises what it raises elsewhere. ``delay=``, retries and ``Snooze`` are not
        waited for: time jumps. Jobs of remote tasks stay pending, and so do those of paused queues.
        Middleware and hooks are called.

        It holds for the whole queue, in all threads, until the block is left. Blocks nest; the
        inner one begins without jobs, and the outer one goes on afterwards. Jobs made outside are
        not seen inside. Not for use while a worker of this queue runs in the same process.

        Yields:
            What was enqueued.

        Raises:
            TaskitoError: From ``delay``: a task leads to itself without end.

        Example:
            >>> with queue.test_mode() as recorded:
            ...     order_shirt(size="M")
            >>> [job] = recorded.calls(send_invoice)
            >>> job.status
            'complete'
        """
        from taskito.app.inline_backend import InlineBackend

        recorded = Recorded()
        outer = self._connection
        backend = InlineBackend(self, recorded)
        self._connection = backend.connection = Connection(
            lambda: backend, outer.codec, shared=False, owned=True, description="test mode"
        )
        try:
            yield recorded
        finally:
            # The inner store stays open: what was recorded can still be asked for its result.
            self._connection = outer
