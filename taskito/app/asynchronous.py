"""The asynchronous twins of ``Queue``'s methods.

Operations run on a few threads that one queue shares; waiting for a result, or for the end of a
worker, holds none of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from taskito.app.control import Control
from taskito.app.enqueueing import Enqueueing
from taskito.app.inspection import Inspection
from taskito.app.locking import Locking
from taskito.app.periodic import Periodic
from taskito.app.queues import Queues
from taskito.app.running import RunningWorker
from taskito.app.test_mode import TestMode
from taskito.app.workflows import Workflows

if TYPE_CHECKING:
    from taskito.app.embedded import EmbeddedWorker
    from taskito.app.running import Monitor

__all__ = ["Asynchronous"]

P = ParamSpec("P")
R = TypeVar("R")


def _twin(
    method: Callable[Concatenate[Any, P], R],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """Make the coroutine method that does what ``method`` does on one of the shared threads."""

    @functools.wraps(method, assigned=("__annotations__",))
    async def twin(self: Asynchronous, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._connection.run(functools.partial(method, self, *args, **kwargs))

    twin.__name__ = f"a{method.__name__}"
    twin.__qualname__ = f"Asynchronous.{twin.__name__}"
    twin.__doc__ = f"Do what ``{method.__name__}`` does without blocking the event loop."
    return twin


class Asynchronous(Workflows, Periodic, Inspection, Control, Queues, Locking, TestMode):
    """The part of ``Queue`` for coroutines, and for applications that run their own jobs."""

    aenqueue = _twin(Enqueueing.enqueue)
    aenqueue_many = _twin(Enqueueing.enqueue_many)
    aget_job = _twin(Inspection.get_job)
    alist_jobs = _twin(Inspection.list_jobs)
    astats = _twin(Inspection.stats)
    adead_letters = _twin(Control.dead_letters)
    aretry_dead = _twin(Control.retry_dead)
    acancel_job = _twin(Control.cancel_job)
    aget_workflow = _twin(Workflows.get_workflow)

    async def arun_worker(
        self,
        queues: Iterable[str] | None = None,
        *,
        pool: str = "thread",
        concurrency: int | None = None,
        async_concurrency: int | None = None,
        drain_timeout: float | None = None,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | str | None = None,
        preload: bool = False,
        monitor: Monitor | None = None,
    ) -> None:
        """Run a worker until ``shutdown`` is called or this coroutine is cancelled.

        The worker has threads of its own; the event loop only waits for its end. A cancellation
        stops it gracefully: running attempts get ``drain_timeout`` to end.

        Args:
            queues: As in ``run_worker``.
            pool: As in ``run_worker``.
            concurrency: As in ``run_worker``.
            async_concurrency: As in ``run_worker``.
            drain_timeout: As in ``run_worker``.
            max_tasks_per_child: As in ``run_worker``.
            max_memory_per_child: As in ``run_worker``.
            preload: As in ``run_worker``.
            monitor: As in ``run_worker``; called in the worker's thread, as its listeners are.

        Raises:
            WorkerError: The worker had to stop; the message says why.
        """
        running = await self._connection.run(
            self._make_worker,
            queues,
            pool=pool,
            concurrency=concurrency,
            async_concurrency=async_concurrency,
            drain_timeout=drain_timeout,
            max_tasks_per_child=max_tasks_per_child,
            max_memory_per_child=max_memory_per_child,
            preload=preload,
        )
        await _embedded(running, monitor).serve()

    def worker(
        self,
        queues: Iterable[str] | None = None,
        *,
        pool: str = "thread",
        concurrency: int | None = None,
        async_concurrency: int | None = None,
        drain_timeout: float | None = None,
    ) -> EmbeddedWorker:
        """Return a worker for this process that runs during a ``with`` or ``async with`` block.

        Meant for web applications that run their own jobs: the block is the application's life. The
        worker has threads of its own and leaves signals to the application. The end of the block
        stops it gracefully: running attempts get ``drain_timeout`` to end.

        Args:
            queues: As in ``run_worker``.
            pool: As in ``run_worker``.
            concurrency: As in ``run_worker``.
            async_concurrency: As in ``run_worker``.
            drain_timeout: As in ``run_worker``.

        Raises:
            ConfigurationError: An argument is not allowed.
            WorkerError: At the end of the block: the worker had to stop; the message says why.
            StorageError: At the beginning of the block: the store could not be used.

        Example:
            >>> async def lifespan(app):
            ...     async with queue.worker():
            ...         yield
        """
        running = self._make_worker(
            queues,
            pool=pool,
            concurrency=concurrency,
            async_concurrency=async_concurrency,
            drain_timeout=drain_timeout,
            handle_signals=False,
        )
        return _embedded(running)


def _embedded(running: RunningWorker, monitor: Monitor | None = None) -> EmbeddedWorker:
    # Imported late, since it needs asyncio, which takes longer to load than all of taskito.
    from taskito.app.embedded import EmbeddedWorker

    return EmbeddedWorker(running, monitor)
