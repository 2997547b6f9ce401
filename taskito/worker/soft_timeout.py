"""``SoftTimeoutError`` in a task whose ``soft_timeout`` is over: in a thread, or in a coroutine."""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import threading
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from taskito.exceptions import SoftTimeoutError

__all__ = ["SoftTimeouts", "with_soft_timeout"]

R = TypeVar("R")

_SWEEP_AT_LEAST = 64


class SoftTimeouts:
    """Interrupts calls in the threads that make them. One helper thread, started at the first call.

    The interpreter raises the exception between two of its own instructions: code written in C,
    such as ``time.sleep``, returns first.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pending: list[tuple[float, int, _Interruption]] = []
        self._numbers = itertools.count()
        self._sweep_at = _SWEEP_AT_LEAST
        self._thread: threading.Thread | None = None

    def call(self, seconds: float, function: Callable[[], R]) -> R:
        """Call ``function``; ``SoftTimeoutError`` is raised in it once ``seconds`` are over.

        Args:
            seconds: Counted from now.
            function: Runs in the calling thread.

        Raises:
            SoftTimeoutError: The function let it pass; or it ended at that very moment.
        """
        interruption = _Interruption(threading.get_ident())
        self._watch(time.monotonic() + seconds, interruption)
        try:
            return function()
        finally:
            interruption.withdraw()

    def _watch(self, deadline: float, interruption: _Interruption) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="taskito-soft-timeouts", daemon=True
                )
                self._thread.start()
            if len(self._pending) >= self._sweep_at:
                self._sweep()
            entry = (deadline, next(self._numbers), interruption)
            heapq.heappush(self._pending, entry)
            if self._pending[0] is entry:
                self._changed.notify()

    def _sweep(self) -> None:
        """Forget the calls that have ended, so that they do not pile up until their deadlines."""
        self._pending = [entry for entry in self._pending if not entry[2].is_over()]
        heapq.heapify(self._pending)
        self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self._pending))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._pending or self._pending[0][0] > time.monotonic():
                    left = self._pending[0][0] - time.monotonic() if self._pending else None
                    self._changed.wait(left)
                _, _, interruption = heapq.heappop(self._pending)
            interruption.strike()


class _Interruption:
    """At most one exception for one call in one thread, and none after the call.

    A pending exception must not be taken back: CPython 3.11 then goes on believing that there is
    one. So the end of the call and the helper decide by a lock who came first, and a call that came
    second receives the exception before it ends.
    """

    __slots__ = ("_claim", "_posted", "_thread")

    def __init__(self, thread: int) -> None:
        self._thread = thread
        # Held by whoever came first.
        self._claim = threading.Lock()
        # Free once the exception is on its way.
        self._posted = threading.Lock()
        self._posted.acquire()

    def is_over(self) -> bool:
        """Whether the call has ended, or the exception is on its way."""
        return self._claim.locked()

    def strike(self) -> None:
        """Raise the exception in the thread, if its call has not ended."""
        if self._claim.acquire(blocking=False):
            try:
                _raise_in(self._thread)
            finally:
                self._posted.release()

    def withdraw(self) -> None:
        """End the call: the exception has been raised when this returns, or never will be."""
        if self._claim.acquire(blocking=False):
            return
        try:
            self._posted.acquire()
            # The interpreter looks for a pending exception at every jump back.
            for _ in range(8):
                pass
        except SoftTimeoutError:
            # The function has ended in time, if only just.
            return


def _raise_in(thread: int) -> None:
    import ctypes

    # https://docs.python.org/3/c-api/init.html#c.PyThreadState_SetAsyncExc
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(SoftTimeoutError)
    )


async def with_soft_timeout(seconds: float, coroutine: Coroutine[Any, Any, R]) -> R:
    """Await ``coroutine``; ``SoftTimeoutError`` is raised where it waits once ``seconds`` are over.

    Unlike with ``asyncio.timeout``, the coroutine itself sees that exception, so that it can clean
    up and return.

    Args:
        seconds: Counted from now.
        coroutine: Not yet started.

    Raises:
        SoftTimeoutError: The coroutine let it pass.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("with_soft_timeout() has to be awaited in a task of asyncio")
    interrupt = _CoroutineInterrupt(task)
    timer = loop.call_later(seconds, interrupt.strike)
    try:
        return await interrupt.steps(coroutine)
    finally:
        timer.cancel()


class _CoroutineInterrupt:
    """Turns the cancellation that it has asked for into ``SoftTimeoutError``."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._struck = False

    def strike(self) -> None:
        self._struck = True
        self._task.cancel()

    def _takes(self) -> bool:
        """Whether a cancellation that arrives now is ours, and ours alone."""
        if not self._struck:
            return False
        self._struck = False
        return self._task.uncancel() == 0

    @types.coroutine
    def steps(self, coroutine: Coroutine[Any, Any, R]) -> Generator[Any, Any, R]:
        """Run the coroutine step by step, in place of ``await``."""
        step: Callable[[], Any] = functools.partial(coroutine.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration as end:
                result: R = end.value
                return result
            try:
                step = functools.partial(coroutine.send, (yield awaited))
            except asyncio.CancelledError as cancelled:
                error: BaseException = SoftTimeoutError() if self._takes() else cancelled
                step = functools.partial(coroutine.throw, error)
            except BaseException as error:  # noqa: BLE001 - as `await` does
                step = functools.partial(coroutine.throw, error)
