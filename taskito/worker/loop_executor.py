"""One event loop on which many jobs of ``async def`` tasks are under way at once."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from taskito.worker.loop_watchdog import LoopWatchdog

if TYPE_CHECKING:
    from taskito import _core
    from taskito.worker.runner import Outcome, Runner

__all__ = ["LoopExecutor", "loop_factory"]

_logger = logging.getLogger("taskito.worker")

_CANCEL_TIMEOUT = 0.5
"""Seconds that cancelled coroutines get to end when the worker does."""


class _Place:
    """One slot and the job that it runs; touched by the loop's thread only."""

    __slots__ = ("run", "slot", "task")

    def __init__(self, slot: _core.Slot) -> None:
        self.slot = slot
        self.run: _core.Run | None = None
        self.task: asyncio.Task[Outcome] | None = None


class LoopExecutor:
    """An event loop in a thread of its own; uvloop's if that is installed.

    Args:
        dispatcher: Gives out attempts.
        runner: Runs them.
        concurrency: How many are under way at a time.
        daemon: Whether the interpreter may end while the loop is busy.
    """

    def __init__(
        self, dispatcher: _core.Dispatcher, runner: Runner, concurrency: int, *, daemon: bool
    ) -> None:
        from taskito import _core

        self._dispatcher = dispatcher
        self._runner = runner
        self._concurrency = concurrency
        self._bell = _core.Bell()
        self._thread = threading.Thread(target=self._work, name="taskito-loop", daemon=daemon)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        # What follows belongs to the loop's thread; others only look.
        self._places: dict[int, _Place] = {}
        self._free: list[_Place] = []
        self._closing = False
        self._ended: asyncio.Event | None = None
        self._watchdog: LoopWatchdog | None = None
        self.broken: BaseException | None = None

    def prepare(self, give_up: Callable[[], bool]) -> None:
        """Do nothing: the loop needs no preparation."""

    def start(self) -> None:
        """Start the thread and wait until its loop runs."""
        self._thread.start()
        self._ready.wait()

    def owns(self, slot: int) -> bool:
        """Whether the slot of this number is one of the loop's."""
        return slot in self._places

    def cancel(self, slot: int) -> None:
        """Cancel the coroutine that the slot runs."""
        self._call(lambda: self._cancel(slot))

    def replace(self, slot: int) -> None:
        """Cancel the coroutine of an abandoned run, and take another job in its place."""
        self._call(lambda: self._replace(slot))

    def running(self) -> list[str]:
        """Return the task and the job of each coroutine that is under way."""
        runs = [place.run for place in list(self._places.values())]
        return [f"{run.task} (job {run.id})" for run in runs if run is not None]

    def join(self, timeout: float) -> bool:
        """Cancel what is left and wait up to ``timeout`` seconds for the loop's end."""
        if self._thread.ident is None:
            return True  # It was never started.
        # The loop may be gone while its thread is about to end.
        self._call(self._quit)
        self._thread.join(timeout + _CANCEL_TIMEOUT)
        return not self._thread.is_alive()

    def _call(self, function: Callable[[], object]) -> bool:
        """Have the loop's thread call a function; False if the loop is gone."""
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function)
                return True
        except RuntimeError:  # It was closed meanwhile.
            _logger.debug("the event loop has ended already")
        return False

    # In the loop's thread -----------------------------------------------------------------------

    def _work(self) -> None:
        try:
            loop = loop_factory()()
            try:
                loop.run_until_complete(self._serve(loop))
            finally:
                self._close(loop)
        except BaseException as error:
            # A loop must not vanish without a word.
            self.broken = error
            _logger.critical("the event loop of the worker ended unexpectedly", exc_info=error)
            self._dispatcher.stop(0)
        finally:
            self._ready.set()

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ended = asyncio.Event()
        self._watchdog = LoopWatchdog(loop, self._is_busy, self._blocking)
        self._loop = loop
        loop.add_reader(self._bell.fileno(), self._hear)
        for _ in range(self._concurrency):
            self._add()
        self._ready.set()
        self._watchdog.start()
        try:
            await self._ended.wait()
        finally:
            self._watchdog.stop()
            loop.remove_reader(self._bell.fileno())
            await self._cancel_rest()
            await self._runner.end_loop()

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = None
        # Not asyncio.Runner, which would wait for the threads that tasks have left behind.
        stuck = self.running()
        if not stuck:
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _add(self) -> None:
        """Bring one more slot into service; it counts as capacity once it has asked for work."""
        place = _Place(self._dispatcher.loop_slot(self._bell))
        self._places[place.slot.index] = place
        self._go_on(place, None)

    def _hear(self) -> None:
        """Give all waiting jobs to free slots."""
        self._bell.clear()
        # At least one free slot asks in vain, or all are busy: so the bell rings for what comes.
        while self._free:
            place = self._free.pop()
            self._go_on(place, None)
            if place.run is None:
                return

    def _go_on(self, place: _Place, outcome: Outcome | None) -> None:
        """Report how the slot's run ended and take the next one."""
        was_free = place.run is None
        place.task = None
        place.run = place.slot.try_next(outcome)
        if place.run is not None:
            loop = self._loop
            assert loop is not None  # noqa: S101 - it runs this
            place.task = loop.create_task(self._runner.run_coroutine(place.run))
            place.task.add_done_callback(lambda task: self._finished(place, task))
            if self._watchdog is not None:
                self._watchdog.wake()
        elif place.slot.stopped:
            del self._places[place.slot.index]
            # A slot that ran nothing is told to stop only when the whole worker is.
            self._closing = self._closing or was_free
            if self._closing:
                self._retire_free()
        else:
            self._free.append(place)

    def _finished(self, place: _Place, task: asyncio.Task[Outcome]) -> None:
        # The runner catches everything; a task that never got to it has failed. Of a run that was
        # over, and cancelled for that, there is nothing to say.
        over = place.run is None or place.run.abandoned()
        self._go_on(place, None if over or task.cancelled() else task.result())
        if self._closing and not self._places and self._ended is not None:
            self._ended.set()

    def _retire_free(self) -> None:
        while self._free:
            place = self._free.pop()
            self._places.pop(place.slot.index, None)
        if not self._places and self._ended is not None:
            self._ended.set()

    def _cancel(self, slot: int) -> None:
        place = self._places.get(slot)
        if place is not None and place.task is not None and _is_over(place.run):
            # Not now: a task that is cancelled before its first step never takes it, and the runner
            # could not say what became of the job.
            place.task.get_loop().call_soon(place.task.cancel, "cancelled by request while running")

    def _replace(self, slot: int) -> None:
        self._cancel(slot)
        if not self._closing:
            self._add()

    def _quit(self) -> None:
        self._closing = True
        if self._ended is not None:
            self._ended.set()

    async def _cancel_rest(self) -> None:
        """Cancel what still runs: nobody waits for its outcome any more."""
        await asyncio.sleep(0)  # Each has taken its first step by now.
        tasks = [place.task for place in self._places.values() if place.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT)

    def _is_busy(self) -> bool:
        return len(self._places) > len(self._free)

    def _blocking(self) -> str | None:
        """Return the name of the job whose step the loop is in; called by the watchdog."""
        loop = self._loop
        task = None if loop is None else asyncio.current_task(loop)
        for place in list(self._places.values()):
            if place.task is task and place.run is not None and task is not None:
                return f"task {place.run.task!r} (job {place.run.id})"
        return None


def _is_over(run: _core.Run | None) -> bool:
    """Whether nobody wants a run to go on; its slot may run the next one by now."""
    return run is not None and (run.cancel_requested() or run.abandoned())


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes event loops: uvloop's if it is installed, otherwise asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
