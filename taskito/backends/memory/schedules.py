"""Schedules: what code declares, and the jobs that fires make."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from taskito.backends import params
from taskito.backends.memory.enqueue import enqueue
from taskito.backends.memory.store import Store
from taskito.backends.memory.stored_schedule import StoredSchedule
from taskito.backends.params import FINAL_STATES, CatchUp, Overlap
from taskito.backends.validation import check_new_schedules
from taskito.schedule import Schedule

__all__ = [
    "fire",
    "next_fire_ms",
    "put",
    "records",
    "set_paused",
    "trigger",
    "undeclared",
]

GRACE_MS = 10_000
"""A fire that is made at most this late is on time."""
MOST_MISSED = 1_000
"""The most missed fires of one schedule that are made good, and the most that wait."""


# What is declared -------------------------------------------------------------------------------


def put(store: Store, schedules: Sequence[params.NewSchedule]) -> None:
    """Take over what code declares; see ``Backend.put_schedules``."""
    check_new_schedules(schedules)
    for one in schedules:
        schedule = Schedule(one.line, one.timezone)
        known = store.schedules.get(one.name)
        if known is None:
            next_ms = schedule.next_after(store.clock.wall_ms())
            store.schedules[one.name] = StoredSchedule(
                declared=one, schedule=schedule, next_ms=next_ms
            )
            continue
        before, known.declared, known.schedule = known.declared, one, schedule
        if (before.line, before.timezone) != (one.line, one.timezone):
            known.next_ms = schedule.next_after(store.clock.wall_ms())
    store.announce()


def records(store: Store) -> list[params.ScheduleRecord]:
    """Return every schedule, by name."""
    declared = _declared(store)
    return [
        params.ScheduleRecord(
            name=name,
            line=one.declared.line,
            timezone=one.declared.timezone,
            catch_up=CatchUp(one.declared.catch_up),
            overlap=Overlap(one.declared.overlap),
            task=one.declared.job.task,
            queue=one.declared.job.queue,
            paused=one.paused,
            declared=name in declared,
            next_ms=one.next_ms,
            last_ms=one.last_ms,
            last_job=one.last_job,
            fired=one.fired,
            skipped=one.skipped,
            waiting=len(one.waiting),
        )
        for name, one in sorted(store.schedules.items())
    ]


def set_paused(store: Store, name: str, paused: bool) -> bool:
    """Pause or resume; a resumed schedule goes on with its first fire after now."""
    one = store.schedules.get(name)
    if one is None:
        return False
    if one.paused and not paused:
        one.next_ms = one.schedule.next_after(store.clock.wall_ms())
    one.paused = paused
    store.announce()
    return True


def trigger(store: Store, name: str) -> str | None:
    """Make a job now, whatever the schedule would do."""
    one = store.schedules.get(name)
    if one is None:
        return None
    return _make(store, one, store.clock.wall_ms()).id


def undeclared(store: Store) -> tuple[str, ...]:
    """Return the schedules that would fire, if only a registered worker declared them."""
    declared = _declared(store)
    return tuple(
        name
        for name, one in sorted(store.schedules.items())
        if name not in declared and not one.paused and one.next_ms is not None
    )


# Firing -----------------------------------------------------------------------------------------


def next_fire_ms(store: Store) -> int | None:
    """Return how long until there is a job to make; None if none is to come."""
    now = store.clock.wall_ms()
    times = [one.next_ms for one in _active(store) if one.next_ms is not None]
    times += [now for one in _active(store) if one.waiting and not _has_open_job(store, one)]
    return max(0, min(times) - now) if times else None


def fire(store: Store, budget: int) -> int:
    """Make the jobs of fires whose time has come, at most ``budget``; return how many."""
    made = 0
    left = budget
    for one in _active(store):
        if left and one.waiting and not _has_open_job(store, one):
            made += not _make(store, one, one.waiting.pop(0)).duplicate
            left -= 1
    now = store.clock.wall_ms()
    while left > 0:
        due = [one for one in _active(store) if one.next_ms is not None and one.next_ms <= now]
        if not due:
            break
        one = min(due, key=lambda one: one.next_ms or 0)
        fires, one.next_ms = _due(one, now, left)
        left -= max(1, len(fires))
        made += sum(_fire_one(store, one, at_ms) for at_ms in fires)
    return made


def _due(one: StoredSchedule, now: int, budget: int) -> tuple[list[int], int | None]:
    """Return which fires to make, and the one that comes after them."""
    first = one.next_ms
    assert first is not None  # noqa: S101 -- the caller has found it due
    fires = _newest(one.schedule, first, now)
    following = one.schedule.next_after(now)
    if now - first <= GRACE_MS or one.declared.catch_up == CatchUp.ALL:
        return fires[:budget], fires[budget] if len(fires) > budget else following
    newest = fires[-1:]
    if one.declared.catch_up == CatchUp.NONE:
        newest = [at_ms for at_ms in newest if now - at_ms <= GRACE_MS]
    return newest, following


def _newest(schedule: Schedule, first: int, now: int) -> list[int]:
    """Return the newest fires from ``first``, which is one, to now.

    A line is walked forward only, so ever longer times before now are looked at.
    """
    span = MOST_MISSED * 1_000
    while True:
        since = max(first - 1, now - span)
        fires = deque(schedule.between(since, now), maxlen=MOST_MISSED)
        if len(fires) == MOST_MISSED or since < first:
            return list(fires)
        span *= 2


def _fire_one(store: Store, one: StoredSchedule, at_ms: int) -> bool:
    """Make the job of a fire, unless an earlier one is in its way; return whether it was made."""
    overlap = one.declared.overlap
    in_the_way = overlap != Overlap.ALLOW and (
        _has_open_job(store, one) or (overlap == Overlap.QUEUE and bool(one.waiting))
    )
    if not in_the_way:
        return not _make(store, one, at_ms).duplicate
    if overlap == Overlap.QUEUE and len(one.waiting) < MOST_MISSED:
        one.waiting.append(at_ms)
    else:
        one.skipped += 1
    return False


def _make(store: Store, one: StoredSchedule, at_ms: int) -> params.Enqueued:
    [answer] = enqueue(store, [one.declared.job])
    if answer.duplicate:
        one.skipped += 1
        return answer
    job = store.jobs[answer.id]
    job.schedule, job.fire_ms = one.declared.name, at_ms
    one.last_ms, one.last_job = at_ms, job.id
    one.fired += 1
    if one.declared.overlap == Overlap.ALLOW:
        one.jobs = []
    one.jobs = [job_id for job_id in one.jobs if _is_open(store, job_id)]
    one.jobs.append(job.id)
    return answer


def _has_open_job(store: Store, one: StoredSchedule) -> bool:
    return any(_is_open(store, job_id) for job_id in one.jobs)


def _is_open(store: Store, job_id: str) -> bool:
    job = store.jobs.get(job_id)
    return job is not None and job.state not in FINAL_STATES


def _active(store: Store) -> Iterable[StoredSchedule]:
    """Return the schedules that fire: not paused, and declared by a worker."""
    declared = _declared(store)
    return [one for name, one in store.schedules.items() if name in declared and not one.paused]


def _declared(store: Store) -> set[str]:
    return {name for worker in store.workers.values() for name in worker.registration.schedules}
