"""What can happen to a job. Each function changes one job and puts it back into the image."""

from __future__ import annotations

from taskito.backends import Clock
from taskito.backends.params import ErrorKind, ErrorRecord, JobState, Why
from taskito.backends.transitions import next_state
from taskito_example.image import Image, Worker
from taskito_example.job import Job

__all__ = ["EXPIRED", "claim", "end", "extend_lease", "move", "promote", "release", "remember"]

EXPIRED = "expired"
"""The reason of a job that was not started in time."""


def move(
    image: Image, job: Job, event: str, *, why: Why | None = None, due_ms: int | None = None
) -> None:
    """Let ``event`` happen to a job that goes on; ``end`` is for one that does not."""
    job.state = next_state(job.state, event)
    job.why = why
    if due_ms is not None:
        job.due_ms = due_ms
    if job.state is not JobState.RUNNING:
        job.started = False
    image.put(job)


def end(image: Image, clock: Clock, job: Job, event: str, reason: str | None = None) -> None:
    """Bring a job to a final state."""
    job.state = next_state(job.state, event)
    job.why = None
    job.reason = reason
    job.cancel_reason = None
    job.started = job.suspect = False
    job.finished_ms = clock.wall_ms()
    image.put(job)


def claim(image: Image, clock: Clock, job: Job, worker: Worker) -> None:
    """Give a ready job to a worker, under a new lease."""
    job.run = image.last_token + 1
    job.worker = worker.registration.id
    job.started = False
    extend_lease(clock, job, worker)
    move(image, job, "claim")


def extend_lease(clock: Clock, job: Job, worker: Worker) -> None:
    """Let the lease of a running job last for a full lease time from now."""
    job.lease_end_ms = clock.steady_ms() + worker.registration.lease_ms


def release(image: Image, clock: Clock, job: Job, *, interrupted: bool) -> None:
    """Give a running job back without using an attempt; it keeps its place in the order."""
    if interrupted:
        remember(clock, job, ErrorKind.INTERRUPTED)
    if job.cancel_reason is not None:
        end(image, clock, job, "cancel", job.cancel_reason)
    else:
        move(image, job, "release")


def remember(clock: Clock, job: Job, kind: ErrorKind, detail: bytes = b"") -> None:
    """Write the present run into the history of a job."""
    entry = ErrorRecord(
        run=job.run,
        attempt=job.attempt,
        kind=kind,
        at_ms=clock.wall_ms(),
        worker=job.worker,
        detail=detail,
    )
    job.errors = (*job.errors, entry)


def promote(image: Image, clock: Clock, budget: int) -> int:
    """Make up to ``budget`` jobs ready whose time has come; return how many they were."""
    now = clock.wall_ms()
    promoted = 0
    while promoted < budget and (job := image.due.first()) is not None and job.due_ms <= now:
        move(image, job, "promote")
        promoted += 1
    return promoted
