"""``JobResult``: what a producer holds of a job it enqueued or found."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from taskito.backends.params import ErrorKind, JobRecord, JobState
from taskito.config import check_seconds
from taskito.connection import Connection
from taskito.errors import StoredError
from taskito.exceptions import (
    JobNotFoundError,
    MaxRetriesExceededError,
    ResultTimeoutError,
    TaskCancelledError,
    TaskFailedError,
)
from taskito.serializers.context import PayloadContext, PayloadKind
from taskito.status import (
    error_to_dict,
    last_error,
    public_status,
    retry_count,
    root_of,
    waiting_on,
)
from taskito.waiter import NotFinalError

__all__ = ["JobResult"]

R = TypeVar("R")

_ATTEMPT_USED_UP = {ErrorKind.FAILURE, ErrorKind.TIMEOUT}


class JobResult(Generic[R]):
    """One job: its state now, and its result once there is one.

    Every attribute but ``id`` asks the store, so that it is never stale; ``to_dict()`` asks once
    for everything.

    Args:
        connection: The queue's way to its store.
        job_id: The id.

    Example:
        >>> job = add.delay(2, 3)
        >>> job.status
        'pending'
        >>> job.result(timeout=10)
        5
        >>> await job  # in a coroutine
        5
    """

    __slots__ = ("__weakref__", "_connection", "_id")

    def __init__(self, connection: Connection, job_id: str) -> None:
        self._connection = connection
        self._id = job_id

    @property
    def id(self) -> str:
        """The job's id, a UUID in its 36-character form."""
        return self._id

    @property
    def status(self) -> str:
        """Where it stands: "pending", "running", "complete", "failed", "dead" or "cancelled".

        "failed" means that an attempt failed and a retry waits.

        Raises:
            JobNotFoundError: The job was purged; so for every attribute.
        """
        record = self._record()
        return public_status(record.state, record.why)

    @property
    def progress(self) -> int | None:
        """What the task reported last, 0 to 100; None if it has reported nothing."""
        return self._record().progress

    @property
    def error(self) -> str | None:
        """The last error in one line, for a cancelled job the reason; None if there is neither."""
        return _error_line(self._record())

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The attempts that did not succeed, oldest first.

        Each is a dict with ``id``, ``job_id``, ``attempt`` (from 0), ``error`` (one line),
        ``failed_at`` (ms since the epoch), ``kind`` ("failure", "timeout", "crash" or "rejected"),
        ``traceback`` (text or None) and ``worker``.
        """
        record = self._record()
        return [
            error_to_dict(record, entry)
            for entry in record.errors
            if entry.kind is not ErrorKind.INTERRUPTED
        ]

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of the metadata given at the enqueue; empty if there was none."""
        return self._connection.codec.decode_metadata(self._record().metadata)

    @property
    def schedule(self) -> str | None:
        """The name of the periodic schedule that made it; None if something else did."""
        return self._record().schedule

    @property
    def fire_time(self) -> datetime | None:
        """The time for which that schedule made it, in UTC; None if something else made it."""
        at_ms = self._record().fire_ms
        return None if at_ms is None else datetime.fromtimestamp(at_ms / 1_000, UTC)

    @property
    def dependencies(self) -> list[str]:
        """The ids of the jobs that have to complete before this one may start."""
        return list(self._record().dependencies)

    @property
    def dependents(self) -> list[str]:
        """The ids of the jobs that depend on this one."""
        return list(self._record().dependents)

    @property
    def original_job_id(self) -> str | None:
        """The job that this one runs again, if it came from a replay; else None."""
        return self._record().original_id

    @property
    def workflow_id(self) -> str | None:
        """The workflow that it is a step of, for ``queue.get_workflow``; None if it is none."""
        return self._record().workflow

    @property
    def replayed_as(self) -> str | None:
        """The job that runs this one again, if it was replayed; else None."""
        return self._record().replayed_as

    @property
    def waiting_on(self) -> str | None:
        """What keeps the job from running now.

        None (nothing, or it is past waiting), "delay" (also after a snooze), "retry",
        "dependencies", "paused", "no worker knows this task", "rate_limit" or "concurrency".
        """
        return waiting_on(self._connection.backend, self._record())

    def refresh(self) -> JobResult[R]:
        """Make sure that the job still exists, and return this object.

        Raises:
            JobNotFoundError: It was purged.
        """
        self._record()
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return everything about the job as plain values, as of one moment.

        Times are milliseconds since the epoch or None: ``created_at``, ``scheduled_at`` (when it
        may start), ``started_at``, ``completed_at`` (when it reached its final state).
        """
        record = self._record()
        return {
            "id": record.id,
            "queue": record.queue,
            "task_name": record.task,
            "status": public_status(record.state, record.why),
            "priority": record.priority,
            "progress": record.progress,
            "retry_count": retry_count(record),
            "max_retries": record.max_retries,
            "created_at": record.created_ms,
            "scheduled_at": record.due_ms,
            "started_at": record.started_ms,
            "completed_at": record.finished_ms,
            "error": _error_line(record),
            "timeout_ms": record.timeout_ms,
            "unique_key": record.unique_key,
            "metadata": self._connection.codec.decode_metadata(record.metadata),
            "namespace": record.namespace,
        }

    # The result -----------------------------------------------------------------------------------

    def result(
        self,
        timeout: float | None = 30.0,
        poll_interval: float = 0.05,
        max_poll_interval: float = 0.5,
    ) -> R:
        """Wait for the job and return what the task returned.

        The end of the job wakes the caller; the intervals only bound how long a lost wake-up can
        go unnoticed.

        Args:
            timeout: Seconds; None waits for ever, 0 only looks.
            poll_interval: Seconds until the store is asked without a wake-up, at first.
            max_poll_interval: The same later on; it doubles in between.

        Raises:
            ResultTimeoutError: The job has not ended yet; the message says what it waits for.
            MaxRetriesExceededError: Its last retry failed, with the remote error and traceback.
            TaskFailedError: It became a dead letter for another reason.
            TaskCancelledError: It was cancelled or has expired, with the reason.
            SerializationError: The result cannot be decoded with the serializers allowed here.
            JobNotFoundError: It was purged.
        """
        waits = _check_waits(timeout, poll_interval, max_poll_interval)
        try:
            record = self._connection.waiter.wait(self._id, *waits)
        except NotFinalError:
            raise self._timeout_error(timeout) from None
        return self._outcome(record)

    async def aresult(
        self,
        timeout: float | None = 30.0,
        poll_interval: float = 0.05,
        max_poll_interval: float = 0.5,
    ) -> R:
        """Do what ``result`` does in a coroutine, without holding a thread."""
        waits = _check_waits(timeout, poll_interval, max_poll_interval)
        waiter = await self._connection.awaiter()
        try:
            record = await waiter.wait_async(self._id, *waits)
        except NotFinalError:
            raise await self._connection.run(self._timeout_error, timeout) from None
        if record is not None and record.workflow is not None:
            # To find the step that failed takes the store.
            return await self._connection.run(self._outcome, record)
        return self._outcome(record)

    def __await__(self) -> Generator[Any, Any, R]:
        """Wait for the result for as long as it takes."""
        return self.aresult(timeout=None).__await__()

    def _record(self) -> JobRecord:
        record = self._connection.backend.get([self._id])[0]
        if record is None:
            raise self._not_found()
        return record

    def _not_found(self) -> JobNotFoundError:
        return JobNotFoundError(f"no job has the id {self._id!r}; it may have been purged")

    def _outcome(self, record: JobRecord | None) -> R:
        if record is None:
            raise self._not_found()
        if record.state is JobState.COMPLETE:
            context = PayloadContext(
                kind=PayloadKind.RESULT, task=record.task, job=record.id, run=record.run
            )
            result: R = self._connection.codec.decode(
                record.result or b"", record.result_serializer or record.serializer, context
            )
            return result
        if record.state is JobState.CANCELLED:
            root = self._failed_root(record)
            if root is not None:
                raise _failure(root, because=record)
            raise TaskCancelledError(
                f"job {record.id} of task {record.task!r} was cancelled: "
                f"{record.reason or 'no reason is known'}",
                job_id=record.id,
            )
        raise _failure(record)

    def _failed_root(self, record: JobRecord) -> JobRecord | None:
        """Return the step whose failure cancelled this one, however far away."""
        if record.workflow is None:
            return None
        root = root_of(self._connection.backend, record)
        return root if root.state is JobState.DEAD else None

    def _timeout_error(self, timeout: float | None) -> ResultTimeoutError:
        record = self._record()
        status = public_status(record.state, record.why)
        reason = waiting_on(self._connection.backend, record)
        return ResultTimeoutError(
            f"job {record.id} of task {record.task!r} has not ended within {timeout} s; "
            f"its status is {status!r}" + (f", it waits for: {reason}" if reason else "")
        )

    def __repr__(self) -> str:
        return f"<JobResult {self._id}>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, JobResult)
            and self._id == other._id
            and self._connection is other._connection
        )

    def __hash__(self) -> int:
        return hash(self._id)


def _check_waits(
    timeout: float | None, poll_interval: float, max_poll_interval: float
) -> tuple[float | None, float, float]:
    return (
        None if timeout is None else check_seconds("timeout", timeout),
        check_seconds("poll_interval", poll_interval, positive=True),
        check_seconds("max_poll_interval", max_poll_interval, positive=True),
    )


def _error_line(record: JobRecord) -> str | None:
    if record.state is JobState.CANCELLED:
        return record.reason
    error = last_error(record)
    return None if error is None else error.summary or error.kind


def _failure(record: JobRecord, because: JobRecord | None = None) -> TaskFailedError:
    error = last_error(record) or StoredError(kind=ErrorKind.FAILURE, message="no error is known")
    used_up = record.attempt > record.max_retries and error.kind in _ATTEMPT_USED_UP
    attempts = _count(record.attempt, "failed attempt")
    if record.crashes:
        attempts += f" and {_count(record.crashes, 'crash', 'crashes')} of its worker"
    kind = MaxRetriesExceededError if used_up else TaskFailedError
    prefix = ""
    if because is not None:
        prefix = (
            f"job {because.id} of task {because.task!r} was cancelled because a step of its "
            f"workflow failed: "
        )
    failure = kind(
        f"{prefix}job {record.id} of task {record.task!r} failed after {attempts}: "
        f"{error.summary or error.kind}",
        job_id=record.id,
        error_type=error.qualified_type,
        remote_traceback=error.traceback or None,
    )
    if error.traceback:
        failure.add_note(f"Where the task ran:\n\n{error.traceback.rstrip()}")
    return failure


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
