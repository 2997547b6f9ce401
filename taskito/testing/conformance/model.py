"""The simplest possible model of a store: plain dicts, and the rules of the seam taken literally.

Nothing here is fast, and nothing is shared with a backend. Which jobs may be claimed is a filter
over all jobs; whether a key is held is a search through all jobs. Where the seam leaves something
open (how a delay was rounded, who is blamed if leases of one worker end one after the other), the
model holds ``None``, and ``observation`` takes over what the store did.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from taskito.backends import params
from taskito.backends.base import Clock
from taskito.backends.params import FINAL_STATES, Condition, ErrorKind, JobState, Verdict, Why
from taskito.testing.conformance.allowance import Allowances

__all__ = ["WAITING", "Model", "ModelError", "ModelJob", "ModelLock", "ModelWorker"]

WAITING = frozenset({JobState.BLOCKED, JobState.SCHEDULED, JobState.READY})


@dataclass(frozen=True, slots=True)
class ModelError:
    """One entry of a history; ``detail`` is None where the store writes its own text."""

    run: int
    attempt: int
    kind: ErrorKind
    detail: bytes | None


@dataclass(slots=True, eq=False, kw_only=True)
class ModelJob:
    """One job of the model.

    Attributes:
        number: Its place in the order of enqueueing.
        due_ms: When it may start; None where the store decides.
        lease_end_ms: Steady time at which the lease is over.
        holds_key: Whether it still has its unique key, if it has one and has not ended.
        suspect: Whether it ran beside a crash; None where the seam leaves that open.
        waits_for: What it waits for, by id.
        missing: Positions in ``waits_for`` of what has not ended.
        blamed: Ids of which its reason names one, if it was cancelled because of a dependency.
    """

    id: str
    number: int
    spec: params.NewJob
    state: JobState
    created_ms: int
    due_ms: int | None
    expires_ms: int | None = None
    why: Why | None = None
    attempt: int = 0
    crashes: int = 0
    token: int = 0
    worker: str = ""
    lease_end_ms: int = 0
    started: bool = False
    ever_started: bool = False
    started_ms: int | None = None
    finished_ms: int = 0
    suspect: bool | None = False
    cancel_reason: str | None = None
    reason: str | None = None
    result: tuple[bytes, str] | None = None
    progress: int | None = None
    original_id: str | None = None
    replayed_as: str | None = None
    schedule: str | None = None
    fire_ms: int | None = None
    dependencies: tuple[str, ...] = ()
    waits_for: tuple[params.Dependency, ...] = ()
    missing: set[int] = field(default_factory=set)
    holds_key: bool = True
    blamed: tuple[str, ...] = ()
    errors: list[ModelError] = field(default_factory=list)
    logs: list[tuple[int, str, str]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class ModelWorker:
    """A registered worker.

    Attributes:
        partly_rescued: Set between a rescue of some of its runs and its next exchange.
    """

    registration: params.WorkerRegistration
    partly_rescued: bool = False


@dataclass(slots=True)
class ModelLock:
    """A named lock and its holder, until ``deadline_ms`` of steady time."""

    token: int
    deadline_ms: int


class Model:
    """All that a store of one namespace promises to know.

    Args:
        clock: The clock that the store under test has, too.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.jobs: dict[str, ModelJob] = {}
        self.workers: dict[str, ModelWorker] = {}
        self.paused: set[str] = set()
        self.allowances = Allowances(self)
        self.dead_letter_limit = params.DeadLetterLimit()
        self.locks: dict[str, ModelLock] = {}
        self.last_lock_token = 0
        self.enqueued = 0

    def in_state(self, *states: JobState) -> Iterator[ModelJob]:
        """Return the jobs in these states."""
        return (job for job in self.jobs.values() if job.state in states)

    def held_by(self, worker: str) -> list[ModelJob]:
        """Return the jobs that a worker runs."""
        return [job for job in self.in_state(JobState.RUNNING) if job.worker == worker]

    # Enqueueing ---------------------------------------------------------------------------------

    def holders(self, spec: params.NewJob) -> set[str]:
        """Return the jobs because of which a new one would be a duplicate."""
        return {
            job.id
            for job in self.jobs.values()
            if (spec.id is not None and spec.id == job.id)
            or (
                spec.unique_key is not None
                and spec.unique_key == job.spec.unique_key
                and job.holds_key
                and job.state not in FINAL_STATES
            )
            or (
                spec.idempotency_key is not None
                and spec.idempotency_key == job.spec.idempotency_key
            )
        }

    def holders_of_key(self, job: ModelJob) -> set[str]:
        """Return who holds the unique key of a job now."""
        return {
            other.id
            for other in self.jobs.values()
            if other.spec.unique_key == job.spec.unique_key
            and other.holds_key
            and other.state not in FINAL_STATES
        }

    def add(
        self, id: str, spec: params.NewJob, waits_for: tuple[params.Dependency, ...]
    ) -> ModelJob:
        """Add a job that is no duplicate."""
        now = self.clock.wall_ms()
        self.enqueued += 1
        expires_ms = spec.expires_at_ms
        if spec.expires_in_ms is not None:
            expires_ms = now + spec.expires_in_ms
        job = ModelJob(
            id=id,
            number=self.enqueued,
            spec=spec,
            state=JobState.READY,
            created_ms=now,
            due_ms=None,
            expires_ms=expires_ms,
            dependencies=tuple(dict.fromkeys(str(edge.job) for edge in waits_for)),
            waits_for=waits_for,
            missing={
                position
                for position, edge in enumerate(waits_for)
                if self.jobs[str(edge.job)].state not in FINAL_STATES
            },
        )
        self.jobs[id] = job
        job.state = JobState.BLOCKED
        self._reconsider(job)
        return job

    def can_replay(self, job: ModelJob | None, request: params.ReplayRequest) -> bool:
        """Return whether a job can be run again as the request wants it."""
        if job is None or job.state not in FINAL_STATES:
            return False
        if (request.dead_only or request.once) and job.replayed_as is not None:
            return False
        if request.dead_only and job.state is not JobState.DEAD:
            return False
        # Not "is there a job of this id": a caller may have given the id of a deleted job again.
        return all(edge.job in job.dependencies for edge in job.waits_for if edge.input)

    def replay(self, old: ModelJob, new_id: str, renewed: dict[str, str]) -> None:
        """Add the job that runs a finished one again.

        Args:
            old: The finished job.
            new_id: The new one.
            renewed: What the same request has run again so far, the new ids by the old ones.
        """
        waits_for = tuple(
            replace(edge, job=renewed.get(str(edge.job)) or self._latest(str(edge.job)))
            for edge in old.waits_for
            if edge.job in renewed or edge.input
        )
        spec = replace(
            old.spec,
            id=None,
            delay_ms=0,
            eta_ms=None,
            expires_in_ms=None,
            expires_at_ms=None,
            unique_key=None,
            unique_until_start=False,
            idempotency_key=None,
            depends_on=(),
        )
        new = self.add(new_id, spec, waits_for)
        new.original_id = old.id
        new.schedule, new.fire_ms = old.schedule, old.fire_ms
        old.replayed_as = new_id
        renewed[old.id] = new_id

    def _latest(self, job_id: str) -> str:
        """Return the last run of a job that is still known."""
        while (newer := self.jobs[job_id].replayed_as) in self.jobs:
            job_id = str(newer)
        return job_id

    def inputs_of(
        self, job: ModelJob, found: tuple[params.JobInput, ...]
    ) -> tuple[params.JobInput, ...]:
        """Return what the worker of a job gets to know of its inputs.

        Args:
            job: The claimed job.
            found: What the store said; texts that it may choose are taken from there.
        """
        parents = [self.jobs[str(edge.job)] for edge in job.waits_for if edge.input]
        said = [*found, *[None] * len(parents)]
        return tuple(
            params.JobInput(
                id=parent.id,
                state=parent.state,
                result=None if parent.result is None else parent.result[0],
                serializer=None if parent.result is None else parent.result[1],
                error=_error_of(parent, None if other is None else other.error),
                reason=parent.reason or (None if other is None else other.reason),
            )
            for parent, other in zip(parents, said, strict=False)
        )

    def is_needed(self, job: ModelJob) -> bool:
        """Return whether a job that has not ended needs to know how this one ended."""
        return any(
            edge.job == job.id and (edge.input or edge.condition is params.Condition.FAILURE)
            for other in self.jobs.values()
            if other.state not in FINAL_STATES
            for edge in other.waits_for
        )

    # Attempts -----------------------------------------------------------------------------------

    def holds(self, worker: str, lease: params.Lease) -> bool:
        """Return whether nobody has ended this lease of this worker."""
        job = self.jobs.get(lease.id)
        return job is not None and (job.state, job.token, job.worker) == (
            JobState.RUNNING,
            lease.token,
            worker,
        )

    def verdict(self, worker: str, lease: params.Lease) -> Verdict:
        """Return the answer to a settlement under this lease; a deadline alone ends nothing."""
        if lease.id not in self.jobs:
            return Verdict.GONE
        return Verdict.OK if self.holds(worker, lease) else Verdict.STALE

    def candidates(self, worker: str, *, promote: bool) -> list[ModelJob]:
        """Return every job that a worker could be given now, in the order of claims.

        Args:
            worker: Who asks.
            promote: Whether the store looks at jobs that became due since the last upkeep.
        """
        now = self.clock.wall_ms()
        who = self.workers[worker].registration
        waiting = [
            job
            for job in self.jobs.values()
            if (job.state is JobState.READY or (promote and self.is_due(job)))
            and (who.queues is None or job.spec.queue in who.queues)
            and job.spec.task in who.tasks
            and job.spec.queue not in self.paused
            and not self.is_expired(job)
        ]
        return sorted(waiting, key=lambda job: (-job.spec.priority, job.due_ms or now, job.number))

    def claim(self, job: ModelJob, worker: str, token: int) -> None:
        """Give a job to a worker."""
        job.state, job.why = JobState.RUNNING, None
        job.token, job.worker, job.started = token, worker, False
        job.progress = None
        if job.spec.unique_until_start:
            job.holds_key = False
        self.allowances.take(job)
        self.renew(job)

    def renew(self, job: ModelJob) -> None:
        """Let a lease last for a full lease time from now."""
        lease_ms = self.workers[job.worker].registration.lease_ms
        job.lease_end_ms = self.clock.steady_ms() + lease_ms

    def start(self, job: ModelJob, ago_ms: int) -> None:
        """Note that an attempt has begun."""
        job.started = job.ever_started = True
        job.started_ms = self.clock.wall_ms() - ago_ms

    def settle(self, job: ModelJob, outcome: params.Outcome) -> None:
        """Do what an accepted outcome asks for."""
        now = self.clock.wall_ms()
        if not job.started:
            self.allowances.give_back(job)
        match outcome:
            case params.OutcomeSuccess():
                job.result = (outcome.result, outcome.serializer)
                self.end(job, JobState.COMPLETE)
            case params.OutcomeRetry():
                self._remember(job, outcome.kind, outcome.error)
                over = outcome.kind is ErrorKind.CRASH and job.crashes >= job.spec.max_crashes
                if job.cancel_reason is not None:
                    self.end(job, JobState.CANCELLED, job.cancel_reason)
                elif over:
                    self.end(job, JobState.DEAD)
                else:
                    self._go_on(job, Why.RETRY, now + outcome.delay_ms)
            case params.OutcomeDead():
                self._remember(job, outcome.kind, outcome.error)
                self.end(job, JobState.DEAD)
            case params.OutcomeCancelled():
                self.end(job, JobState.CANCELLED, outcome.reason)
            case params.OutcomeSnooze():
                if job.cancel_reason is not None:
                    self.end(job, JobState.CANCELLED, job.cancel_reason)
                else:
                    self._go_on(job, Why.SNOOZE, now + outcome.delay_ms)
            case params.OutcomeRelease():
                self.release(job, interrupted=outcome.interrupted)

    def release(self, job: ModelJob, *, interrupted: bool) -> None:
        """Give a job back without using an attempt."""
        if interrupted:
            self._remember(job, ErrorKind.INTERRUPTED, b"")
        self.back_to_ready(job)

    def unregister(self, worker: str) -> None:
        """Take a worker away."""
        for job in self.held_by(worker):
            if not job.started:
                self.allowances.give_back(job)
            self.release(job, interrupted=job.started)
        del self.workers[worker]

    def back_to_ready(self, job: ModelJob) -> None:
        """Put a running job where it was before its claim, or end it if that was asked for."""
        if job.cancel_reason is not None:
            self.end(job, JobState.CANCELLED, job.cancel_reason)
        else:
            job.state, job.started = JobState.READY, False
            if not job.ever_started and not self.holders_of_key(job):
                job.holds_key = True

    def crash(self, job: ModelJob) -> None:
        """Write a crash of the present run, seen by the store, into the history."""
        job.errors.append(ModelError(job.token, job.attempt, ErrorKind.CRASH, None))

    def _remember(self, job: ModelJob, kind: ErrorKind, detail: bytes) -> None:
        """Write a history entry, and count the attempt or the crash."""
        job.errors.append(ModelError(job.token, job.attempt, kind, detail))
        job.attempt += kind in (ErrorKind.FAILURE, ErrorKind.TIMEOUT)
        job.crashes += kind is ErrorKind.CRASH

    def _go_on(self, job: ModelJob, why: Why, due_ms: int) -> None:
        job.state, job.why, job.due_ms = JobState.SCHEDULED, why, due_ms
        job.started = job.suspect = False

    # Ends ---------------------------------------------------------------------------------------

    def end(self, job: ModelJob, state: JobState, reason: str | None = None) -> None:
        """Bring a job to a final state, with what follows for its dependents."""
        job.state, job.why, job.reason = state, None, reason
        job.started = job.suspect = False
        job.cancel_reason = None
        job.finished_ms = self.clock.wall_ms()
        for child in list(self.jobs.values()):
            closed = {place for place in child.missing if child.waits_for[place].job == job.id}
            if closed and child.state is JobState.BLOCKED:
                child.missing -= closed
                self._reconsider(child)

    def _reconsider(self, job: ModelJob) -> None:
        """Decide about a blocked job from how those have ended that it waits for."""
        ended = [
            (edge.condition, self.jobs[str(edge.job)].state is not JobState.COMPLETE)
            for place, edge in enumerate(job.waits_for)
            if place not in job.missing and edge.job in job.dependencies
        ]
        on_failure = [failed for condition, failed in ended if condition is Condition.FAILURE]
        if any(failed for condition, failed in ended if condition is Condition.SUCCESS):
            job.blamed = job.dependencies
            self.end(job, JobState.CANCELLED)
        elif not job.missing and on_failure and not any(on_failure):
            self.end(job, JobState.CANCELLED, params.SKIPPED)
        elif not job.missing:
            due_ms = self.clock.wall_ms() + job.spec.delay_ms
            self._wait_for(job, max(job.spec.eta_ms or 0, due_ms))

    def _wait_for(self, job: ModelJob, due_ms: int) -> None:
        """Let a job wait for its time, if that is to come."""
        if due_ms > self.clock.wall_ms():
            job.state, job.why, job.due_ms = JobState.SCHEDULED, Why.DELAY, due_ms
        else:
            job.state, job.why, job.due_ms = JobState.READY, None, None

    # Times --------------------------------------------------------------------------------------

    def is_due(self, job: ModelJob) -> bool:
        """Return whether a scheduled job's time has come."""
        return (
            job.state is JobState.SCHEDULED
            and job.due_ms is not None
            and job.due_ms <= self.clock.wall_ms()
        )

    def is_expired(self, job: ModelJob) -> bool:
        """Return whether a waiting job had to start by now and never did."""
        return (
            job.state in WAITING
            and not job.ever_started
            and job.expires_ms is not None
            and job.expires_ms <= self.clock.wall_ms()
        )

    def is_prunable(self, job: ModelJob) -> bool:
        """Return whether a finished job has been kept for long enough."""
        ttl = job.spec.result_ttl_ms
        return (
            job.state in FINAL_STATES
            and ttl is not None
            and job.finished_ms + ttl <= self.clock.wall_ms()
            and not self.is_needed(job)
        )

    def surplus(self) -> set[str]:
        """Return the dead letters beyond the limit, which upkeep may delete."""
        limit, now = self.dead_letter_limit, self.clock.wall_ms()
        dead = sorted(self.in_state(JobState.DEAD), key=lambda job: (job.finished_ms, job.number))
        too_many = 0 if limit.most is None else max(0, len(dead) - limit.most)
        dead = [job for job in dead if not self.is_needed(job)]
        old = [
            job
            for job in dead
            if limit.ttl_ms is not None and job.finished_ms + limit.ttl_ms <= now
        ]
        return {job.id for job in (*dead[:too_many], *old)}

    def is_locked(self, name: str, token: int | None = None) -> bool:
        """Return whether a lock is held, under this token or at all."""
        lock = self.locks.get(name)
        return (
            lock is not None
            and lock.deadline_ms > self.clock.steady_ms()
            and token in (None, lock.token)
        )

    def is_over(self, job: ModelJob) -> bool:
        """Return whether a running job's lease has ended."""
        return job.state is JobState.RUNNING and job.lease_end_ms <= self.clock.steady_ms()

    def waits_ms(self) -> list[int]:
        """Return how long it is until each thing that upkeep has to do by itself."""
        wall, steady = self.clock.wall_ms(), self.clock.steady_ms()
        waits: list[int] = [0] if self.surplus() else []
        ttl = self.dead_letter_limit.ttl_ms
        for job in self.jobs.values():
            if job.state is JobState.SCHEDULED and job.due_ms is not None:
                waits.append(job.due_ms - wall)
            if job.state in WAITING and not job.ever_started and job.expires_ms is not None:
                waits.append(job.expires_ms - wall)
            kept = job.spec.result_ttl_ms is not None and not self.is_needed(job)
            if job.state in FINAL_STATES and kept:
                waits.append(job.finished_ms + (job.spec.result_ttl_ms or 0) - wall)
            if job.state is JobState.DEAD and ttl is not None and not self.is_needed(job):
                waits.append(job.finished_ms + ttl - wall)
            if job.state is JobState.RUNNING:
                waits.append(job.lease_end_ms - steady)
        return [max(0, wait) for wait in waits]


def _error_of(job: ModelJob, said: bytes | None) -> bytes | None:
    """Return the last error of a dead job; what the store wrote by itself is taken from it."""
    if job.state is not JobState.DEAD or not job.errors:
        return None
    detail = job.errors[-1].detail
    return said if detail is None else detail
