"""Upkeep: what has to happen because time went by, in bounded steps."""

from __future__ import annotations

import heapq

from taskito.backends import params
from taskito.backends.memory import dead_letters, limits, locks, schedules
from taskito.backends.memory.exchange import release
from taskito.backends.memory.job import Job
from taskito.backends.memory.store import EXPIRED, Store
from taskito.backends.params import ErrorKind, JobState
from taskito.backends.validation import check_integer

__all__ = ["give_back", "maintain"]


def maintain(store: Store, budget: int) -> params.MaintainReply:
    """Do at most ``budget`` of each kind. What is left shows as a next due time of 0."""
    check_integer("budget", budget, 1)
    # Expiry comes before promotion: a job whose time is over is not made ready any more.
    rescued = _rescue(store, budget)
    expired = _expire(store, budget)
    promoted = store.promote(budget)
    pruned = _prune(store, budget)
    pruned += dead_letters.prune(store, budget - pruned)
    locks.forget_expired(store)
    fired = schedules.fire(store, budget)
    return params.MaintainReply(
        promoted=promoted,
        rescued=rescued,
        expired=expired,
        pruned=pruned,
        fired=fired,
        next_due_ms=_next_due_ms(store),
        unknown_tasks=_unknown_tasks(store),
        undeclared_schedules=schedules.undeclared(store),
    )


def give_back(store: Store, worker_id: str) -> None:
    """Forget a worker that says goodbye; what it holds uses no attempt."""
    worker = store.workers.get(worker_id)
    if worker is None:
        return
    for job in list(worker.running.values()):
        if not job.started:
            limits.give_back(store, job)
        release(store, job, interrupted=job.started)
    del store.workers[worker_id]


# Dead workers -----------------------------------------------------------------------------------


def _rescue(store: Store, budget: int) -> int:
    """Take back the jobs whose leases ended.

    This store learns of the death of a worker by the end of its leases only. They may end one after
    the other, so what the worker had started when the first of them ended is written down, until
    its next exchange proves that it lives.
    """
    rescued = 0
    now = store.clock.steady_ms()
    while rescued < budget and (end_ms := store.first_lease_end()) is not None and end_ms <= now:
        _, _, job = heapq.heappop(store.leases)
        _take_back(store, job)
        rescued += 1
    return rescued


def _take_back(store: Store, job: Job) -> None:
    if not job.started:
        limits.give_back(store, job)
        release(store, job, interrupted=False)
        return
    worker = store.workers[job.worker]
    if worker.fallen is None:
        worker.fallen = {
            other.id: other.suspect for other in worker.running.values() if other.started
        }
    suspects = sum(worker.fallen.values())
    store.remember(
        job,
        ErrorKind.CRASH,
        b"\x00the worker did not renew its lease in time; it is taken for dead",
    )
    if job.cancel_requested:
        store.end(job, "cancel", reason=job.cancel_reason)
        return
    if suspects == 1:
        if worker.fallen[job.id]:
            job.crashes += 1
            if job.crashes >= job.spec.max_crashes:
                store.end(job, "bury")
                return
    else:
        job.suspect = True
    store.move(job, "crash")


# Times ------------------------------------------------------------------------------------------


def _expire(store: Store, budget: int) -> int:
    """Cancel waiting jobs that had to start by now; a claimed one is its worker's to end."""
    expired = 0
    now = store.clock.wall_ms()
    while expired < budget and (at_ms := store.first_expiry()) is not None and at_ms <= now:
        job = heapq.heappop(store.expiries)[-1]
        store.end(job, "expire", reason=EXPIRED)
        expired += 1
    return expired


def _prune(store: Store, budget: int) -> int:
    pruned = 0
    now = store.clock.wall_ms()
    while pruned < budget and (at_ms := store.first_retention_end()) is not None and at_ms <= now:
        _, _, job = heapq.heappop(store.retention)
        store.delete(job)
        pruned += 1
    return pruned


def _next_due_ms(store: Store) -> int | None:
    """Return how long until the first of all times that upkeep has to look after."""
    wall, steady = store.clock.wall_ms(), store.clock.steady_ms()
    waits = [
        at_ms - wall
        for at_ms in (store.first_due(), store.first_expiry(), store.first_retention_end())
        if at_ms is not None
    ]
    if (wait_ms := dead_letters.next_due_ms(store)) is not None:
        waits.append(wait_ms)
    if (end_ms := store.first_lease_end()) is not None:
        waits.append(end_ms - steady)
    if (fire_ms := schedules.next_fire_ms(store)) is not None:
        waits.append(fire_ms)
    return max(0, min(waits)) if waits else None


def _unknown_tasks(store: Store) -> tuple[str, ...]:
    known = {task for worker in store.workers.values() for task in worker.registration.tasks}
    waiting = {task for _, task, state, _ in store.counts if state is JobState.READY}
    return tuple(sorted(waiting - known))
