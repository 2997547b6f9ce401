"""A worker inside an application: it runs in a thread of its own while something else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Self

from taskito.app.running import RunningWorker

if TYPE_CHECKING:
    from taskito.app.running import Monitor
    from taskito.worker import ScheduledWorker, Worker
    from taskito.worker.state import WorkerState

__all__ = ["EmbeddedWorker"]


class EmbeddedWorker:
    """A context in which a worker runs; made by ``Queue.worker``. Used once.

    ``with`` and ``async with`` do the same; the second does not block the event loop, neither at
    the beginning nor while the worker drains at the end.

    Example:
        >>> async with queue.worker(concurrency=2):
        ...     await serve_requests()
    """

    def __init__(self, running: RunningWorker, monitor: Monitor | None = None) -> None:
        self._running = running
        self._monitor = monitor
        self._started: Future[None] = _promise()
        self._ended: Future[None] = _promise()

    def __enter__(self) -> Self:
        """Start the worker; returns once it claims jobs."""
        self._start()
        self._started.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the worker gracefully and wait for its end.

        Raises:
            WorkerError: The worker had to stop; not raised in place of an error of the block.
        """
        self._running.worker.stop()
        with contextlib.suppress(Exception) if error else contextlib.nullcontext():
            self._ended.result()

    async def __aenter__(self) -> Self:
        """Start the worker; returns once it claims jobs."""
        self._start()
        await _wait(self._started)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the worker gracefully and wait for its end; raises as ``__exit__`` does."""
        self._running.worker.stop()
        with contextlib.suppress(Exception) if error else contextlib.nullcontext():
            await _wait(self._ended)

    async def serve(self) -> None:
        """Run the worker to its end; a cancellation stops it gracefully."""
        self._start()
        try:
            await _wait(self._ended)
        except asyncio.CancelledError:
            self._running.worker.stop()
            await _wait(self._ended)
            raise

    def _start(self) -> None:
        threading.Thread(target=self._run, name="taskito-worker", daemon=True).start()

    def _run(self) -> None:
        try:
            self._running.run(self._watch)
        except BaseException as error:  # noqa: BLE001 - handed over to whoever waits
            if not self._started.done():
                self._started.set_exception(error)
            self._ended.set_exception(error)
        else:
            if not self._started.done():
                self._started.set_result(None)
            self._ended.set_result(None)

    def _watch(self, worker: Worker | ScheduledWorker) -> None:
        if self._monitor is not None:
            self._monitor(worker)
        worker.watch_state(self._seen)

    def _seen(self, state: WorkerState) -> None:
        if state.ready and not self._started.done():
            self._started.set_result(None)


def _promise() -> Future[None]:
    future: Future[None] = Future()
    # Nobody can cancel it from now on: its value comes in any case.
    future.set_running_or_notify_cancel()
    return future


async def _wait(promise: Future[None]) -> None:
    """Wait for a promise that another thread keeps; a cancellation ends the waiting only."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def tell(_promise: Future[None]) -> None:
        # The loop may have been closed by somebody who did not want to know.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    promise.add_done_callback(tell)
    await done.wait()
    promise.result()
