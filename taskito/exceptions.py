"""Every exception that taskito raises.

TaskitoError
├── ConfigurationError (ValueError)        a wrong option, unit or name; the field is named
├── TaskNotRegisteredError (ValueError)    no task of this name; similar names are suggested
├── SerializationError (ValueError)        a value cannot be encoded or decoded
│   └── PayloadTooLargeError               ... or is larger than ``max_payload_bytes``
├── JobNotFoundError (KeyError)            no job has this id
├── ScheduleNotFoundError (KeyError)       no schedule has this name
├── ResultTimeoutError (TimeoutError)      no result within the time given
├── SoftTimeoutError (TimeoutError)        raised *in* a task that runs past its ``soft_timeout``
├── LockTimeoutError (TimeoutError)        a lock was not free within the time given
├── LockLostError (RuntimeError)           a lock was lost before the end of its block
├── JobFailedError (RuntimeError)          base of the three ways in which a job can fail
│   ├── TaskFailedError                    it ended as a dead letter at once
│   │   └── MaxRetriesExceededError        ... after its last retry
│   └── TaskCancelledError                 it was cancelled or has expired
├── QueueClosedError (RuntimeError)        the queue or its store is closed, or was forked
├── WorkerError (RuntimeError)             a worker had to stop; the reason is in the message
├── BackendError                           base of what a store reports
│   ├── CapabilityError (NotImplementedError)  this backend cannot do that
│   ├── StorageError (OSError)             the store could not be read or written
│   │   ├── StorageBusyError               somebody else holds the write lock
│   │   ├── StorageFullError               the disk is full
│   │   ├── DatabaseReadOnlyError          no permission to write
│   │   ├── DatabaseCorruptError           not a database, or a damaged one
│   │   ├── DatabaseMovedError             the file was deleted or replaced
│   │   └── SchemaVersionError             written by another version of taskito
│   └── UnknownWorkerError                 an exchange by a worker that is not registered
└── JobControl                             raised *by* a task to steer its own job
    ├── Retry                              try again, after a delay of its choice
    ├── Snooze                             run again later without using an attempt
    ├── Reject                             end as a dead letter now
    └── JobCancelledError                  raised by ``current_job.check_cancelled()``
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "CapabilityError",
    "ConfigurationError",
    "DatabaseCorruptError",
    "DatabaseMovedError",
    "DatabaseReadOnlyError",
    "JobCancelledError",
    "JobControl",
    "JobFailedError",
    "JobNotFoundError",
    "LockLostError",
    "LockTimeoutError",
    "MaxRetriesExceededError",
    "PayloadTooLargeError",
    "QueueClosedError",
    "Reject",
    "ResultTimeoutError",
    "Retry",
    "ScheduleNotFoundError",
    "SchemaVersionError",
    "SerializationError",
    "Snooze",
    "SoftTimeoutError",
    "StorageBusyError",
    "StorageError",
    "StorageFullError",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskNotRegisteredError",
    "TaskitoError",
    "UnknownWorkerError",
    "WorkerError",
]


class TaskitoError(Exception):
    """Base of every exception that taskito raises."""


class ConfigurationError(TaskitoError, ValueError):
    """An option has a value that it cannot have; the message names the option and the value."""


class TaskNotRegisteredError(TaskitoError, ValueError):
    """No task of this name is registered; the message names the closest ones."""


class SerializationError(TaskitoError, ValueError):
    """A value cannot be encoded, or stored bytes cannot be decoded."""


class PayloadTooLargeError(SerializationError):
    """An encoded payload or result is larger than ``max_payload_bytes``."""


class JobNotFoundError(TaskitoError, KeyError):
    """No job has this id in this namespace."""

    def __str__(self) -> str:
        """Return the message as it is; ``KeyError`` would show its ``repr``."""
        return str(self.args[0]) if self.args else ""


class ScheduleNotFoundError(TaskitoError, KeyError):
    """No schedule has this name in this namespace."""

    def __str__(self) -> str:
        """Return the message as it is; ``KeyError`` would show its ``repr``."""
        return str(self.args[0]) if self.args else ""


class ResultTimeoutError(TaskitoError, TimeoutError):
    """No result arrived within the time given; the message says what the job waits for."""


class SoftTimeoutError(TaskitoError, TimeoutError):
    """Raised inside a task when its ``soft_timeout`` is over; catch it to clean up.

    One that leaves the task ends the attempt as timed out.
    """

    def __init__(
        self, message: str = "the attempt has run longer than the soft_timeout of its task"
    ) -> None:
        super().__init__(message)


class LockTimeoutError(TaskitoError, TimeoutError):
    """A lock was not free within the time given; nothing is held."""


class LockLostError(TaskitoError, RuntimeError):
    """A lock was lost while its block ran; somebody else may hold it. The message says why."""


class JobFailedError(TaskitoError, RuntimeError):
    """Base of the ways in which a job can end without a result.

    Attributes:
        job_id: The id of the job that ended so, or None where it is not known.
        error_type: The qualified name of the exception that the task raised, or None.
        remote_traceback: The traceback as text, as it was where the task ran, or None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        job_id: str | None = None,
        error_type: str | None = None,
        remote_traceback: str | None = None,
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.error_type = error_type
        self.remote_traceback = remote_traceback


