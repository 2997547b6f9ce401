"""One stored schedule."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskito.backends.params import NewSchedule
from taskito.schedule import Schedule

__all__ = ["StoredSchedule"]


@dataclass(slots=True, eq=False, kw_only=True)
class StoredSchedule:
    """What code declared, and how far it has come.

    Attributes:
        declared: As the last worker that started has it.
        schedule: Its line, read.
        next_ms: The fire that comes next, or is due; None if there is none.
        last_ms: The last fire that made a job.
        last_job: The id of that job.
        jobs: Ids of jobs that it made and that may not have ended.
        waiting: Fires that wait for the end of a job, oldest first.
    """

    declared: NewSchedule
    schedule: Schedule
    next_ms: int | None
    paused: bool = False
    last_ms: int | None = None
    last_job: str | None = None
    fired: int = 0
    skipped: int = 0
    jobs: list[str] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
