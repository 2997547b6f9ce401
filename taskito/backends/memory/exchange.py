"""The round trip of a worker: note starts, settle, renew, claim, in that order."""

from __future__ import annotations

import heapq

from taskito.backends import params
from taskito.backends.memory import limits, schedules
from taskito.backends.memory.job import Job
from taskito.backends.memory.store import EXPIRED, Lane, Store, Worker
from taskito.backends.params import ErrorKind, JobState, Verdict, Why
from taskito.backends.validation import check_exchange
from taskito.exceptions import UnknownWorkerError

__all__ = ["exchange", "release"]

PROMOTIONS = 1_000
"""The most scheduled jobs that one exchange makes ready on its way."""


def exchange(store: Store, request: params.ExchangeRequest) -> params.ExchangeReply:
    """Serve one exchange.

    A lease is current until it is settled or taken back by upkeep; that its time is over does not
    end it by itself.
    """
    check_exchange(request)
    worker = store.workers.get(request.worker)
    if worker is None:
        raise UnknownWorkerError(
            f"worker {request.worker} is not registered with this store; call register first"
        )
    worker.fallen = None
    for start in request.starts:
        job = store.jobs.get(start.lease.id)
        if job is not None and _holds(worker, job, start.lease):
            _note_start(store, job, start.ago_ms)
    verdicts = tuple(_settle(store, worker, settlement) for settlement in request.settlements)
    lost = tuple(lease for lease in request.renewals if not _renew(store, worker, lease))
    if request.want:
        store.promote(PROMOTIONS)
    # Requests are collected before the claims: a job that was claimed just now cannot have one.
    cancel_requests = tuple(job.id for job in worker.running.values() if job.cancel_requested)
    idle = request.want if request.idle is None else request.idle
    jobs = tuple(_claim(store, worker, request, idle))
    waits = (
        store.next_due_ms(),
        schedules.next_fire_ms(store),
        _next_token_ms(store, worker) if request.want else None,
    )
    return params.ExchangeReply(
        verdicts=verdicts,
        jobs=jobs,
        lost=lost,
        cancel_requests=cancel_requests,
        paused=tuple(sorted(store.paused)),
        next_due_ms=min((wait for wait in waits if wait is not None), default=None),
    )


# Settlements ------------------------------------------------------------------------------------


def _holds(worker: Worker, job: Job, lease: params.Lease) -> bool:
    return job.holds(lease) and job.id in worker.running


def _note_start(store: Store, job: Job, ago_ms: int) -> None:
    job.started = job.ever_started = True
    job.started_ms = store.clock.wall_ms() - ago_ms


def _renew(store: Store, worker: Worker, lease: params.Lease) -> bool:
    job = store.jobs.get(lease.id)
    if job is None or not _holds(worker, job, lease):
        return False
    store.extend_lease(job, worker)
    return True


def _settle(store: Store, worker: Worker, settlement: params.Settlement) -> Verdict:
    job = store.jobs.get(settlement.lease.id)
    if job is None:
        return Verdict.GONE
    if not _holds(worker, job, settlement.lease):
        return Verdict.STALE
    if settlement.started_ago_ms is not None:
        _note_start(store, job, settlement.started_ago_ms)
    if not job.started:
        limits.give_back(store, job)
    _apply(store, job, settlement.outcome)
    return Verdict.OK


def _apply(store: Store, job: Job, outcome: params.Outcome) -> None:
    """Do what an accepted outcome asks for.

    A run that ended, however it ended, has shown that the job is no danger to its worker: the mark
    of a suspect goes. A run that was given back has shown nothing.
    """
    match outcome:
        case params.OutcomeSuccess():
            job.result = outcome.result
            job.result_serializer = outcome.serializer
            store.end(job, "succeed")
        case params.OutcomeRetry():
            store.remember(job, outcome.kind, outcome.error)
            if _charge(job, outcome.kind) and not job.cancel_requested:
                store.end(job, "bury")
            else:
                _go_on(store, job, "retry", Why.RETRY, outcome.delay_ms)
        case params.OutcomeDead():
            store.remember(job, outcome.kind, outcome.error)
            if outcome.kind is not ErrorKind.REJECTED:
                _charge(job, outcome.kind)
            store.end(job, "bury")
        case params.OutcomeCancelled():
            event = "expire" if outcome.reason == EXPIRED else "cancel"
            store.end(job, event, reason=outcome.reason)
        case params.OutcomeSnooze():
            _go_on(store, job, "snooze", Why.SNOOZE, outcome.delay_ms)
        case params.OutcomeRelease():
            release(store, job, interrupted=outcome.interrupted)


