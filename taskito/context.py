"""``current_job``: what a task can ask and say about the job that it is running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, Protocol

from taskito.config import check_percent
from taskito.exceptions import ConfigurationError, JobCancelledError, Snooze

__all__ = ["CurrentJob", "JobContext", "JobRun", "ProgressSink", "current_job"]

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
"""The levels of ``current_job.log``."""


class JobRun(Protocol):
    """One attempt as the dispatcher describes it; ``taskito._core.Run`` is one."""

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def token(self) -> int:
        """The lease's token, which is the number of this run."""

    @property
    def task(self) -> str:
        """The task's name."""

    @property
    def queue(self) -> str:
        """The queue's name."""

    @property
    def metadata(self) -> bytes | None:
        """The encoded metadata, or None."""

    @property
    def attempt(self) -> int:
        """Failures and timeouts so far."""

    @property
    def schedule(self) -> str | None:
        """The schedule whose fire made the job, if one did."""

    @property
    def fire_ms(self) -> int | None:
        """The time of that fire."""

    @property
    def timeout_ms(self) -> int:
        """The longest time that the attempt may take; 0 means no limit."""

    def cancel_requested(self) -> bool:
        """Whether somebody asked for the cancellation of this job."""

    def abandoned(self) -> bool:
        """Whether the attempt is over, so that its outcome will be refused."""


class ProgressSink(Protocol):
    """Where a job's progress and log lines go; the worker provides it."""

    def set_progress(self, job_id: str, token: int, percent: int) -> bool:
        """Store the progress of a run; False if its lease is over."""

    def append_log(self, job_id: str, token: int, level: str, message: str) -> bool:
        """Store a log line of a run; False if its lease is over."""

    def flush_later(self, job: JobContext) -> None:
        """Call ``job.flush()`` once, within a second and from another thread.

        Raises:
            CapabilityError: The backend cannot store progress.
        """


