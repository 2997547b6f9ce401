"""Each option reaches the store on each way of enqueueing: a table, so that none is forgotten."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import contextmanager

import pytest

from taskito import Queue, Task

DEFAULTS = {
    "default_retry": ("max_retries", 7, 7),
    "default_timeout": ("timeout_ms", 12.5, 12_500),
    "default_priority": ("priority", -3, -3),
    "result_ttl": ("result_ttl_ms", 60, 60_000),
}
"""Options of a queue: the field of a job, a value, and what is stored."""

OF_A_TASK = {
    "max_retries": ("max_retries", 9, 9),
    "timeout": ("timeout_ms", 2.5, 2_500),
    "priority": ("priority", 4, 4),
    "result_ttl": ("result_ttl_ms", 30, 30_000),
    "queue": ("queue", "special", "special"),
    "expires": ("expires_in_ms", 90, 90_000),
    "max_crashes": ("max_crashes", 5, 5),
    "serializer": ("serializer", "json", "json"),
    "unique": ("unique_until_start", "until_start", True),
}
"""Options of a task that are stored with each job."""

NOT_STORED = {
    "retry_backoff",
    "rate_limit",
    "retry_on",
    "dont_retry_on",
    "retry_delays",
    "max_retry_delay",
    "retry_jitter",
    "soft_timeout",
    "max_concurrent",
    "concurrency_key",
    "idempotent",
    "batch",
    "middleware",
    "bind",
}
"""Options that the worker keeps to, or that have tests of their own."""


def _acall(call):
    return lambda task, queue: asyncio.run(call(task, queue))


WAYS = {
    "delay": lambda task, _: task.delay(1),
    "apply_async": lambda task, _: task.apply_async((1,)),
    "map": lambda task, _: task.map([(1,)])[0],
    "enqueue": lambda task, queue: queue.enqueue(task.name, (1,)),
    "enqueue_many": lambda task, queue: queue.enqueue_many(task.name, [(1,)])[0],
    "adelay": _acall(lambda task, _: task.adelay(1)),
    "aapply_async": _acall(lambda task, _: task.aapply_async((1,))),
    "aenqueue": _acall(lambda task, queue: queue.aenqueue(task.name, (1,))),
}
"""Each way of enqueueing one call."""


@contextmanager
def spied(**options):
    """A queue, and what its backend was given."""
    with Queue(backend="memory://", **options) as queue:
        stored = []
        enqueue = queue.backend.enqueue

        def spy(jobs):
            stored.extend(jobs)
            return enqueue(jobs)

        queue.backend.enqueue = spy
        yield queue, stored


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["task", "remote_task"])
def test_defaults_of_the_queue_reach_every_job(way, kind):
    with spied(**{name: value for name, (_, value, _) in DEFAULTS.items()}) as (queue, stored):
        task = queue.task("t")(lambda n: n) if kind == "task" else queue.remote_task("t")
        WAYS[way](task, queue)
    [job] = stored
    for name, (field, _, expected) in DEFAULTS.items():
        assert getattr(job, field) == expected, name


@pytest.mark.parametrize("way", WAYS)
def test_options_of_the_task_win_over_those_of_the_queue(way):
    queue_options = {name: value for name, (_, value, _) in DEFAULTS.items()}
    with spied(**queue_options) as (queue, stored):
        task = queue.task("t", **{name: value for name, (_, value, _) in OF_A_TASK.items()})(
            lambda n: n
        )
        WAYS[way](task, queue)
    [job] = stored
    for name, (field, _, expected) in OF_A_TASK.items():
        assert getattr(job, field) == expected, name
    assert job.unique_key is not None


@pytest.mark.parametrize("way", WAYS)
def test_an_idempotent_task_has_the_same_key_on_every_way(way):
    with spied() as (queue, stored):
        task = queue.task("t", idempotent=True)(lambda n: n)
        first = task.delay(1)
        assert WAYS[way](task, queue) == first
    assert len({job.unique_key for job in stored}) == 1
    assert not any(job.unique_until_start for job in stored)


def test_no_option_and_no_way_is_missing_in_the_tables():
    options = set(inspect.signature(Queue.task).parameters) - {"self", "name"}
    assert options == OF_A_TASK.keys() | NOT_STORED
    defaults = set(inspect.signature(Queue).parameters)
    assert defaults >= DEFAULTS.keys()
    assert {name for name in defaults if name.startswith("default_")} <= DEFAULTS.keys()
    ways = {name for name in dir(Task) if "delay" in name or "apply" in name or name == "map"}
    ways |= {name for name in dir(Queue) if "enqueue" in name and not name.startswith("_")}
    assert ways == WAYS.keys() | {"aenqueue_many"}


def test_the_twin_of_enqueue_many_is_made_of_it(memory_queue):
    task = memory_queue.remote_task("t", priority=5)
    [job] = asyncio.run(memory_queue.aenqueue_many("t", [(1,)]))
    assert job.to_dict()["priority"] == task.options.priority
