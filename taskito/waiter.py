"""One waiter per process and backend, on behalf of everybody who waits for a result.

A daemon thread asks the backend about all awaited jobs at once, waits for the next change, and asks
again. It starts when somebody waits and ends when nobody has for a while. Callers in plain threads
wait for an event, those in coroutines for a future, so that waiting never holds a thread of a pool.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from taskito.backends.base import Backend
from taskito.backends.params import FINAL_STATES, JobRecord
from taskito.exceptions import QueueClosedError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

__all__ = ["NotFinalError", "Waiter"]

_SIGNAL_SLICE = 0.1
"""Seconds after which a waiting thread looks for signals (Ctrl-C)."""

_LINGER = 1.0
"""Seconds for which the thread stays although nobody waits."""

_LONGEST_PAUSE = 0.05
"""Seconds at most between two questions while many changes concern none of the awaited jobs."""

_LONGEST_WAIT = 0.25
"""Seconds at most in one call of the backend: the end of the process waits no longer than that."""

_IDS_AT_ONCE = 500
_JOIN_TIMEOUT = 2.0


class NotFinalError(Exception):
    """The time is over and the job has not ended; callers see a ``ResultTimeoutError``."""


class _Waiting:
    """One caller who waits for one job. ``record`` or ``error`` is set once, before the wake-up."""

    __slots__ = ("done", "error", "job_id", "longest_poll", "record", "shortest_poll")

    def __init__(self, job_id: str, shortest_poll: float, longest_poll: float) -> None:
        self.job_id = job_id
        self.shortest_poll = shortest_poll
        self.longest_poll = longest_poll
        self.done = False
        self.record: JobRecord | None = None
        self.error: BaseException | None = None

    def answer(self) -> JobRecord | None:
        """Return the record that came, or raise what went wrong."""
        if self.error is not None:
            raise self.error
        return self.record


class _WaitingThread(_Waiting):
    __slots__ = ("event",)

    def __init__(self, job_id: str, shortest_poll: float, longest_poll: float) -> None:
        super().__init__(job_id, shortest_poll, longest_poll)
        self.event = threading.Event()


class _WaitingCoroutine(_Waiting):
    """``looked`` ends with the first look at the job, ``answered`` with its end."""

    __slots__ = ("answered", "looked", "loop")

    def __init__(
        self, job_id: str, shortest_poll: float, longest_poll: float, loop: AbstractEventLoop
    ) -> None:
        super().__init__(job_id, shortest_poll, longest_poll)
        self.loop = loop
        self.looked: Future[None] = loop.create_future()
        self.answered: Future[None] = loop.create_future()


class Waiter:
    """Waits for the end of jobs.

    Args:
        backend: Open.
        submit: Runs a function on a thread that may block for the time of one operation.
    """

    def __init__(self, backend: Backend, submit: Callable[[Callable[[], None]], None]) -> None:
        self._backend = backend
        self._submit = submit
        self._pid = os.getpid()
        # Reentrant: a signal handler may interrupt a waiting thread here and use the queue itself.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: dict[_Waiting, None] = {}
        self._unchecked: list[_WaitingCoroutine] = []
        self._thread: threading.Thread | None = None
        self._arrivals = 0
        self._closed = False
        _open_waiters.add(self)

    def wait(
        self, job_id: str, timeout: float | None, shortest_poll: float, longest_poll: float
    ) -> JobRecord | None:
        """Block until a job is final.

        Args:
            job_id: The job.
            timeout: Seconds; None waits for ever, 0 only looks.
            shortest_poll: Seconds until the backend is asked again without a hint, at first.
            longest_poll: The same later on; it doubles in between.

        Returns:
            The final record; None if there is no such job (any more).

        Raises:
            NotFinalError: It has not ended in time.
            StorageError: The store could not be read.
            QueueClosedError: The queue was closed meanwhile.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        waiting = _WaitingThread(job_id, shortest_poll, longest_poll)
        self._add(waiting)
        try:
            # After the registration: what ends later than this look is seen by the thread.
            self._look([waiting])
            while not waiting.event.is_set():
                left = _SIGNAL_SLICE if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise NotFinalError
                waiting.event.wait(min(left, _SIGNAL_SLICE))
            return waiting.answer()
        finally:
            self._remove(waiting)

    async def wait_async(
        self, job_id: str, timeout: float | None, shortest_poll: float, longest_poll: float
    ) -> JobRecord | None:
        """Do what ``wait`` does, in a coroutine and without holding a thread."""
        import asyncio

        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        waiting = _WaitingCoroutine(job_id, shortest_poll, longest_poll, loop)
        self._add(waiting)
        try:
            self._look_soon(waiting)
            await waiting.looked
            if not waiting.done:
                async with asyncio.timeout_at(deadline):
                    await waiting.answered
        except TimeoutError:
            raise NotFinalError from None
        finally:
            self._remove(waiting)
        return waiting.answer()

    def close(self) -> None:
        """Stop the thread and tell everybody who still waits that the queue is closed."""
        self._stop()
        with self._changed:
            waiting = list(self._waiting)
        error = QueueClosedError("the queue was closed while a result was awaited")
        self._deliver((one, None, error) for one in waiting)

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_TIMEOUT)

    def _stop_at_exit(self) -> None:
        # Whoever waits in a daemon thread is not told: it would only print a traceback. A child
        # after a fork has no such thread, and the lock may be held for ever.
        if self._pid == os.getpid():
            self._stop()

    # Who waits ------------------------------------------------------------------------------------

    def _add(self, waiting: _Waiting) -> None:
        with self._changed:
            if self._closed:
                raise QueueClosedError("this queue is closed; create a new Queue")
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="taskito-waiter", daemon=True)
                thread.start()
                self._thread = thread
            self._waiting[waiting] = None
            self._arrivals += 1
            self._changed.notify_all()

    def _remove(self, waiting: _Waiting) -> None:
        with self._changed:
            self._waiting.pop(waiting, None)

    def _deliver(
        self, answers: Iterable[tuple[_Waiting, JobRecord | None, BaseException | None]]
    ) -> int:
        """Wake those who have an answer now; one call per event loop, however many it concerns."""
        futures: dict[AbstractEventLoop, list[Future[None]]] = {}
        count = 0
        for waiting, record, error in answers:
            with self._changed:
                if waiting.done:
                    continue
                waiting.record, waiting.error, waiting.done = record, error, True
                self._waiting.pop(waiting, None)
            count += 1
            if isinstance(waiting, _WaitingThread):
                waiting.event.set()
            elif isinstance(waiting, _WaitingCoroutine):
                futures.setdefault(waiting.loop, []).append(waiting.answered)
        _resolve_each(futures)
        return count

    # Looking --------------------------------------------------------------------------------------

    def _look(self, waiting: list[Any]) -> int:
        """Ask about these jobs and wake those who have their answer; return how many."""
        ids = list(dict.fromkeys(one.job_id for one in waiting))
        answered = 0
        for start in range(0, len(ids), _IDS_AT_ONCE):
            part = ids[start : start + _IDS_AT_ONCE]
            error: BaseException | None = None
            records: dict[str, JobRecord | None] = {}
            try:
                records = dict(zip(part, self._backend.get(part), strict=True))
            except Exception as failure:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                error = failure
                records = dict.fromkeys(part)
            answered += self._deliver(
                (one, records[one.job_id], error)
                for one in waiting
                if one.job_id in records and _is_answer(records[one.job_id])
            )
        return answered

    def _look_soon(self, waiting: _WaitingCoroutine) -> None:
        """Have another thread look at the job, together with others if there are any."""
        with self._changed:
            self._unchecked.append(waiting)
            first = len(self._unchecked) == 1
        if first:
            self._submit(self._look_at_unchecked)

    def _look_at_unchecked(self) -> None:
        with self._changed:
            unchecked, self._unchecked = self._unchecked, []
        self._look(unchecked)
        futures: dict[AbstractEventLoop, list[Future[None]]] = {}
        for waiting in unchecked:
            futures.setdefault(waiting.loop, []).append(waiting.looked)
        _resolve_each(futures)

    # The thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        since, arrivals, poll = 0, 0, 0.0
        while (waiting := self._everybody()) is not None:
            # After the change number was read, so that no change falls between it and this look.
            started = time.monotonic()
            answered = self._look(waiting)
            taken = time.monotonic() - started
            if self._arrivals != arrivals:
                arrivals = self._arrivals
                poll = min(one.shortest_poll for one in waiting)
            try:
                number = self._backend.wait(since, min(poll, _LONGEST_WAIT))
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                self._deliver([(one, None, error) for one in waiting])
                continue
            if number != since and not answered:
                # Other jobs keep the store busy: spend at most half of the time on looking.
                self._rest(min(taken, _LONGEST_PAUSE))
            elif number == since:
                poll = min(2 * poll, *(one.longest_poll for one in waiting))
            since = number

    def _rest(self, seconds: float) -> None:
        with self._changed:
            if not self._closed:
                self._changed.wait(seconds)

    def _everybody(self) -> list[_Waiting] | None:
        """Return who waits; None when the thread has to end, since nobody has for a while."""
        with self._changed:
            if not self._waiting and not self._closed:
                self._changed.wait(_LINGER)
            if self._waiting and not self._closed:
                return list(self._waiting)
            self._thread = None
            return None


def _is_answer(record: JobRecord | None) -> bool:
    return record is None or record.state in FINAL_STATES


def _resolve_each(futures: dict[AbstractEventLoop, list[Future[None]]]) -> None:
    for loop, batch in futures.items():
        # A loop that is closed has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, batch)


def _resolve(futures: list[Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


_open_waiters: weakref.WeakSet[Waiter] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for waiter in list(_open_waiters):
        waiter._stop_at_exit()  # noqa: SLF001 - the same subject
