"""What a job waits for: its edges, and what the end of a parent does to them."""

from __future__ import annotations

from collections.abc import Iterable

from taskito.backends.memory.job import Job
from taskito.backends.params import (
    FINAL_STATES,
    SKIPPED,
    Condition,
    Dependency,
    JobInput,
    JobState,
)

__all__ = ["decide", "has_failed", "inherited_reason", "inputs_of", "is_needed"]


def has_failed(job: Job) -> bool:
    """Whether a job has ended, and not as complete."""
    return job.state in FINAL_STATES and job.state is not JobState.COMPLETE


def decide(edges: Iterable[tuple[Dependency, Job]]) -> tuple[int, str | None]:
    """Decide what the present states of its parents make of a new job.

    Returns:
        How many edges are open, and the reason for which the job ends at once, if it does.
    """
    pending = 0
    on_failure = failed = False
    for dependency, parent in edges:
        if dependency.condition == Condition.SUCCESS and has_failed(parent):
            return 0, inherited_reason(parent)
        if dependency.condition == Condition.FAILURE:
            on_failure = True
            failed = failed or has_failed(parent)
        pending += parent.state not in FINAL_STATES
    if not pending and on_failure and not failed:
        return 0, SKIPPED
    return pending, None


def inherited_reason(parent: Job) -> str:
    """Return why the dependents of a job that is dead or cancelled are cancelled."""
    ended = "failed" if parent.state is JobState.DEAD else "was cancelled"
    return f"it depended on job {parent.id}, which {ended}"


def is_needed(parent: Job, children: Iterable[Job]) -> bool:
    """Whether a job that has not ended needs to know how ``parent`` ended."""
    for child in children:
        if child.state in FINAL_STATES:
            continue
        edges = parent.dependents[child.id]
        if any(edge.input or edge.condition == Condition.FAILURE for edge in edges):
            return True
    return False


def inputs_of(edges: Iterable[tuple[Dependency, Job]]) -> tuple[JobInput, ...]:
    """Describe how the parents ended whose results a job takes."""
    return tuple(
        JobInput(
            id=parent.id,
            state=parent.state,
            serializer=parent.result_serializer,
            result=parent.result,
            error=parent.errors[-1].detail
            if parent.state is JobState.DEAD and parent.errors
            else None,
            reason=parent.reason,
        )
        for dependency, parent in edges
        if dependency.input
    )
