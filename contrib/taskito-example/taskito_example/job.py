"""One stored job: its fields, its form as JSON, and its description for readers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from taskito.backends import params
from taskito.backends.params import FINAL_STATES, ErrorKind, ErrorRecord, JobState, Why

__all__ = ["Job", "Lane"]

Lane = tuple[str, str, bool]
"""Queue, task, and whether it holds suspects."""


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """One stored job.

    Attributes:
        sequence: Grows with every job: the order of enqueueing.
        run: The token of the present or last lease, 0 before the first.
        worker: Who holds it, or held it last.
        lease_end_ms: Steady time at which the present lease may be taken back.
        started: Whether task code has begun in the present run.
        started_ms: When it began last, in any run; such a job expires no more.
        suspect: It was running beside others when their worker died.
        cancel_reason: Set when its worker was asked to stop it.
    """

    id: str
    sequence: int
    task: str
    queue: str
    payload: bytes
    serializer: str
    metadata: bytes | None
    priority: int
    max_retries: int
    max_crashes: int
    timeout_ms: int
    result_ttl_ms: int | None
    created_ms: int
    due_ms: int
    expires_ms: int | None
    state: JobState = JobState.READY
    why: Why | None = None
    attempt: int = 0
    crashes: int = 0
    run: int = 0
    worker: str = ""
    lease_end_ms: int = 0
    started: bool = False
    started_ms: int | None = None
    suspect: bool = False
    cancel_reason: str | None = None
    finished_ms: int | None = None
    reason: str | None = None
    result: bytes | None = None
    result_serializer: str | None = None
    errors: tuple[ErrorRecord, ...] = ()

    @property
    def lane(self) -> Lane:
        """Return where it waits for a claim: all jobs of a lane are open to the same workers."""
        return self.queue, self.task, self.suspect

    def rank_in(self, lane: Lane) -> tuple[int, int, int] | None:
        """Return its place in a lane: by priority, then due time, then order; None if not there."""
        if self.state is not JobState.READY or self.lane != lane:
            return None
        return -self.priority, self.due_ms, self.sequence

    @property
    def due_at(self) -> int | None:
        """Return when it becomes ready, if it waits for that."""
        return self.due_ms if self.state is JobState.SCHEDULED else None

    @property
    def expires_at(self) -> int | None:
        """Return when it expires, if it waits and never began."""
        waits = self.state in (JobState.SCHEDULED, JobState.READY)
        return self.expires_ms if waits and self.started_ms is None else None

    @property
    def deleted_at(self) -> int | None:
        """Return when it is to be deleted, if it is finished and not kept for ever."""
        if self.finished_ms is None or self.result_ttl_ms is None:
            return None
        return self.finished_ms + self.result_ttl_ms

    def to_json(self) -> dict[str, Any]:
        """Return all fields, for the journal."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Job:
        """Make the job that ``to_json`` described."""
        errors = tuple(
            ErrorRecord(**{**error, "kind": ErrorKind(error["kind"])}) for error in data["errors"]
        )
        why = None if data["why"] is None else Why(data["why"])
        return cls(**{**data, "state": JobState(data["state"]), "why": why, "errors": errors})

    def to_record(self, namespace: str, *, whole: bool) -> params.JobRecord:
        """Describe it; without payload, result and errors unless ``whole``."""
        values = {name: getattr(self, name) for name in _RECORDED}
        if not whole:
            values |= {"payload": b"", "result": None, "errors": ()}
        if not self.worker or self.state not in (*FINAL_STATES, JobState.RUNNING):
            values["worker"] = None
        return params.JobRecord(
            namespace=namespace, cancel_requested=self.cancel_reason is not None, **values
        )


_RECORDED = {field.name for field in fields(Job)} & {
    field.name for field in fields(params.JobRecord)
}
