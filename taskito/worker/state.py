"""What a worker is doing at present, for whoever watches over it."""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["StateHolder", "WorkerPhase", "WorkerState"]

_logger = logging.getLogger("taskito.worker")


class WorkerPhase(enum.StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    """Made, but not yet registered with the store."""
    READY = "ready"
    """Registered, and claiming jobs."""
    STORAGE_FAILING = "storage failing"
    """The store does not answer; what failed is tried again."""
    DRAINING = "draining"
    """Claims no more jobs; those that run may end."""
    STOPPED = "stopped"
    """All is over."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A phase, and why the worker is in it.

    Attributes:
        phase: The phase.
        reason: A sentence for people.
        since: When it began, in seconds of ``time.monotonic()``.
    """

    phase: WorkerPhase
    reason: str
    since: float = field(default_factory=time.monotonic)

    @property
    def ready(self) -> bool:
        """Whether the worker claims jobs."""
        return self.phase is WorkerPhase.READY


# What the dispatcher tells about these is a change of phase; everything else is not.
_PHASES = {
    "started": WorkerPhase.READY,
    "storage": WorkerPhase.STORAGE_FAILING,
    "storage_recovered": WorkerPhase.READY,
    "draining": WorkerPhase.DRAINING,
    "stopped": WorkerPhase.STOPPED,
}
_ORDER = tuple(WorkerPhase)


class StateHolder:
    """Keeps the state of one worker and tells listeners of each change."""

    def __init__(self) -> None:
        # A signal handler may ask for a change while the main thread makes one.
        self._lock = threading.RLock()
        self._listeners: list[Callable[[WorkerState], object]] = []
        self._state = WorkerState(WorkerPhase.STARTING, "the worker is made")

    @property
    def current(self) -> WorkerState:
        """The present state."""
        return self._state

    def listen(self, listener: Callable[[WorkerState], object]) -> None:
        """Call ``listener`` with the present state, then with each new one."""
        with self._lock:
            self._listeners.append(listener)
            state = self._state
        listener(state)

    def noticed(self, kind: str, message: str) -> None:
        """Take over what a notice of the dispatcher means."""
        phase = _PHASES.get(kind)
        if phase is not None:
            self.become(phase, message)

    def become(self, phase: WorkerPhase, reason: str) -> None:
        """Enter a phase; a worker that drains or has stopped never claims again."""
        with self._lock:
            present = self._state.phase
            if _leads_back(present, phase):
                return
            self._state = state = WorkerState(phase, reason)
            listeners = tuple(self._listeners)
        for listener in listeners:
            try:
                listener(state)
            except Exception:
                # Whoever watches must not take the worker down.
                _logger.exception("%r failed when it was told of a worker's state", listener)


def _leads_back(present: WorkerPhase, phase: WorkerPhase) -> bool:
    """Return whether ``phase`` would lead back from the end of a worker's life."""
    if present is WorkerPhase.DRAINING:
        return _ORDER.index(phase) < _ORDER.index(present)
    return present is WorkerPhase.STOPPED
