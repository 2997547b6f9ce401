"""Names the job whose code keeps an event loop from everything else."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable

__all__ = ["LoopWatchdog"]

_logger = logging.getLogger("taskito.worker")

BLOCKED_AFTER = 1.0
"""Seconds without a step of another job after which a loop counts as blocked."""


class LoopWatchdog:
    """A thread that asks a loop for a sign of life while it has work; sleeps while it has none.

    Args:
        loop: The loop; made and run in another thread.
        busy: Whether the loop has work.
        culprit: Returns what the loop is in at the moment, or None.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        busy: Callable[[], bool],
        culprit: Callable[[], str | None],
    ) -> None:
        self._loop = loop
        self._busy = busy
        self._culprit = culprit
        self._loop_thread = threading.get_ident()
        self._stopped = threading.Event()
        self._wanted = threading.Event()
        self._answered = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name="taskito-loop-watchdog", daemon=True
        )

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def wake(self) -> None:
        """Say that the loop has work again; cheap enough to say it for every job."""
        if not self._wanted.is_set():
            self._wanted.set()

    def stop(self) -> None:
        """End the thread soon."""
        self._stopped.set()
        self._wanted.set()
        self._answered.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self._wanted.clear()
            # The stop is marked before it wakes: it may have come just before the clearing.
            if not self._busy() and not self._stopped.is_set():
                self._wanted.wait()
            self._answered.clear()
            try:
                self._loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:
                return  # It was closed.
            if self._answered.wait(BLOCKED_AFTER):
                self._stopped.wait(BLOCKED_AFTER)
            elif not self._stopped.is_set():
                self._report()
                # Once for each time that it blocks.
                self._answered.wait()

    def _report(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - documented for this
        stack = "" if frame is None else "".join(traceback.format_stack(frame, limit=6))
        culprit = self._culprit() or "a callback"
        if self._answered.is_set():
            return  # It went on meanwhile, and the frame may be of something else.
        _logger.warning(
            "%s has blocked the event loop for %g s, and with it all other coroutines of this "
            "worker; await what takes long, or move it into asyncio.to_thread(). It is in:\n%s",
            culprit,
            BLOCKED_AFTER,
            stack,
        )
