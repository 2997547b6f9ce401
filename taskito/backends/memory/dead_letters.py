"""How many dead letters are kept, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from taskito.backends import params
from taskito.backends.memory.job import Job
from taskito.backends.memory.store import Store
from taskito.backends.params import JobState

__all__ = ["announce", "next_due_ms", "prune"]


def announce(store: Store, limit: params.DeadLetterLimit) -> None:
    """Keep what a worker says; the last one started counts."""
    store.dead_letter_limit = limit


def prune(store: Store, budget: int) -> int:
    """Delete the oldest dead letters beyond the limit, at most ``budget``; return how many."""
    limit = store.dead_letter_limit
    if limit == params.DeadLetterLimit():
        return 0
    now = store.clock.wall_ms()
    too_many = 0 if limit.most is None else _count(store) - limit.most
    pruned = 0
    for job in list(islice(_oldest_first(store), budget)):
        is_old = limit.ttl_ms is not None and (job.finished_ms or 0) + limit.ttl_ms <= now
        if pruned >= too_many and not is_old:
            break
        store.delete(job)
        pruned += 1
    return pruned


def next_due_ms(store: Store) -> int | None:
    """Return how long until the first dead letter is one too many or too old."""
    limit = store.dead_letter_limit
    oldest = next(_oldest_first(store), None) if limit != params.DeadLetterLimit() else None
    if oldest is not None and limit.most is not None and _count(store) > limit.most:
        return 0
    if oldest is None or limit.ttl_ms is None:
        return None
    return max(0, (oldest.finished_ms or 0) + limit.ttl_ms - store.clock.wall_ms())


def _count(store: Store) -> int:
    return sum(count for key, count in store.counts.items() if key[2] is JobState.DEAD)


def _oldest_first(store: Store) -> Iterator[Job]:
    """Return the dead letters by the time of their end, then in the order of enqueueing.

    Those that are kept for a job that has not ended are left out.
    """
    dead = [
        job
        for job in store.finished.values()
        if job.state is JobState.DEAD and not store.is_needed(job)
    ]
    return iter(sorted(dead, key=lambda job: (job.finished_ms or 0, job.sequence)))
