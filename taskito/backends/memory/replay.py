"""Running finished jobs again, as new jobs."""

from __future__ import annotations

from dataclasses import replace

from taskito.backends import params
from taskito.backends.memory.enqueue import new_job
from taskito.backends.memory.inspection import find
from taskito.backends.memory.job import Job
from taskito.backends.memory.store import Store
from taskito.backends.params import JobState

__all__ = ["replay"]


def replay(store: Store, request: params.ReplayRequest) -> list[str | None]:
    """Enqueue each finished job again; None for one that does not qualify.

    The new job is due at once and does not expire. Keys stay with the old one: whoever asks for a
    replay by id wants a run, so it cannot be a duplicate.
    """
    if request.once and any(_qualified(store, job_id, request) is None for job_id in request.ids):
        return [None] * len(request.ids)
    renewed: dict[str, str] = {}
    answers: list[str | None] = []
    for job_id in request.ids:
        old = _qualified(store, job_id, request)
        answers.append(None if old is None else _replay_one(store, old, renewed))
    return answers


def _qualified(store: Store, job_id: str, request: params.ReplayRequest) -> Job | None:
    old = find(store, job_id)
    if old is None or old.state not in params.FINAL_STATES:
        return None
    if (request.dead_only or request.once) and old.replayed_as is not None:
        return None
    if request.dead_only and old.state is not JobState.DEAD:
        return None
    if any(edge.input and edge.job not in old.dependencies for edge in old.edges):
        return None
    return old


def _replay_one(store: Store, old: Job, renewed: dict[str, str]) -> str:
    edges: list[tuple[params.Dependency, Job]] = []
    for edge in old.edges:
        parent_id = renewed.get(str(edge.job))
        if parent_id is not None:
            parent = store.jobs[parent_id]
        elif edge.input:
            parent = _latest(store, store.jobs[str(edge.job)])
        else:
            continue
        edges.append((replace(edge, job=parent.id), parent))
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
    job = new_job(store, store.last_sequence + 1, spec, edges)
    job.original_id = old.id
    job.schedule, job.fire_ms = old.schedule, old.fire_ms
    old.replayed_as = job.id
    store.add(job)
    renewed[old.id] = job.id
    return job.id


def _latest(store: Store, job: Job) -> Job:
    """Return the job that runs this one again, and again, as far as it is still stored."""
    while job.replayed_as in store.jobs:
        job = store.jobs[job.replayed_as]
    return job