class TaskFailedError(JobFailedError):
    """The job ended as a dead letter."""


class MaxRetriesExceededError(TaskFailedError):
    """The job ended as a dead letter after its last retry failed."""


class TaskCancelledError(JobFailedError):
    """The job was cancelled, has expired, or depended on one that did not complete."""


class QueueClosedError(TaskitoError, RuntimeError):
    """The queue or its store is closed, or was opened before a fork."""


class WorkerError(TaskitoError, RuntimeError):
    """A worker had to stop; the message says why."""


class BackendError(TaskitoError):
    """Base of what a backend reports."""


class CapabilityError(BackendError, NotImplementedError):
    """The backend does not declare the capability that this call needs."""


class StorageError(BackendError, OSError):
    """The store could not be read or written."""


class StorageBusyError(StorageError):
    """Another process held the write lock for longer than ``busy_timeout``."""


class StorageFullError(StorageError):
    """The disk is full; nothing was lost."""


class DatabaseReadOnlyError(StorageError):
    """The database file or its folder cannot be written."""


class DatabaseCorruptError(StorageError):
    """The file is not a taskito database, or is damaged."""


class DatabaseMovedError(StorageError):
    """The database file was deleted or replaced while it was open."""


class SchemaVersionError(StorageError):
    """The file was written by a version of taskito with another schema."""


class UnknownWorkerError(BackendError):
    """An exchange by a worker that has not registered, or has unregistered."""


class JobControl(TaskitoError):
    """Base of what a task raises to steer its own job."""


class Retry(JobControl):
    """Raised by a task: this attempt failed, try again.

    Args:
        delay: Seconds until the next attempt; None follows the task's back-off.

    Example:
        >>> raise Retry(delay=30)  # doctest: +SKIP
    """

    def __init__(self, delay: float | None = None) -> None:
        super().__init__("retry requested" if delay is None else f"retry requested in {delay} s")
        if delay is not None and delay < 0:
            msg = f"delay: {delay!r} must be 0 or more seconds"
            raise ConfigurationError(msg)
        self.delay = delay


class Snooze(JobControl):
    """Raised by a task: run again later; the attempt is not used up.

    Args:
        seconds: How long to wait, 0 or more.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"snoozed for {seconds} s")
        if seconds < 0:
            msg = f"seconds: {seconds!r} must be 0 or more"
            raise ConfigurationError(msg)
        self.seconds = seconds


class Reject(JobControl):
    """Raised by a task: end as a dead letter now, whatever retries are left.

    Args:
        reason: Kept as the error of the dead letter.
    """

    def __init__(self, reason: str = "rejected by the task") -> None:
        super().__init__(reason)
        self.reason = reason


class JobCancelledError(JobControl):
    """Raised by ``current_job.check_cancelled()`` when cancellation was asked for."""