def _charge(job: Job, kind: ErrorKind) -> bool:
    """Count an attempt that did not succeed; return whether a crash was one too many.

    Crashes are counted apart. How many failures are allowed is the worker's decision, which knows
    the task; how many crashes there were is known here only.
    """
    if kind is not ErrorKind.CRASH:
        job.attempt += 1
        return False
    job.crashes += 1
    return job.crashes >= job.spec.max_crashes


def _go_on(store: Store, job: Job, event: str, why: Why, delay_ms: int) -> None:
    """Let a job wait and run again, unless its cancellation was asked for meanwhile."""
    if job.cancel_requested:
        store.end(job, "cancel", reason=job.cancel_reason)
        return
    job.suspect = False
    store.move(job, event, why=why, due_ms=store.clock.wall_ms() + delay_ms)


def release(store: Store, job: Job, *, interrupted: bool) -> None:
    """Give a running job back without using an attempt; it keeps its place in the order."""
    if interrupted:
        store.remember(job, ErrorKind.INTERRUPTED)
    if job.cancel_requested:
        store.end(job, "cancel", reason=job.cancel_reason)
    else:
        store.move(job, "release")


# Claims -----------------------------------------------------------------------------------------


def _claim(
    store: Store, worker: Worker, request: params.ExchangeRequest, idle: int
) -> list[params.ClaimedJob]:
    """Claim up to ``want`` jobs, the best heads of the lanes that are open and asked for.

    A job under a limit is claimed only if one of the ``idle`` executors can start it at once. If
    not, nothing behind it is claimed either: it would be started first, again and again.

    Suspects wait in lanes of their own, so that the one that is already running closes those lanes
    and the others behind it are not looked at.
    """
    claimed: list[params.ClaimedJob] = []
    heads = [
        (store.lanes[lane][0][0], lane)
        for lane in list(store.lanes)
        if request.want
        and (request.tasks is None or lane[1] in request.tasks)
        and _is_open(store, worker, lane)
        and _clean(store, lane)
    ]
    heapq.heapify(heads)
    suspect_runs = any(job.suspect for job in worker.running.values())
    while heads and len(claimed) < request.want:
        _, lane = heapq.heappop(heads)
        head = store.lanes[lane][0][1]
        if (lane[2] and suspect_runs) or limits.limited_by(store, head) is not None:
            continue
        if limits.applies(store, head) and len(claimed) >= idle:
            break
        _, job = heapq.heappop(store.lanes[lane])
        if has_expired(store, job):
            store.end(job, "expire", reason=EXPIRED)
        else:
            store.claim(job, worker)
            limits.take(store, job)
            suspect_runs = suspect_runs or job.suspect
            claimed.append(_describe(store, job))
        if _clean(store, lane):
            heapq.heappush(heads, (store.lanes[lane][0][0], lane))
    return claimed


def _is_open(store: Store, worker: Worker, lane: Lane) -> bool:
    queue, task, _, _ = lane
    served = worker.registration.queues
    return (
        (served is None or queue in served)
        and task in worker.registration.tasks
        and queue not in store.paused
    )


def _next_token_ms(store: Store, worker: Worker) -> int | None:
    """Return how long until a rate lets this worker have a job; None if it is not that."""
    heads = [
        store.lanes[lane][0][1]
        for lane in list(store.lanes)
        if _is_open(store, worker, lane) and _clean(store, lane)
    ]
    waits = [
        limits.wait_ms(store, head)
        for head in heads
        if limits.limited_by(store, head) is params.LimitedBy.RATE
    ]
    return min(waits, default=None)


def _clean(store: Store, lane: Lane) -> bool:
    """Drop what is no longer ready from the top of a lane; return whether something is left."""
    heap = store.lanes[lane]
    while heap and heap[0][1].state is not JobState.READY:
        heapq.heappop(heap)
    if not heap:
        del store.lanes[lane]
    return bool(heap)


def has_expired(store: Store, job: Job) -> bool:
    """Whether a job had to start by now and never did."""
    return (
        job.expires_ms is not None
        and not job.ever_started
        and job.expires_ms <= store.clock.wall_ms()
    )


def _describe(store: Store, job: Job) -> params.ClaimedJob:
    spec = job.spec
    expires_in_ms = None
    if job.expires_ms is not None and not job.ever_started:
        expires_in_ms = job.expires_ms - store.clock.wall_ms()
    return params.ClaimedJob(
        lease=params.Lease(id=job.id, token=job.token),
        task=spec.task,
        queue=spec.queue,
        payload=spec.payload,
        serializer=spec.serializer,
        metadata=spec.metadata,
        priority=spec.priority,
        attempt=job.attempt,
        max_retries=spec.max_retries,
        timeout_ms=spec.timeout_ms,
        expires_in_ms=expires_in_ms,
        schedule=job.schedule,
        fire_ms=job.fire_ms,
        suspect=job.suspect,
        inputs=store.inputs_of(job),
    )
