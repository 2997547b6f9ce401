"""Everything that a store shows, so that two moments can be compared."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from taskito.backends import Backend, params

__all__ = ["Snapshot", "count_by_state", "every_id", "observe"]

PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a store shows at one moment. Equal before and after a call that changed nothing."""

    jobs: tuple[params.JobRecord, ...]
    counts: frozenset[params.Count]
    workers: tuple[params.WorkerRecord, ...]
    paused: tuple[str, ...] = ()
    limits: frozenset[params.LimitRecord] = frozenset()
    locks: tuple[params.LockRecord, ...] = ()
    logs: dict[str, tuple[params.LogRecord, ...]] = field(default_factory=dict)


def observe(backend: Backend) -> Snapshot:
    """Read all jobs, counts, workers, pauses, limits, locks and log lines."""
    capabilities = backend.capabilities
    ids = every_id(backend)
    jobs = tuple(record for record in backend.get(ids) if record is not None)
    logs = {}
    if capabilities.progress_log:
        logs = {job_id: tuple(backend.logs(job_id)) for job_id in ids}
    return Snapshot(
        jobs=jobs,
        counts=frozenset(count for count in backend.counts() if count.count),
        workers=tuple(backend.workers()),
        paused=tuple(backend.paused()) if capabilities.pauses else (),
        limits=frozenset(backend.limits()) if capabilities.limits else frozenset(),
        locks=tuple(backend.locks()) if capabilities.locks else (),
        logs=logs,
    )


def every_id(backend: Backend, request: params.ListRequest | None = None) -> list[str]:
    """Follow a listing to its end and return the ids, newest first."""
    request = request if request is not None else params.ListRequest(limit=PAGE)
    ids: list[str] = []
    while True:
        page = backend.list(request)
        ids += [record.id for record in page.jobs]
        if page.next is None:
            return ids
        request = replace(request, after=page.next)


def count_by_state(backend: Backend) -> dict[params.JobState, int]:
    """Return how many jobs are in each state, without the zeros."""
    found: dict[params.JobState, int] = {}
    for count in backend.counts():
        if count.count:
            found[count.state] = found.get(count.state, 0) + count.count
    return found
