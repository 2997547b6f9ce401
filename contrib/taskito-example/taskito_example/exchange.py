"""The round trip of a worker: note starts, settle, renew, claim, in that order."""

from __future__ import annotations

from taskito.backends import Clock, params
from taskito.backends.params import ErrorKind, Lease, Verdict, Why
from taskito.exceptions import UnknownWorkerError
from taskito_example.changes import (
    EXPIRED,
    claim,
    end,
    extend_lease,
    move,
    promote,
    release,
    remember,
)
from taskito_example.image import Image, Worker
from taskito_example.job import Job, Lane

__all__ = ["exchange"]

PROMOTIONS = 1_000
"""The most scheduled jobs that one exchange makes ready on its way."""


def exchange(image: Image, clock: Clock, request: params.ExchangeRequest) -> params.ExchangeReply:
    """Serve one exchange."""
    worker = image.workers.get(request.worker)
    if worker is None:
        raise UnknownWorkerError(
            f"worker {request.worker} is not registered with this store; call register first"
        )
    if worker.fallen is not None:
        worker.fallen = None
        image.put_worker(worker)
    for start in request.starts:
        job = _held(image, worker, start.lease)
        if job is not None:
            _note_start(image, clock, job, start.ago_ms)
    verdicts = tuple(_settle(image, clock, worker, report) for report in request.settlements)
    lost = tuple(lease for lease in request.renewals if not _renew(image, clock, worker, lease))
    # A job that is claimed only now cannot have been asked to stop.
    asked = tuple(job.id for job in image.held_by(request.worker) if job.cancel_reason is not None)
    claimed: list[params.ClaimedJob] = []
    if request.want:
        promote(image, clock, PROMOTIONS)
        claimed = _claim(image, clock, worker, request)
    due = image.due.first()
    return params.ExchangeReply(
        verdicts=verdicts,
        jobs=tuple(claimed),
        lost=lost,
        cancel_requests=asked,
        next_due_ms=None if due is None else max(0, due.due_ms - clock.wall_ms()),
    )


# Settlements ------------------------------------------------------------------------------------


def _held(image: Image, worker: Worker, lease: Lease) -> Job | None:
    """Return the job that this worker holds under this lease, None if the lease is over."""
    job = image.running.get(lease.id)
    if job is None or (job.worker, job.run) != (worker.registration.id, lease.token):
        return None
    return job


def _settle(image: Image, clock: Clock, worker: Worker, report: params.Settlement) -> Verdict:
    if report.lease.id not in image.jobs:
        return Verdict.GONE
    job = _held(image, worker, report.lease)
    if job is None:
        return Verdict.STALE
    if report.started_ago_ms is not None:
        _note_start(image, clock, job, report.started_ago_ms)
    _apply(image, clock, job, report.outcome)
    return Verdict.OK


def _renew(image: Image, clock: Clock, worker: Worker, lease: Lease) -> bool:
    job = _held(image, worker, lease)
    if job is None:
        return False
    extend_lease(clock, job, worker)
    image.put(job)
    return True


def _note_start(image: Image, clock: Clock, job: Job, ago_ms: int) -> None:
    job.started = True
    job.started_ms = clock.wall_ms() - ago_ms
    image.put(job)


def _apply(image: Image, clock: Clock, job: Job, outcome: params.Outcome) -> None:
    """Do what an accepted outcome asks for."""
    match outcome:
        case params.OutcomeSuccess():
            job.result = outcome.result
            job.result_serializer = outcome.serializer
            end(image, clock, job, "succeed")
        case params.OutcomeRetry():
            remember(clock, job, outcome.kind, outcome.error)
            if _charge(job, outcome.kind) and job.cancel_reason is None:
                end(image, clock, job, "bury")
            else:
                _go_on(image, clock, job, "retry", outcome.delay_ms)
        case params.OutcomeDead():
            remember(clock, job, outcome.kind, outcome.error)
            if outcome.kind is not ErrorKind.REJECTED:
                _charge(job, outcome.kind)
            end(image, clock, job, "bury")
        case params.OutcomeCancelled():
            event = "expire" if outcome.reason == EXPIRED else "cancel"
            end(image, clock, job, event, outcome.reason)
        case params.OutcomeSnooze():
            _go_on(image, clock, job, "snooze", outcome.delay_ms)
        case params.OutcomeRelease():
            release(image, clock, job, interrupted=outcome.interrupted)


def _charge(job: Job, kind: ErrorKind) -> bool:
    """Count an attempt that did not succeed; return whether a crash was one too many.

    How many failures are allowed is the worker's decision; how many crashes there were is known
    here only.
    """
    if kind is not ErrorKind.CRASH:
        job.attempt += 1
        return False
    job.crashes += 1
    return job.crashes >= job.max_crashes


def _go_on(image: Image, clock: Clock, job: Job, event: str, delay_ms: int) -> None:
    """Let a job wait and run again, unless its cancellation was asked for meanwhile."""
    if job.cancel_reason is not None:
        end(image, clock, job, "cancel", job.cancel_reason)
        return
    # A run that ended has shown that the job is no danger to its worker.
    job.suspect = False
    move(image, job, event, why=Why(event), due_ms=clock.wall_ms() + delay_ms)


# Claims -----------------------------------------------------------------------------------------


def _claim(
    image: Image, clock: Clock, worker: Worker, request: params.ExchangeRequest
) -> list[params.ClaimedJob]:
    """Claim up to ``want`` jobs: each time the best of the first jobs of the open lanes."""
    claimed: list[params.ClaimedJob] = []
    lanes = {
        lane: index
        for lane, index in image.lanes.items()
        if _is_open(worker, lane) and (request.tasks is None or lane[1] in request.tasks)
    }
    suspect_runs = any(job.suspect for job in image.held_by(worker.registration.id))
    while len(claimed) < request.want:
        firsts = [
            job
            for lane, index in lanes.items()
            if not (suspect_runs and lane[-1]) and (job := index.first()) is not None
        ]
        if not firsts:
            break
        job = min(firsts, key=_order)
        if job.expires_at is not None and job.expires_at <= clock.wall_ms():
            end(image, clock, job, "expire", EXPIRED)
            continue
        claim(image, clock, job, worker)
        suspect_runs = suspect_runs or job.suspect
        claimed.append(_describe(clock, job))
    return claimed


def _is_open(worker: Worker, lane: Lane) -> bool:
    queue, task, _ = lane
    served = worker.registration.queues
    return (served is None or queue in served) and task in worker.registration.tasks


def _order(job: Job) -> tuple[int, int, int]:
    return -job.priority, job.due_ms, job.sequence


def _describe(clock: Clock, job: Job) -> params.ClaimedJob:
    expires_in_ms = None
    if job.expires_ms is not None and job.started_ms is None:
        expires_in_ms = job.expires_ms - clock.wall_ms()
    return params.ClaimedJob(
        lease=Lease(id=job.id, token=job.run),
        task=job.task,
        queue=job.queue,
        payload=job.payload,
        serializer=job.serializer,
        metadata=job.metadata,
        priority=job.priority,
        attempt=job.attempt,
        max_retries=job.max_retries,
        timeout_ms=job.timeout_ms,
        expires_in_ms=expires_in_ms,
        suspect=job.suspect,
    )
