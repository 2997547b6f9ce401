"""How a stored job looks from outside: its public status, its errors, what it waits for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from taskito.backends.base import Backend
from taskito.backends.params import (
    FINAL_STATES,
    ErrorKind,
    ErrorRecord,
    JobRecord,
    JobState,
    LimitedBy,
    Why,
)
from taskito.config import check_choice
from taskito.errors import StoredError, decode_error

__all__ = [
    "STATUSES",
    "error_to_dict",
    "is_final",
    "last_error",
    "public_status",
    "retry_count",
    "root_of",
    "selected_states",
    "waiting_on",
]

STATUSES = ("pending", "running", "complete", "failed", "dead", "cancelled")
"""The six values of ``JobResult.status``."""

_BY_STATE: Mapping[JobState, str] = MappingProxyType(
    {
        JobState.BLOCKED: "pending",
        JobState.SCHEDULED: "pending",
        JobState.READY: "pending",
        JobState.RUNNING: "running",
        JobState.COMPLETE: "complete",
        JobState.DEAD: "dead",
        JobState.CANCELLED: "cancelled",
    }
)

_LIMITS: Mapping[LimitedBy, str] = MappingProxyType(
    {LimitedBy.RATE: "rate_limit", LimitedBy.CONCURRENCY: "concurrency"}
)

_WAITING_PENDING = (Why.DELAY, Why.SNOOZE)

_DEPENDED_ON = re.compile(r"it depended on job (\S+), which (?:failed|was cancelled)$")


def public_status(state: JobState, why: Why | None) -> str:
    """Return the public name of a state; "failed" exactly while a job waits for its retry."""
    if state is JobState.SCHEDULED and why is Why.RETRY:
        return "failed"
    return _BY_STATE[state]


def selected_states(status: str | None) -> tuple[tuple[JobState, ...], tuple[Why, ...]]:
    """Return the states, and the reasons of scheduled jobs, that a public status stands for.

    Raises:
        ConfigurationError: There is no such status.
    """
    if status is None:
        return (), ()
    status = check_choice("status", status, STATUSES)
    if status == "failed":
        return (JobState.SCHEDULED,), (Why.RETRY,)
    states = tuple(state for state, name in _BY_STATE.items() if name == status)
    return states, _WAITING_PENDING if status == "pending" else ()


def waiting_on(backend: Backend, record: JobRecord) -> str | None:
    """Return what keeps a job from running; None if nothing does, or if it is past waiting."""
    if record.state is JobState.BLOCKED:
        return "dependencies"
    if record.state is JobState.SCHEDULED:
        return "retry" if record.why is Why.RETRY else "delay"
    if record.state is not JobState.READY:
        return None
    if backend.capabilities.pauses and record.queue in backend.paused():
        return "paused"
    if not any(
        record.task in worker.tasks and (worker.queues is None or record.queue in worker.queues)
        for worker in backend.workers()
    ):
        return "no worker knows this task"
    return None if record.limited_by is None else _LIMITS[record.limited_by]


def retry_count(record: JobRecord) -> int:
    """Return how many retries a job has had or waits for; never more than it may have."""
    return min(record.attempt, record.max_retries)


def last_error(record: JobRecord) -> StoredError | None:
    """Return the error of the last attempt that did not succeed; None if there was none."""
    for entry in reversed(record.errors):
        if entry.kind is not ErrorKind.INTERRUPTED:
            return decode_error(entry.detail, kind=entry.kind)
    return None


def error_to_dict(record: JobRecord, entry: ErrorRecord) -> dict[str, Any]:
    """Return one entry of a job's history: who, when, and what went wrong.

    ``id``, ``job_id``, ``attempt`` (from 0), ``error`` (one line), ``failed_at`` (ms since the
    epoch), ``kind``, ``traceback`` (text or None), ``worker``.
    """
    error = decode_error(entry.detail, kind=entry.kind)
    return {
        "id": f"{record.id}:{entry.run}",
        "job_id": record.id,
        "attempt": entry.attempt,
        "error": error.summary or str(entry.kind),
        "failed_at": entry.at_ms,
        "kind": str(entry.kind),
        "traceback": error.traceback or None,
        "worker": entry.worker,
    }


def is_final(record: JobRecord) -> bool:
    """Return whether nothing will change the state of this job any more."""
    return record.state in FINAL_STATES


def root_of(backend: Backend, record: JobRecord) -> JobRecord:
    """Return the job because of which this one was cancelled; itself if none other was.

    The reason of a cancelled dependent names the job that it depended on, which may have been
    cancelled because of another one in turn.
    """
    while record.state is JobState.CANCELLED:
        named = _DEPENDED_ON.match(record.reason or "")
        parent = None if named is None else backend.get([named[1]])[0]
        if parent is None:
            return record
        record = parent
    return record
