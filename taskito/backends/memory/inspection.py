"""Reading: records, pages, counts and workers. Everything returned is a snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from taskito.backends import params
from taskito.backends.ids import parse_job_id
from taskito.backends.memory.job import Job, to_record
from taskito.backends.memory.limits import limited_by
from taskito.backends.memory.store import Store
from taskito.backends.params import JobState
from taskito.backends.validation import check_integer, check_list

__all__ = ["counts", "find", "get", "get_workflow", "list_jobs", "list_workflows", "workers"]

PAGE_STEP = 10_000
"""The most rows that one page looks at."""


def find(store: Store, id: str) -> Job | None:
    """Return the job with this id, in whatever form the id is written."""
    return store.jobs.get(parse_job_id(id) or id)


def get(store: Store, ids: Sequence[str]) -> list[params.JobRecord | None]:
    """Return the whole record of each job."""
    return [
        None if job is None else _whole_record(store, job)
        for job in [find(store, job_id) for job_id in ids]
    ]


def _whole_record(store: Store, job: Job) -> params.JobRecord:
    limit = limited_by(store, job) if job.state is JobState.READY else None
    return to_record(job, store.namespace, whole=True, limited_by=limit)


def list_jobs(store: Store, request: params.ListRequest) -> params.Page:
    """Walk down from the newest job, or from the position given, for a bounded number of rows."""
    check_list(request)
    top = store.last_sequence
    if request.after is not None:
        top = min(top, request.after - 1)
    bottom = max(0, top - PAGE_STEP)
    rows: list[params.JobRecord] = []
    position = top
    members = None
    if request.workflow is not None:
        workflow = store.workflows.get(request.workflow)
        members = {} if workflow is None else workflow.jobs
    while position > bottom and len(rows) < request.limit:
        job = store.by_sequence.get(position)
        if members is not None and job is not None and job.id not in members:
            job = None
        if job is not None and _matches(job, request):
            rows.append(to_record(job, store.namespace, whole=False))
        position -= 1
    oldest = next(iter(store.by_sequence), top + 1)
    return params.Page(jobs=tuple(rows), next=position + 1 if position >= oldest else None)


def counts(store: Store) -> list[params.Count]:
    """Return the counters, which every change of a state keeps."""
    return [
        params.Count(queue=queue, task=task, state=state, retrying=retrying, count=count)
        for (queue, task, state, retrying), count in sorted(store.counts.items())
    ]


def workers(store: Store) -> list[params.WorkerRecord]:
    """Return the registered workers in the order of their registration."""
    return [
        params.WorkerRecord(
            id=worker.registration.id,
            pid=worker.registration.pid,
            host=worker.registration.host,
            queues=worker.registration.queues,
            tasks=worker.registration.tasks,
            started_ms=worker.started_ms,
            running=len(worker.running),
        )
        for worker in store.workers.values()
    ]


def list_workflows(store: Store, request: params.WorkflowsRequest) -> params.WorkflowPage:
    """Return the workflows behind a position, newest first."""
    check_integer("limit", request.limit, 1, PAGE_STEP)
    behind = [
        (workflow.number, name)
        for name, workflow in store.workflows.items()
        if request.after is None or workflow.number < request.after
    ]
    page = sorted(behind, reverse=True)[: request.limit]
    return params.WorkflowPage(
        workflows=tuple(_workflow_record(store, name) for _, name in page),
        next=page[-1][0] if len(page) == request.limit else None,
    )


def get_workflow(store: Store, id: str) -> params.WorkflowRecord | None:
    """Return one workflow, None if it has no jobs."""
    return _workflow_record(store, id) if id in store.workflows else None


def _workflow_record(store: Store, id: str) -> params.WorkflowRecord:
    workflow = store.workflows[id]
    states = Counter(job.state for job in workflow.jobs.values() if job.replayed_as is None)
    return params.WorkflowRecord(
        id=id, created_ms=workflow.created_ms, counts=tuple(states.items())
    )


def _matches(job: Job, request: params.ListRequest) -> bool:
    if request.states and job.state not in request.states:
        return False
    if request.whys and job.state is JobState.SCHEDULED and job.why not in request.whys:
        return False
    if request.skip_replayed and job.state is JobState.DEAD and job.replayed_as is not None:
        return False
    return (request.queue is None or job.spec.queue == request.queue) and (
        request.task is None or job.spec.task == request.task
    )
