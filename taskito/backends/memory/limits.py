"""Rate and concurrency limits: whether a ready job may be claimed now.

How many jobs run is counted where they stand, at the workers, so that nothing can leak.
"""

from __future__ import annotations

from collections.abc import Iterator

from taskito.backends import params
from taskito.backends.memory.bucket import Bucket, Limit
from taskito.backends.memory.job import Job
from taskito.backends.memory.store import Store, Worker
from taskito.backends.params import LimitedBy, LimitKind, Rate
from taskito.backends.validation import check_integer, check_name, check_rate

__all__ = [
    "announce",
    "applies",
    "give_back",
    "limit_concurrency",
    "limit_rate",
    "limited_by",
    "records",
    "take",
    "wait_ms",
]


# What is allowed --------------------------------------------------------------------------------


def limited_by(store: Store, job: Job) -> LimitedBy | None:
    """Return the limit because of which a ready job cannot be claimed now; None if there is none.

    ``max_concurrent`` of a task is counted by the job's concurrency key.
    """
    spec = job.spec
    running = [other.spec for worker in store.workers.values() for other in worker.running.values()]
    of_key = sum(
        (other.task, other.concurrency_key) == (spec.task, spec.concurrency_key)
        for other in running
    )
    of_queue = sum(other.queue == spec.queue for other in running)
    for kind, count in ((LimitKind.TASK, of_key), (LimitKind.QUEUE, of_queue)):
        limit = _limit(store, kind, spec)
        if limit.max_concurrent is not None and count >= limit.max_concurrent:
            return LimitedBy.CONCURRENCY
    if any(bucket.tokens < 1 for _, bucket in _buckets(store, spec)):
        return LimitedBy.RATE
    return None


def applies(store: Store, job: Job) -> bool:
    """Return whether any limit is set for a job: it is claimed only for a free executor."""
    return any(
        _limit(store, kind, job.spec) != Limit() for kind in (LimitKind.TASK, LimitKind.QUEUE)
    )


def wait_ms(store: Store, job: Job) -> int:
    """Return how long it is until a job that lacks tokens has all it needs."""
    return max(bucket.wait_ms for _, bucket in _buckets(store, job.spec))


def take(store: Store, job: Job) -> None:
    """Use a token of each rate for a claim."""
    for limit, bucket in _buckets(store, job.spec):
        limit.bucket = bucket.with_units(-bucket.rate.period_ms)


def give_back(store: Store, job: Job) -> None:
    """Return the tokens of a claim that came to nothing before its start."""
    for limit, bucket in _buckets(store, job.spec):
        limit.bucket = bucket.with_units(bucket.rate.period_ms)


# What is set ------------------------------------------------------------------------------------


def announce(store: Store, worker: Worker) -> None:
    """Let the limits of a starting worker's tasks be those in force."""
    wanted = {limit.task: limit for limit in worker.registration.limits}
    for task in worker.registration.tasks:
        given = wanted.get(task, params.TaskLimit(task=task))
        _put(store, LimitKind.TASK, task, given.rate, given.max_concurrent)


def limit_rate(store: Store, queue: str, rate: Rate | None) -> None:
    """Set or take away the rate of a queue."""
    check_name("queue", queue)
    if rate is not None:
        check_rate("rate", rate)
    limit = store.limits.get((LimitKind.QUEUE, queue), Limit())
    _put(store, LimitKind.QUEUE, queue, rate, limit.max_concurrent)


def limit_concurrency(store: Store, queue: str, max_concurrent: int | None) -> None:
    """Set or take away the number of jobs of a queue that may run at a time."""
    check_name("queue", queue)
    if max_concurrent is not None:
        check_integer("max_concurrent", max_concurrent, 1)
    limit = store.limits.get((LimitKind.QUEUE, queue), Limit())
    rate = None if limit.bucket is None else limit.bucket.rate
    _put(store, LimitKind.QUEUE, queue, rate, max_concurrent)


def records(store: Store) -> list[params.LimitRecord]:
    """Return the limits in force."""
    running = [job.spec for worker in store.workers.values() for job in worker.running.values()]
    now = store.clock.steady_ms()
    return [
        params.LimitRecord(
            kind=kind,
            name=name,
            rate=None if limit.bucket is None else limit.bucket.rate,
            max_concurrent=limit.max_concurrent,
            running=sum(
                name == (spec.task if kind is LimitKind.TASK else spec.queue) for spec in running
            ),
            tokens=None if limit.bucket is None else limit.bucket.at(now).tokens,
        )
        for (kind, name), limit in sorted(store.limits.items(), key=_tasks_first)
    ]


def _tasks_first(entry: tuple[tuple[LimitKind, str], Limit]) -> tuple[bool, str]:
    (kind, name), _ = entry
    return kind is LimitKind.QUEUE, name


def _put(
    store: Store, kind: LimitKind, name: str, rate: Rate | None, max_concurrent: int | None
) -> None:
    old = store.limits.pop((kind, name), Limit())
    now = store.clock.steady_ms()
    bucket = None
    if rate is not None and old.bucket is not None:
        bucket = old.bucket if rate == old.bucket.rate else old.bucket.at(now).under(rate)
    elif rate is not None:
        bucket = Bucket(rate, rate.burst * rate.period_ms, now)
    limit = Limit(max_concurrent, bucket)
    if limit != Limit():
        store.limits[kind, name] = limit
    if limit != old:
        store.announce()


def _limit(store: Store, kind: LimitKind, spec: params.NewJob) -> Limit:
    name = spec.task if kind is LimitKind.TASK else spec.queue
    return store.limits.get((kind, name), Limit())


def _buckets(store: Store, spec: params.NewJob) -> Iterator[tuple[Limit, Bucket]]:
    """Yield the limits that a job needs a token of, with their buckets as they are now."""
    for kind in (LimitKind.TASK, LimitKind.QUEUE):
        limit = _limit(store, kind, spec)
        if limit.bucket is not None:
            yield limit, limit.bucket.at(store.clock.steady_ms())
