"""What plugins are told about jobs, workers and queues.

Each event is seen in the process in which it happens: an enqueue in the producer, a start and an
end in the worker. What the store does by itself (an expiry, the cancellation of dependents, the
takeover of a dead worker's job) happens in no process of yours and is no event.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Event",
    "JobCancelled",
    "JobDead",
    "JobEnqueued",
    "JobEvent",
    "JobFinished",
    "JobLost",
    "JobRetried",
    "JobSnoozed",
    "JobStarted",
    "QueueEvent",
    "QueuePaused",
    "QueueResumed",
    "WorkerEvent",
    "WorkerStarted",
    "WorkerStopped",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events.

    Attributes:
        at_ms: When it happened, in milliseconds since the Unix epoch, by this process's clock.
    """

    at_ms: int


@dataclass(frozen=True, slots=True)
class JobEvent(Event):
    """Base of what happens to one job.

    Attributes:
        job_id: The job.
        task: The name of its task.
        queue: The name of its queue.
    """

    job_id: str
    task: str
    queue: str


@dataclass(frozen=True, slots=True)
class JobEnqueued(JobEvent):
    """A new job was stored. A call that yields an existing job is no event."""


@dataclass(frozen=True, slots=True)
class JobStarted(JobEvent):
    """An attempt was handed to task code.

    Attributes:
        attempt: Failures and timeouts before it.
        worker: The id of the worker.
    """

    attempt: int
    worker: str


@dataclass(frozen=True, slots=True)
class _JobEnded(JobEvent):
    """Base of the ends of an attempt, as this worker reports them to the store.

    Attributes:
        attempt: Failures and timeouts before it.
        worker: The id of the worker.
        duration: Seconds from the start.
    """

    attempt: int
    worker: str
    duration: float


@dataclass(frozen=True, slots=True)
class JobFinished(_JobEnded):
    """The task returned, and its result could be encoded."""


@dataclass(frozen=True, slots=True)
class JobRetried(_JobEnded):
    """The attempt failed, and another one follows.

    Attributes:
        error: The error in one line.
    """

    error: str


@dataclass(frozen=True, slots=True)
class JobDead(_JobEnded):
    """The attempt failed, and none follows: the job is a dead letter.

    Attributes:
        error: The error in one line.
    """

    error: str


@dataclass(frozen=True, slots=True)
class JobSnoozed(_JobEnded):
    """The task asked to run again later, without using up an attempt.

    Attributes:
        delay: Seconds until then.
    """

    delay: float


@dataclass(frozen=True, slots=True)
class JobLost(_JobEnded):
    """A running attempt was lost, with its lease or with the child process that it ran in.

    The job runs again; after too many crashes it is a dead letter instead.

    Attributes:
        error: What is known about it.
    """

    error: str


@dataclass(frozen=True, slots=True)
class JobCancelled(JobEvent):
    """The job was cancelled before it started, or noticed the request while it ran.

    Attributes:
        reason: Why.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class WorkerEvent(Event):
    """Base of what happens to a worker.

    Attributes:
        worker: Its id.
        pid: Its process.
    """

    worker: str
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerStarted(WorkerEvent):
    """A worker begins.

    Attributes:
        queues: The queues that it serves; None serves all.
        concurrency: Attempts at a time.
    """

    queues: tuple[str, ...] | None
    concurrency: int


@dataclass(frozen=True, slots=True)
class WorkerStopped(WorkerEvent):
    """A worker has ended.

    Attributes:
        error: Why it had to, in one line; None after a graceful stop.
    """

    error: str | None


@dataclass(frozen=True, slots=True)
class QueueEvent(Event):
    """Base of what happens to a named queue.

    Attributes:
        queue: Its name.
    """

    queue: str


@dataclass(frozen=True, slots=True)
class QueuePaused(QueueEvent):
    """A queue was paused from this process."""


@dataclass(frozen=True, slots=True)
class QueueResumed(QueueEvent):
    """A queue was resumed from this process."""
