"""Enqueueing new jobs, and finished ones once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from taskito.backends import params
from taskito.backends.ids import new_job_id, parse_job_id
from taskito.backends.memory.job import Job
from taskito.backends.memory.store import Store, inherited_reason
from taskito.backends.params import JobState, NewJob, Why
from taskito.backends.validation import check_new_jobs
from taskito.exceptions import JobNotFoundError

__all__ = ["enqueue", "replay"]


@dataclass(slots=True)
class _Plan:
    """What a batch would add to the store, so that it can still be refused as a whole."""

    answers: list[params.Enqueued] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    unique_keys: dict[str, str] = field(default_factory=dict)
    idempotency_keys: dict[str, str] = field(default_factory=dict)


def enqueue(store: Store, jobs: Sequence[NewJob]) -> list[params.Enqueued]:
    """Store a batch in one atom: all of it, or nothing if one item is refused."""
    check_new_jobs(jobs)
    plan = _Plan()
    for index, spec in enumerate(jobs):
        _plan_item(store, plan, index, spec)
    for job in plan.jobs.values():
        store.add(job)
    return plan.answers


def replay(store: Store, request: params.ReplayRequest) -> list[str | None]:
    """Enqueue each finished job again; None for one that does not qualify.

    The new job is due at once and does not expire. Keys stay with the old one: whoever asks for a
    replay by id wants a run, so it cannot be a duplicate.
    """
    return [_replay_one(store, job_id, request.dead_only) for job_id in request.ids]


def _plan_item(store: Store, plan: _Plan, index: int, spec: NewJob) -> None:
    parents = _parents(store, plan, index, spec)
    holder = _holder(store, plan, spec)
    if holder is not None:
        plan.answers.append(params.Enqueued(id=holder, duplicate=True))
        return
    job = _new_job(store, store.last_sequence + len(plan.jobs) + 1, spec, parents)
    plan.answers.append(params.Enqueued(id=job.id))
    plan.jobs[job.id] = job
    if spec.unique_key is not None and job.state is not JobState.CANCELLED:
        plan.unique_keys[spec.unique_key] = job.id
    if spec.idempotency_key is not None:
        plan.idempotency_keys[spec.idempotency_key] = job.id


def _parents(store: Store, plan: _Plan, index: int, spec: NewJob) -> dict[str, Job]:
    """Return the jobs that an item depends on, each once, by id."""
    parents: dict[str, Job] = {}
    for dependency in spec.depends_on:
        if isinstance(dependency, int):
            parent_id = plan.answers[dependency].id
        else:
            parent_id = parse_job_id(dependency) or dependency
        parent = plan.jobs.get(parent_id) or store.jobs.get(parent_id)
        if parent is None:
            raise JobNotFoundError(f"item {index}: depends_on: no job has the id {dependency!r}")
        parents[parent_id] = parent
    return parents


def _holder(store: Store, plan: _Plan, spec: NewJob) -> str | None:
    """Return the job that has the id or a key of an item already."""
    given = parse_job_id(spec.id) if spec.id is not None else None
    if given is not None and (given in plan.jobs or given in store.jobs):
        return given
    if spec.unique_key is not None:
        key = spec.unique_key
        holder = plan.unique_keys.get(key) or store.unique_keys.get(key)
        if holder is not None:
            return holder
    if spec.idempotency_key is not None:
        key = spec.idempotency_key
        return plan.idempotency_keys.get(key) or store.idempotency_keys.get(key)
    return None


def _new_job(store: Store, sequence: int, spec: NewJob, parents: dict[str, Job]) -> Job:
    now = store.clock.wall_ms()
    given = parse_job_id(spec.id) if spec.id is not None else None
    pending = sum(parent.state is not JobState.COMPLETE for parent in parents.values())
    due_ms = now
    if spec.eta_ms is not None:
        due_ms = max(now, spec.eta_ms)
    elif not pending:
        # A delay of a job with dependencies counts from the moment the last one completes.
        due_ms = now + spec.delay_ms
    expires_ms = spec.expires_at_ms if spec.expires_in_ms is None else now + spec.expires_in_ms
    job = Job(
        id=given or new_job_id(now, sequence),
        sequence=sequence,
        spec=spec,
        state=JobState.READY,
        created_ms=now,
        due_ms=due_ms,
        expires_ms=expires_ms,
        dependencies=tuple(parents),
        pending=pending,
    )
    ended = [p for p in parents.values() if p.state in (JobState.DEAD, JobState.CANCELLED)]
    if ended:
        job.state = JobState.CANCELLED
        job.reason = inherited_reason(ended[0])
    elif job.pending:
        job.state = JobState.BLOCKED
    elif due_ms > now:
        job.state = JobState.SCHEDULED
        job.why = Why.DELAY
    return job


def _replay_one(store: Store, job_id: str, dead_only: bool) -> str | None:
    old = store.jobs.get(parse_job_id(job_id) or job_id)
    if old is None or old.state not in params.FINAL_STATES:
        return None
    if dead_only and (old.state is not JobState.DEAD or old.replayed_as is not None):
        return None
    spec = replace(
        old.spec,
        id=None,
        delay_ms=0,
        eta_ms=None,
        expires_in_ms=None,
        expires_at_ms=None,
        unique_key=None,
        idempotency_key=None,
        depends_on=(),
    )
    job = _new_job(store, store.last_sequence + 1, spec, {})
    job.original_id = old.id
    job.schedule, job.fire_ms = old.schedule, old.fire_ms
    old.replayed_as = job.id
    store.add(job)
    return job.id