class JobContext:
    """The job of one running attempt, behind ``current_job``; also handed to middleware.

    Progress is stored at most a few times a second, from another thread: ``update_progress`` only
    remembers the value. ``close`` stores the last one before the attempt is reported as ended.

    Args:
        run: The attempt.
        sink: Where progress and log lines go.
        decode_metadata: Turns the stored metadata into a dict.
    """

    __slots__ = (
        "_closed",
        "_decode_metadata",
        "_latest",
        "_run",
        "_scheduled",
        "_sink",
        "_started",
        "_write",
        "_written",
    )

    def __init__(
        self,
        run: JobRun,
        sink: ProgressSink,
        decode_metadata: Callable[[bytes], dict[str, Any]],
    ) -> None:
        self._run = run
        self._sink = sink
        self._decode_metadata = decode_metadata
        self._started = time.monotonic()
        self._closed = False
        self._latest: int | None = None
        self._written: int | None = None
        self._scheduled = False
        # Held while a value is written, so that an earlier one never overtakes a later one.
        self._write = threading.Lock()

    @property
    def id(self) -> str:
        """The job's id; the stable key for effects that must happen once."""
        return self._run.id

    @property
    def task_name(self) -> str:
        """The name of the task."""
        return self._run.task

    @property
    def retry_count(self) -> int:
        """How many attempts failed or timed out before this one; 0 in the first."""
        return self._run.attempt

    @property
    def queue_name(self) -> str:
        """The queue that the job came from."""
        return self._run.queue

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of the metadata given at the enqueue; empty if there was none."""
        stored = self._run.metadata
        return {} if stored is None else self._decode_metadata(stored)

    @property
    def schedule(self) -> str | None:
        """The name of the periodic schedule that made this job; None if something else did."""
        return self._run.schedule

    @property
    def fire_time(self) -> datetime | None:
        """The time for which that schedule made it, in UTC, however late it runs; else None."""
        at_ms = self._run.fire_ms
        return None if at_ms is None else datetime.fromtimestamp(at_ms / 1_000, UTC)

    @property
    def run(self) -> JobRun:
        """The attempt itself."""
        return self._run

    def update_progress(self, n: float) -> None:
        """Say how far the job has come; cheap enough to call in a loop.

        Others see the value within a second. The last one is stored before the job's end.

        Args:
            n: Percent; values below 0 count as 0, values above 100 as 100, fractions are dropped.

        Raises:
            ConfigurationError: ``n`` is not a number.
            CapabilityError: The backend cannot store progress.
        """
        percent = check_percent("progress", n)
        if self._closed:
            return
        # The value first, then the mark; ``flush`` does it the other way round. So either this call
        # sees that it has to ask for another flush, or the flush under way sees this value.
        self._latest = percent
        if not self._scheduled:
            self._scheduled = True
            try:
                self._sink.flush_later(self)
            except BaseException:
                self._scheduled, self._latest = False, None
                raise

    def log(self, message: str, level: str = "info") -> None:
        """Append a line to the job's own log, which is kept with the job.

        Args:
            message: The line.
            level: "debug", "info", "warning", "error" or "critical".

        Raises:
            ConfigurationError: The level is none of these.
            CapabilityError: The backend keeps no job logs.
        """
        if level not in LOG_LEVELS:
            raise ConfigurationError(
                f"level: {level!r} is not a log level; use one of {', '.join(LOG_LEVELS)}"
            )
        if not self._closed:
            self._sink.append_log(self._run.id, self._run.token, level, str(message))

    def check_cancelled(self) -> None:
        """End the task here if its cancellation was asked for.

        Call it where the task can stop safely, as often as you like. It also ends an attempt that
        was taken from this worker (after its timeout, for instance), whose outcome nobody wants.

        Raises:
            JobCancelledError: It was; let it pass.
        """
        if self._run.cancel_requested():
            raise JobCancelledError("cancelled by request while running")
        if self._run.abandoned():
            raise JobCancelledError("stopped, since this attempt is over: its lease or time ended")

    def check_timeout(self) -> None:
        """End the task here if the time of this attempt is over.

        Raises:
            TimeoutError: It is; let it pass.
        """
        timeout_ms = self._run.timeout_ms
        if timeout_ms and (time.monotonic() - self._started) * 1_000 >= timeout_ms:
            raise TimeoutError(f"the attempt has run longer than its timeout of {timeout_ms} ms")
        if self._run.abandoned():
            raise TimeoutError("this attempt is over: its lease or time ended")

    def snooze(self, seconds: float) -> NoReturn:
        """Stop here and run again later, without using up an attempt.

        Args:
            seconds: How long to wait, 0 or more.

        Raises:
            Snooze: Always; let it pass.
        """
        raise Snooze(seconds)

    def flush(self) -> None:
        """Store the last progress value, if it is not stored yet.

        Raises:
            BackendError: It could not be stored; the value is dropped.
        """
        with self._write:
            self._scheduled = False
            percent = self._latest
            if percent is None or percent == self._written:
                return
            self._written = percent
            if not self._sink.set_progress(self._run.id, self._run.token, percent):
                self._closed = True  # The lease is over: nothing more will be accepted.

    def has_progress(self) -> bool:
        """Whether the task has said how far it is: ``close`` may have something to store."""
        return self._latest is not None

    def close(self) -> None:
        """Store the last progress value and ignore everything that comes later."""
        self._closed = True
        self.flush()


_current: ContextVar[JobContext] = ContextVar("taskito_current_job")


def activate(job: JobContext) -> None:
    """Make ``job`` the current one of the present context; contexts copied from it see it too."""
    _current.set(job)


def present() -> JobContext | None:
    """Return the job that the calling code is part of; None outside a task."""
    return _current.get(None)


class CurrentJob:
    """The job that the calling code is part of; use the one instance, ``current_job``.

    It is found through a context variable, so it works in plain tasks, in coroutines and the
    ``asyncio`` tasks they start, and in ``asyncio.to_thread``. A ``threading.Thread`` that a task
    starts sees it if it is run in ``contextvars.copy_context()``.

    Outside a task every use raises ``RuntimeError``.

    Example:
        >>> @queue.task()
        ... def resize(paths: list[str]) -> None:
        ...     for done, path in enumerate(paths):
        ...         current_job.check_cancelled()
        ...         shrink(path)
        ...         current_job.update_progress(100 * done / len(paths))
    """

    __slots__ = ()

    @property
    def id(self) -> str:
        """The job's id; the stable key for effects that must happen once."""
        return _active().id

    @property
    def task_name(self) -> str:
        """The name of the task."""
        return _active().task_name

    @property
    def retry_count(self) -> int:
        """How many attempts failed or timed out before this one; 0 in the first."""
        return _active().retry_count

    @property
    def queue_name(self) -> str:
        """The queue that the job came from."""
        return _active().queue_name

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of the metadata given at the enqueue; empty if there was none."""
        return _active().metadata

    @property
    def schedule(self) -> str | None:
        """The name of the periodic schedule that made this job; None if something else did."""
        return _active().schedule

    @property
    def fire_time(self) -> datetime | None:
        """The time for which that schedule made it, in UTC, however late it runs; else None."""
        return _active().fire_time

    def update_progress(self, n: float) -> None:
        """Say how far the job has come; cheap enough to call in a loop.

        Others see the value within a second. The last one is stored before the job's end.

        Args:
            n: Percent; values below 0 count as 0, values above 100 as 100, fractions are dropped.

        Raises:
            ConfigurationError: ``n`` is not a number.
            CapabilityError: The backend cannot store progress.
        """
        _active().update_progress(n)

    def log(self, message: str, level: str = "info") -> None:
        """Append a line to the job's own log, which is kept with the job.

        Args:
            message: The line.
            level: "debug", "info", "warning", "error" or "critical".

        Raises:
            ConfigurationError: The level is none of these.
            CapabilityError: The backend keeps no job logs.
        """
        _active().log(message, level)

    def check_cancelled(self) -> None:
        """End the task here if its cancellation was asked for; call it as often as you like.

        Raises:
            JobCancelledError: It was asked for, or this attempt is over anyway; let it pass.
        """
        _active().check_cancelled()

    def check_timeout(self) -> None:
        """End the task here if the time of this attempt is over.

        Raises:
            TimeoutError: It is; let it pass.
        """
        _active().check_timeout()

    def snooze(self, seconds: float) -> NoReturn:
        """Stop here and run again later, without using up an attempt.

        Args:
            seconds: How long to wait, 0 or more.

        Raises:
            Snooze: Always; let it pass.
        """
        _active().snooze(seconds)

    def __repr__(self) -> str:
        job = _current.get(None)
        if job is None:
            return "<current_job: none>"
        return f"<current_job: {job.id} of task {job.task_name!r}>"


def _active() -> JobContext:
    job = _current.get(None)
    if job is None:
        raise RuntimeError(
            "current_job can be used inside a running task only; none is running here"
        )
    return job


current_job: Final = CurrentJob()
"""The job that the calling code is part of."""
