"""Enqueueing new jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from taskito.backends import params
from taskito.backends.ids import new_job_id, parse_job_id
from taskito.backends.memory.edges import decide
from taskito.backends.memory.job import Job
from taskito.backends.memory.store import Store
from taskito.backends.params import JobState, NewJob, Why
from taskito.backends.validation import check_new_jobs
from taskito.exceptions import JobNotFoundError

__all__ = ["enqueue", "new_job"]


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


def _plan_item(store: Store, plan: _Plan, index: int, spec: NewJob) -> None:
    edges = _edges(store, plan, index, spec)
    holder = _holder(store, plan, spec)
    if holder is not None:
        plan.answers.append(params.Enqueued(id=holder, duplicate=True))
        return
    job = new_job(store, store.last_sequence + len(plan.jobs) + 1, spec, edges)
    plan.answers.append(params.Enqueued(id=job.id))
    plan.jobs[job.id] = job
    if spec.unique_key is not None and job.state is not JobState.CANCELLED:
        plan.unique_keys[spec.unique_key] = job.id
    if spec.idempotency_key is not None:
        plan.idempotency_keys[spec.idempotency_key] = job.id


def _edges(
    store: Store, plan: _Plan, index: int, spec: NewJob
) -> list[tuple[params.Dependency, Job]]:
    """Return what an item depends on, by id, with the jobs."""
    edges: list[tuple[params.Dependency, Job]] = []
    for given in spec.depends_on:
        dependency = given
        if not isinstance(dependency, params.Dependency):
            dependency = params.Dependency(job=dependency)
        target = dependency.job
        if isinstance(target, int):
            parent_id = plan.answers[target].id
        else:
            parent_id = parse_job_id(target) or target
        parent = plan.jobs.get(parent_id) or store.jobs.get(parent_id)
        if parent is None:
            raise JobNotFoundError(f"item {index}: depends_on: no job has the id {target!r}")
        edges.append((replace(dependency, job=parent_id), parent))
    return edges


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


def new_job(
    store: Store, sequence: int, spec: NewJob, edges: Sequence[tuple[params.Dependency, Job]]
) -> Job:
    """Make a job in the state that the present states of its parents allow."""
    now = store.clock.wall_ms()
    given = parse_job_id(spec.id) if spec.id is not None else None
    pending, reason = decide(edges)
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
        edges=tuple(dependency for dependency, _ in edges),
        dependencies=dict.fromkeys(parent.id for _, parent in edges),
        pending=pending,
    )
    if reason is not None:
        job.state = JobState.CANCELLED
        job.reason = reason
    elif job.pending:
        job.state = JobState.BLOCKED
    elif due_ms > now:
        job.state = JobState.SCHEDULED
        job.why = Why.DELAY
    return job
