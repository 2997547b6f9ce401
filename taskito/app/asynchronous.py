"""The asynchronous twins of ``Queue``'s methods.

Operations run on a few threads that one queue shares; waiting for a result, or for the end of a
worker, holds none of them.
"""

from __future__ import annotations

import contextlib
import functools
import threading
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
    from asyncio import Future

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
    """The part of ``Queue`` for coroutines; everything but ``arun_worker`` is a twin."""

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
        drain_timeout: float | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        """Run a worker until ``shutdown`` is called or this coroutine is cancelled.

        The worker has threads of its own; the event loop only waits for its end. A cancellation
        stops it gracefully: running attempts get ``drain_timeout`` to end.

        Args:
            queues: As in ``run_worker``.
            pool: As in ``run_worker``.
            concurrency: As in ``run_worker``.
            drain_timeout: As in ``run_worker``.
            monitor: As in ``run_worker``; called in the worker's thread, as its listeners are.

        Raises:
            WorkerError: The worker had to stop; the message says why.
        """
        import asyncio

        running = await self._connection.run(
            self._make_worker,
            queues,
            pool=pool,
            concurrency=concurrency,
            drain_timeout=drain_timeout,
        )
        loop = asyncio.get_running_loop()
        ended: Future[None] = loop.create_future()

        def tell(error: BaseException | None) -> None:
            # The loop may have been closed by somebody who did not want to know.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_end, ended, error)

        threading.Thread(
            target=_run, args=(running, monitor, tell), name="taskito-worker", daemon=True
        ).start()
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            running.worker.stop()
            await asyncio.shield(ended)
            raise


def _run(
    running: RunningWorker, monitor: Monitor | None, tell: Callable[[BaseException | None], None]
) -> None:
    try:
        running.run(monitor)
    except BaseException as error:  # noqa: BLE001 - handed over to the coroutine that waits
        tell(error)
    else:
        tell(None)


def _end(ended: Future[None], error: BaseException | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)
