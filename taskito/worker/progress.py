"""Progress and log lines on their way to the store.

Tasks never wait for a progress write: a thread, started with the first value, stores what is
pending every quarter of a second and sleeps while nothing is.
"""

from __future__ import annotations

import logging
import threading

from taskito.backends.base import Backend
from taskito.backends.params import Lease
from taskito.context import JobContext

__all__ = ["BackendSink"]

FLUSH_INTERVAL = 0.25
"""Seconds between two writes of the progress of one job."""

_logger = logging.getLogger("taskito.worker")


class BackendSink:
    """The ``ProgressSink`` of a worker.

    Args:
        backend: Where everything goes.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._changed = threading.Condition()
        self._waiting: list[JobContext] = []
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def set_progress(self, job_id: str, token: int, percent: int) -> bool:
        """Store the progress of a run; False if its lease is over."""
        return self._backend.set_progress(job_id, token, percent)

    def append_log(self, job_id: str, token: int, level: str, message: str) -> bool:
        """Store a log line of a run; False if its lease is over."""
        self._require("storing a log line")
        return self._backend.append_log(Lease(id=job_id, token=token), level, message)

    def flush_later(self, job: JobContext) -> None:
        """Store the progress of ``job`` soon.

        Raises:
            CapabilityError: The backend cannot store progress.
        """
        self._require("storing progress")
        with self._changed:
            if self._thread is None and not self._stopped.is_set():
                # A daemon: what it leaves when the interpreter ends, each job stores itself.
                self._thread = threading.Thread(
                    target=self._run, name="taskito-progress", daemon=True
                )
                self._thread.start()
            self._waiting.append(job)
            self._changed.notify()

    def stop(self) -> None:
        """End the thread, after the last attempt."""
        self._stopped.set()
        with self._changed:
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(FLUSH_INTERVAL)

    def _require(self, feature: str) -> None:
        self._backend.capabilities.require("progress_log", feature, self._backend.name)

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped.is_set())
            if self._stopped.wait(FLUSH_INTERVAL):
                return
            with self._changed:
                jobs, self._waiting = self._waiting, []
            for job in jobs:
                flush(job)


def flush(job: JobContext, *, last: bool = False) -> None:
    """Store the progress of ``job``; a failure is logged and costs the job nothing.

    Args:
        job: The job.
        last: Whether the attempt has ended.
    """
    try:
        if last:
            job.close()
        else:
            job.flush()
    except Exception as error:  # noqa: BLE001 - the job itself must not suffer
        _logger.warning("the progress of job %s could not be stored: %s", job.id, error)
