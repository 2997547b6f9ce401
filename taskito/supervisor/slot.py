"""The place of one worker: the process that has it, and when it is filled again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from taskito.supervisor.backoff import Backoff
from taskito.supervisor.child import Child
from taskito.supervisor.health import WorkerHealth

__all__ = ["Launch", "Slot"]

_logger = logging.getLogger("taskito.supervisor")

Launch = Callable[[int], Child]
"""Starts the process of the worker with this number."""


class Slot:
    """One of the workers that the supervisor keeps running.

    Args:
        number: From 1.
        launch: Starts a process.

    Attributes:
        child: The process that serves; None while none does.
        successor: One that takes its place as soon as it is ready.
        leaving: One that was replaced and has not ended yet.
    """

    def __init__(self, number: int, launch: Launch) -> None:
        self.number = number
        self.child: Child | None = None
        self.successor: Child | None = None
        self.leaving: list[Child] = []
        self._launch = launch
        self._backoff = Backoff()
        self._start_at: float | None = None
        self._reason = "it has not been started yet"

    @property
    def children(self) -> list[Child]:
        """All processes of this place."""
        present = [child for child in (self.child, self.successor) if child is not None]
        return [*present, *self.leaving]

    @property
    def start_at(self) -> float | None:
        """When a process is started here; None if none is to be."""
        return self._start_at if self.child is None else None

    def start_now(self) -> None:
        """Have it filled at the next opportunity."""
        self._start_at = time.monotonic()

    def start_if_due(self) -> None:
        """Start a process if it is time."""
        if self.start_at is None or self.start_at > time.monotonic():
            return
        self._start_at = None
        self.child = self._started()
        if self.child is None:
            self.start_later(0.0)

    def start_later(self, lived: float) -> float:
        """Have it filled after a while; longer after each death in a row; return the seconds."""
        wait = self._backoff.next_wait(lived)
        self._start_at = time.monotonic() + wait
        self._reason = "it died and will be started again"
        return wait

    def wait_for_change(self) -> None:
        """Start nothing until somebody asks for it."""
        self._start_at = None
        self._reason = "the application cannot be loaded; waiting for a change"

    def replace(self) -> bool:
        """Start a successor; False if that was not possible."""
        self.successor = self._started()
        return self.successor is not None

    def promote(self) -> None:
        """Give the place to the successor, and ask the one that had it to stop."""
        if self.child is not None:
            self.child.stop()
            self.leaving.append(self.child)
        self.child, self.successor = self.successor, None

    def dismiss_successor(self) -> None:
        """Do without the successor."""
        if self.successor is not None:
            self.successor.stop()
            self.leaving.append(self.successor)
            self.successor = None

    def health(self) -> WorkerHealth:
        """Return how the worker here is."""
        if self.child is not None:
            return self.child.health()
        return WorkerHealth(process=None, worker=None, phase="ended", reason=self._reason)

    def _started(self) -> Child | None:
        try:
            return self._launch(self.number)
        except OSError as error:
            _logger.error("worker %d cannot be started: %s", self.number, error)  # noqa: TRY400
            return None
