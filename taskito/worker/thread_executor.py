"""Threads that take attempts from the dispatcher, one at a time each."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from taskito.worker.event_loop import ThreadLoop

if TYPE_CHECKING:
    from taskito import _core
    from taskito.worker.runner import Runner

__all__ = ["ThreadExecutor"]

_logger = logging.getLogger("taskito.worker")

_BUSY_TIMEOUT = 0.1


class _Seat:
    """What one thread is running; written by that thread only."""

    __slots__ = ("run", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.run: _core.Run | None = None


class ThreadExecutor:
    """Ordinary Python threads, so that debuggers, profilers and thread-locals work as usual.

    Args:
        dispatcher: Gives out attempts.
        runner: Runs them.
        concurrency: How many threads take attempts at a time.
        daemon: Whether the interpreter may end while the threads are busy.
    """

    def __init__(
        self, dispatcher: _core.Dispatcher, runner: Runner, concurrency: int, *, daemon: bool
    ) -> None:
        self._dispatcher = dispatcher
        self._runner = runner
        self._concurrency = concurrency
        self._daemon = daemon
        self._numbers = itertools.count()
        self._seats: dict[threading.Thread, _Seat] = {}
        self.broken: BaseException | None = None
        """What ended a thread against the rules, or None."""

    def prepare(self, give_up: Callable[[], bool]) -> None:
        """Do nothing: threads need no preparation."""

    def start(self) -> None:
        """Start the threads."""
        for _ in range(self._concurrency):
            self._add()

    def owns(self, slot: int) -> bool:
        """Whether the slot of this number is that of one of the threads."""
        return any(seat.slot == slot for seat in list(self._seats.values()))

    def cancel(self, slot: int) -> None:
        """Do nothing: a thread cannot be stopped from outside; its task may ask and stop itself."""

    def replace(self, slot: int) -> None:
        """Start one more thread, for one whose run was abandoned but goes on."""
        del slot
        self._add()

    def running(self) -> list[str]:
        """Return what runs now: the task and the job of each busy thread."""
        runs = [seat.run for thread, seat in self._seats.items() if thread.is_alive()]
        return [f"{run.task} (job {run.id})" for run in runs if run is not None]

    def join(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for all threads to end and return whether they did.

        Those that are still in a task are hardly waited for: their time is over.
        """
        start = time.monotonic()
        for thread, seat in self._seats.items():
            allowed = timeout if seat.run is None else min(timeout, _BUSY_TIMEOUT)
            thread.join(max(0.0, start + allowed - time.monotonic()))
        return not any(thread.is_alive() for thread in self._seats)

    def _add(self) -> None:
        # The threads that were replaced have ended, or will.
        for thread in [thread for thread in self._seats if not thread.is_alive()]:
            del self._seats[thread]
        slot = self._dispatcher.slot()
        seat = _Seat(slot.index)
        thread = threading.Thread(
            target=self._work,
            args=(slot, seat),
            name=f"taskito-{next(self._numbers)}",
            daemon=self._daemon,
        )
        # The slot belongs to the thread, and its number ends with it.
        del slot
        thread.start()
        self._seats[thread] = seat

    def _work(self, slot: _core.Slot, seat: _Seat) -> None:
        loop = ThreadLoop()
        outcome = None
        try:
            while (run := slot.next(outcome)) is not None:
                seat.run = run
                outcome = self._runner.run(run, loop)
                seat.run = None
                # Not kept alive while the thread waits for the next one.
                del run
        except BaseException as error:
            # A thread must not vanish without a word.
            self.broken = error
            _logger.critical("an executor thread ended unexpectedly", exc_info=error)
            self._dispatcher.stop(0)
        finally:
            try:
                self._runner.end_thread(loop)
            finally:
                loop.close()
