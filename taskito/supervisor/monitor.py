"""What watches over the worker of this process, and tells those who want to know.

The init system and the health server of a lone worker, or the supervisor of one of several.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Protocol, Self

from taskito.supervisor.channel import HEARTBEAT, Channel, Report
from taskito.supervisor.health import Health, WorkerHealth, health_of
from taskito.supervisor.notify import Notifier
from taskito.worker.config import WorkerConfig
from taskito.worker.state import WorkerPhase, WorkerState

__all__ = ["Monitor", "MonitoredWorker"]

_AT_ONCE = "stopped at once by the supervisor; what had not ended runs again elsewhere"


class MonitoredWorker(Protocol):
    """A worker, whoever schedules it."""

    id: str
    config: WorkerConfig

    @property
    def state(self) -> WorkerState:
        """What it is doing."""

    def watch_state(self, listener: Callable[[WorkerState], object]) -> None:
        """Call a function at each change."""

    def silent_for(self) -> float:
        """Return for how long its dispatcher has not come round."""

    def stop(self, drain_timeout: float | None = None, *, reason: str | None = None) -> None:
        """Ask it to stop."""


class Monitor:
    """A context around the whole life of a worker process, the import of its application included.

    Args:
        notifier: The init system.
        channel: The way to the supervisor; None for a worker that has none.
    """

    def __init__(self, notifier: Notifier, channel: Channel | None = None) -> None:
        self._notifier = notifier
        self._channel = channel
        self._worker: MonitoredWorker | None = None
        self._announced = False
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Begin to tell; the signals have to be handled already."""
        if self._channel is not None:
            self._channel.listen(_stop_this_process, self._stop_at_once)
        self._beat()
        interval = HEARTBEAT if self._channel is not None else self._notifier.interval
        if interval is not None:
            thread = threading.Thread(
                target=self._beat_until_the_end, args=(interval,), name="taskito-monitor"
            )
            thread.daemon = True
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Tell no more."""
        self._ended.set()

    def attach(self, worker: MonitoredWorker) -> None:
        """The worker is there, and about to run."""
        self._worker = worker
        worker.watch_state(self._changed)

    def health(self) -> Health:
        """Return how the worker is; may be called from any thread."""
        report = self._report()
        worker = WorkerHealth(
            process=os.getpid(),
            worker=report.worker,
            phase=report.phase,
            reason=report.reason,
            silent=report.silent,
        )
        return health_of([worker])

    def _report(self) -> Report:
        worker = self._worker
        if worker is None:
            return Report()
        state = worker.state
        return Report(
            phase=str(state.phase),
            reason=state.reason,
            worker=worker.id,
            silent=worker.silent_for(),
            drain_timeout=worker.config.drain_timeout,
        )

    def _changed(self, state: WorkerState) -> None:
        if state.ready and not self._announced:
            self._announced = True
            self._notifier.ready(state.reason)
        elif state.phase is WorkerPhase.DRAINING:
            self._notifier.stopping(state.reason)
        else:
            self._notifier.status(f"{state.phase}: {state.reason}")
        self._tell_supervisor()

    def _beat_until_the_end(self, interval: float) -> None:
        while not self._ended.wait(interval):
            self._beat()

    def _beat(self) -> None:
        self._tell_supervisor()
        if self._notifier.interval is not None and self.health().live:
            self._notifier.alive()

    def _tell_supervisor(self) -> None:
        if self._channel is not None:
            self._channel.send(self._report())

    def _stop_at_once(self) -> None:
        worker = self._worker
        if worker is None:
            # Whatever is being imported, it does not let itself be interrupted.
            os._exit(1)
        worker.stop(0, reason=_AT_ONCE)


def _stop_this_process() -> None:
    """Do what SIGTERM does; it is for the main thread, which may be in a system call."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGTERM)
