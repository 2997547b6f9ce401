"""Upkeep: what has to happen because time went by, in bounded steps."""

from __future__ import annotations

from taskito.backends import Clock, params
from taskito.backends.params import ErrorKind
from taskito_example.changes import EXPIRED, end, move, promote, release, remember
from taskito_example.image import Image
from taskito_example.job import Job

__all__ = ["maintain"]


def maintain(image: Image, clock: Clock, budget: int) -> params.MaintainReply:
    """Do at most ``budget`` of each kind. What is left shows as a next due time of 0."""
    # Expiry comes before promotion: a job whose time is over is not made ready any more.
    return params.MaintainReply(
        rescued=_rescue(image, clock, budget),
        expired=_expire(image, clock, budget),
        promoted=promote(image, clock, budget),
        pruned=_prune(image, clock, budget),
        next_due_ms=_next_due_ms(image, clock),
        unknown_tasks=_unknown_tasks(image),
    )


# Dead workers -----------------------------------------------------------------------------------


def _rescue(image: Image, clock: Clock, budget: int) -> int:
    """Take back the jobs whose leases ended, those that ended first before the others."""
    over = [job for job in image.running.values() if _remaining_ms(image, clock, job) <= 0]
    over.sort(key=lambda job: (job.lease_end_ms, job.sequence))
    for job in over[:budget]:
        _take_back(image, clock, job)
    return len(over[:budget])


def _remaining_ms(image: Image, clock: Clock, job: Job) -> int:
    """Return how long a lease still lasts, 0 or less if it is over."""
    remaining = job.lease_end_ms - clock.steady_ms()
    # More than a full lease: the steady clock began anew, that is, the host was restarted.
    return remaining if remaining <= image.workers[job.worker].registration.lease_ms else 0


def _take_back(image: Image, clock: Clock, job: Job) -> None:
    if not job.started:
        release(image, clock, job, interrupted=False)
        return
    suspects = _fallen_with(image, job)
    remember(
        clock,
        job,
        ErrorKind.CRASH,
        b"\x00the worker did not renew its lease in time; it is taken for dead",
    )
    if job.cancel_reason is not None:
        end(image, clock, job, "cancel", job.cancel_reason)
        return
    if sum(suspects.values()) != 1:
        job.suspect = True
    elif suspects[job.id]:
        job.crashes += 1
        if job.crashes >= job.max_crashes:
            end(image, clock, job, "bury")
            return
    move(image, job, "crash")


def _fallen_with(image: Image, job: Job) -> dict[str, bool]:
    """Return what its worker had started when the first of its leases ended, and which are suspect.

    The leases of a dead worker may end one after the other, so this is written down once.
    """
    worker = image.workers[job.worker]
    if worker.fallen is None:
        held = image.held_by(job.worker)
        worker.fallen = {other.id: other.suspect for other in held if other.started}
        image.put_worker(worker)
    return worker.fallen


# Times ------------------------------------------------------------------------------------------


def _expire(image: Image, clock: Clock, budget: int) -> int:
    expired = 0
    while expired < budget and (job := image.expiring.first()) is not None:
        if job.expires_at is None or job.expires_at > clock.wall_ms():
            break
        end(image, clock, job, "expire", EXPIRED)
        expired += 1
    return expired


def _prune(image: Image, clock: Clock, budget: int) -> int:
    pruned = 0
    while pruned < budget and (job := image.retained.first()) is not None:
        if job.deleted_at is None or job.deleted_at > clock.wall_ms():
            break
        image.delete(job)
        pruned += 1
    return pruned


def _next_due_ms(image: Image, clock: Clock) -> int | None:
    """Return how long until the first of all times that upkeep has to look after."""
    now = clock.wall_ms()
    waits = [_remaining_ms(image, clock, job) for job in image.running.values()]
    if (job := image.due.first()) is not None:
        waits.append(job.due_ms - now)
    if (job := image.expiring.first()) is not None and job.expires_at is not None:
        waits.append(job.expires_at - now)
    if (job := image.retained.first()) is not None and job.deleted_at is not None:
        waits.append(job.deleted_at - now)
    return max(0, min(waits)) if waits else None


def _unknown_tasks(image: Image) -> tuple[str, ...]:
    known = {task for worker in image.workers.values() for task in worker.registration.tasks}
    waiting = {lane[1] for lane, index in image.lanes.items() if index.first() is not None}
    return tuple(sorted(waiting - known))
