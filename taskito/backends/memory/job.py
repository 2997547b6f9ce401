"""One stored job, and its description for readers."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskito.backends import params
from taskito.backends.params import JobState, NewJob, Why

__all__ = ["Job", "to_record"]

_WITH_WORKER = frozenset({JobState.RUNNING, *params.FINAL_STATES})


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """One stored job. Only ``Store`` changes ``state`` and what hangs on it.

    Attributes:
        sequence: Grows with every job of the store; the order of enqueueing.
        spec: What the producer handed in.
        expires_ms: Cancelled at this instant unless it has started by then.
        worker: Who held it in the current or last run, empty before the first.
        token: The lease of the current or last run, 0 before the first.
        lease_end_ms: Steady time at which the current lease may be taken back.
        started: Whether task code has begun in the current run.
        ever_started: Whether it has begun in any run; such a job expires no more.
        suspect: It was running beside others when their worker died.
        edges: What it waits for, by id, as it was handed in.
        dependencies: The ids in ``edges``, each once, as far as these jobs are still stored.
        pending: How many of its edges are open: their job has not ended.
        dependents: By the ids of the jobs that wait for it, their edges to it; in the order of
            enqueueing.
    """

    id: str
    sequence: int
    spec: NewJob
    state: JobState
    created_ms: int
    due_ms: int
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
    finished_ms: int | None = None
    progress: int | None = None
    result: bytes | None = None
    result_serializer: str | None = None
    reason: str | None = None
    cancel_reason: str | None = None
    suspect: bool = False
    original_id: str | None = None
    replayed_as: str | None = None
    schedule: str | None = None
    fire_ms: int | None = None
    edges: tuple[params.Dependency, ...] = ()
    dependencies: dict[str, None] = field(default_factory=dict)
    pending: int = 0
    dependents: dict[str, list[params.Dependency]] = field(default_factory=dict)
    errors: list[params.ErrorRecord] = field(default_factory=list)
    logs: list[params.LogRecord] = field(default_factory=list)

    @property
    def lane(self) -> tuple[str, str, bool, str | None]:
        """The lane in which it waits for a claim: jobs that a claim may or may not take together.

        Suspects have their own, and so has each concurrency key.
        """
        return self.spec.queue, self.spec.task, self.suspect, self.spec.concurrency_key

    @property
    def rank(self) -> tuple[int, int, int]:
        """Its place among the ready: priority, then due time, then the order of enqueueing."""
        return -self.spec.priority, self.due_ms, self.sequence

    @property
    def cancel_requested(self) -> bool:
        """Whether its worker was asked to stop it."""
        return self.cancel_reason is not None

    def holds(self, lease: params.Lease) -> bool:
        """Whether ``lease`` is the current lease of this job."""
        return self.state is JobState.RUNNING and self.token == lease.token


def to_record(
    job: Job, namespace: str, *, whole: bool, limited_by: params.LimitedBy | None = None
) -> params.JobRecord:
    """Describe a job; without payload, result and errors unless ``whole``."""
    spec = job.spec
    return params.JobRecord(
        id=job.id,
        task=spec.task,
        queue=spec.queue,
        namespace=namespace,
        state=job.state,
        why=job.why,
        priority=spec.priority,
        attempt=job.attempt,
        crashes=job.crashes,
        max_retries=spec.max_retries,
        max_crashes=spec.max_crashes,
        timeout_ms=spec.timeout_ms,
        created_ms=job.created_ms,
        due_ms=job.due_ms,
        expires_ms=job.expires_ms,
        started_ms=job.started_ms,
        finished_ms=job.finished_ms,
        progress=job.progress,
        run=job.token,
        worker=job.worker if job.state in _WITH_WORKER and job.worker else None,
        unique_key=spec.unique_key,
        concurrency_key=spec.concurrency_key,
        limited_by=limited_by,
        metadata=spec.metadata,
        serializer=spec.serializer,
        payload=spec.payload if whole else b"",
        result=job.result if whole else None,
        result_serializer=job.result_serializer,
        reason=job.reason,
        cancel_requested=job.cancel_requested,
        original_id=job.original_id,
        replayed_as=job.replayed_as,
        schedule=job.schedule,
        fire_ms=job.fire_ms,
        dependencies=tuple(job.dependencies),
        dependents=tuple(job.dependents),
        waits_for=tuple(edge for edge in job.edges if edge.job in job.dependencies)
        if whole
        else (),
        workflow=spec.workflow,
        errors=tuple(job.errors) if whole else (),
    )
