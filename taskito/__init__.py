"""taskito: a task queue without a broker.

A Rust engine over one SQLite file; Python runs the task code and nothing else.

Example:
    >>> from taskito import Queue
    >>> queue = Queue(db_path="tasks.db")
    >>> @queue.task()
    ... def add(a: int, b: int) -> int:
    ...     return a + b
    >>> job = add.delay(2, 3)
    >>> job.result(timeout=10)  # with a worker: queue.run_worker() or the command `taskito worker`
    5
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from taskito.exceptions import (
    BackendError,
    CapabilityError,
    ConfigurationError,
    DatabaseCorruptError,
    DatabaseMovedError,
    DatabaseReadOnlyError,
    JobCancelledError,
    JobControl,
    JobFailedError,
    JobNotFoundError,
    LockLostError,
    LockTimeoutError,
    MaxRetriesExceededError,
    PayloadTooLargeError,
    QueueClosedError,
    Reject,
    ResultTimeoutError,
    Retry,
    ScheduleNotFoundError,
    SchemaVersionError,
    SerializationError,
    Snooze,
    SoftTimeoutError,
    StorageBusyError,
    StorageError,
    StorageFullError,
    TaskCancelledError,
    TaskFailedError,
    TaskitoError,
    TaskNotRegisteredError,
    UnknownWorkerError,
    WorkerError,
)

if TYPE_CHECKING:
    from taskito.app import Queue
    from taskito.app.inspection import JobPage
    from taskito.app.locking import Lock
    from taskito.app.test_mode import Recorded
    from taskito.batch import Batch
    from taskito.context import current_job
    from taskito.middleware import Middleware
    from taskito.resources import INJECTED, Resource
    from taskito.result import JobResult
    from taskito.task import Task, TaskOptions

    __version__: str

__all__ = [
    "INJECTED",
    "BackendError",
    "Batch",
    "CapabilityError",
    "ConfigurationError",
    "DatabaseCorruptError",
    "DatabaseMovedError",
    "DatabaseReadOnlyError",
    "JobCancelledError",
    "JobControl",
    "JobFailedError",
    "JobNotFoundError",
    "JobPage",
    "JobResult",
    "Lock",
    "LockLostError",
    "LockTimeoutError",
    "MaxRetriesExceededError",
    "Middleware",
    "PayloadTooLargeError",
    "Queue",
    "QueueClosedError",
    "Recorded",
    "Reject",
    "Resource",
    "ResultTimeoutError",
    "Retry",
    "ScheduleNotFoundError",
    "SchemaVersionError",
    "SerializationError",
    "Signature",
    "Snooze",
    "SoftTimeoutError",
    "StepOutcome",
    "StorageBusyError",
    "StorageError",
    "StorageFullError",
    "Task",
    "TaskCancelledError",
    "TaskFailedError",
    "TaskNotRegisteredError",
    "TaskOptions",
    "TaskitoError",
    "UnknownWorkerError",
    "WorkerError",
    "__version__",
    "chain",
    "chord",
    "chunks",
    "current_job",
    "group",
    "starmap",
]

# Loaded on first use, so that importing a part (an exception, a plugin's marker) stays cheap.
_LAZY = {
    "Batch": "taskito.batch",
    "INJECTED": "taskito.resources",
    "JobPage": "taskito.app.inspection",
    "Lock": "taskito.app.locking",
    "Recorded": "taskito.app.test_mode",
    "JobResult": "taskito.result",
    "Middleware": "taskito.middleware",
    "Queue": "taskito.app",
    "Resource": "taskito.resources",
    "Signature": "taskito.canvas",
    "StepOutcome": "taskito.canvas",
    "Task": "taskito.task",
    "TaskOptions": "taskito.task",
    "chain": "taskito.canvas",
    "chord": "taskito.canvas",
    "chunks": "taskito.canvas",
    "current_job": "taskito.context",
    "group": "taskito.canvas",
    "starmap": "taskito.canvas",
}


def __getattr__(name: str) -> Any:
    """Load a public name on its first use."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("taskito")
    elif name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
    else:
        raise AttributeError(f"module 'taskito' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
