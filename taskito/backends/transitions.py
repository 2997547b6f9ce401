"""The table of legal transitions, as the engine enforces it.

A job changes its state by an event and in no other way. The table itself lives in the native
engine; the memory backend, the conformance kit and the diagram in the documentation read it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from taskito._core import INITIAL_STATES as _INITIAL
from taskito._core import STATES as _STATES
from taskito._core import TRANSITIONS as _TABLE
from taskito.backends.params import FINAL_STATES, JobState
from taskito.exceptions import BackendError

__all__ = [
    "EVENTS",
    "INITIAL_STATES",
    "STATES",
    "TRANSITIONS",
    "as_mermaid",
    "is_legal",
    "next_state",
]

STATES: tuple[JobState, ...] = tuple(JobState(state) for state in _STATES)
"""Every state, in the order of a job's life."""

INITIAL_STATES: frozenset[JobState] = frozenset(JobState(state) for state in _INITIAL)
"""States in which an accepted job may begin."""

TRANSITIONS: Mapping[tuple[JobState, str], JobState] = MappingProxyType(
    {(JobState(state), event): JobState(target) for state, event, target in _TABLE}
)
"""Every legal transition: (state, event) leads to a state."""

EVENTS: tuple[str, ...] = tuple(dict.fromkeys(event for _, event in TRANSITIONS))
"""The names of the events, in the order of their first appearance in the table."""


def is_legal(state: JobState, event: str) -> bool:
    """Return whether ``event`` may happen to a job in ``state``."""
    return (state, event) in TRANSITIONS


def next_state(state: JobState, event: str) -> JobState:
    """Return where ``event`` takes a job in ``state``.

    Raises:
        BackendError: That is not legal: a mistake in the backend, never in its use.

    Example:
        >>> next_state(JobState.READY, "claim")
        <JobState.RUNNING: 'running'>
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise BackendError(f"event {event!r} is not legal for a job in state {state!r}") from None


def as_mermaid() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {state}" for state in STATES if state in INITIAL_STATES]
    lines += [
        f"    {state} --> {target}: {event}" for (state, event), target in TRANSITIONS.items()
    ]
    lines += [f"    {state} --> [*]" for state in STATES if state in FINAL_STATES]
    return "\n".join(lines) + "\n"
