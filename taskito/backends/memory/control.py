"""What people and tasks ask for: cancel, purge, pause, progress, log lines."""

from __future__ import annotations

from taskito.backends import params
from taskito.backends.memory.inspection import find
from taskito.backends.memory.job import Job
from taskito.backends.memory.store import Store
from taskito.backends.params import CancelVerdict, JobState
from taskito.backends.validation import check_integer, check_name, check_purge

__all__ = ["append_log", "cancel", "pause", "purge", "resume", "set_progress", "unstarted"]

MAX_PERCENT = 100


def cancel(store: Store, request: params.CancelRequest) -> list[CancelVerdict]:
    """Cancel jobs one after the other; a dependent named later is final by then and refused."""
    return [_cancel_one(store, job_id, request) for job_id in request.ids]


def purge(store: Store, request: params.PurgeRequest) -> int:
    """Delete finished jobs, those that ended first before the others."""
    check_purge(request)
    if request.ids:
        named = [find(store, job_id) for job_id in request.ids]
        wanted = {job.id for job in named if job is not None}
        candidates = [job for job in store.finished.values() if job.id in wanted]
    else:
        candidates = list(store.finished.values())
    ended_by = store.clock.wall_ms() - request.older_than_ms
    chosen = [
        job for job in candidates if _may_go(job, request, ended_by) and not store.is_needed(job)
    ][: request.limit]
    for job in chosen:
        store.delete(job)
    return len(chosen)


def pause(store: Store, queue: str) -> None:
    """Let no job of this queue be claimed; running ones go on."""
    check_name("queue", queue)
    if queue not in store.paused:
        store.paused.add(queue)
        store.announce()


def resume(store: Store, queue: str) -> None:
    """Let jobs of this queue be claimed again."""
    check_name("queue", queue)
    if queue in store.paused:
        store.paused.remove(queue)
        store.announce()


def unstarted(store: Store, queue: str) -> list[str]:
    """Return the workers that hold jobs of a queue whose start they have not reported."""
    return sorted(
        worker_id
        for worker_id, worker in store.workers.items()
        if any(job.spec.queue == queue and not job.started for job in worker.running.values())
    )


def set_progress(store: Store, id: str, token: int | None, percent: int) -> bool:
    """Store the progress of a running job, if the lease is current."""
    check_integer("percent", percent, 0, MAX_PERCENT)
    job = find(store, id)
    if job is None or job.state is not JobState.RUNNING or token not in (None, job.token):
        return False
    job.progress = percent
    return True


def append_log(store: Store, lease: params.Lease, level: str, message: str) -> bool:
    """Append a line to the log of a running job, if the lease is current."""
    check_name("level", level)
    job = find(store, lease.id)
    if job is None or not job.holds(lease):
        return False
    line = params.LogRecord(
        run=job.token, at_ms=store.clock.wall_ms(), level=level, message=message
    )
    job.logs.append(line)
    return True


def _cancel_one(store: Store, id: str, request: params.CancelRequest) -> CancelVerdict:
    job = find(store, id)
    if job is None or job.state in params.FINAL_STATES:
        return CancelVerdict.REFUSED
    if job.state is not JobState.RUNNING:
        store.end(job, "cancel", reason=request.reason)
        return CancelVerdict.DONE
    if not request.running:
        return CancelVerdict.REFUSED
    if job.cancel_reason is None:
        job.cancel_reason = request.reason
    store.announce()
    return CancelVerdict.REQUESTED


def _may_go(job: Job, request: params.PurgeRequest, ended_by: int) -> bool:
    return (
        (not request.states or job.state in request.states)
        and (request.queue is None or job.spec.queue == request.queue)
        and (request.task is None or job.spec.task == request.task)
        and job.finished_ms is not None
        and job.finished_ms <= ended_by
    )
