"""How a worker announces itself to the store."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from taskito.backends.params import (
    DeadLetterLimit,
    NewSchedule,
    Rate,
    TaskLimit,
    WorkerRegistration,
)
from taskito.config import parse_rate_limit, to_milliseconds
from taskito.task import Task, TaskOptions
from taskito.worker.config import WorkerConfig

__all__ = ["registration"]


def registration(
    worker: str,
    tasks: Mapping[str, Task[..., Any]],
    config: WorkerConfig,
    schedules: Sequence[NewSchedule] = (),
    coroutines: int = 0,
) -> WorkerRegistration:
    """Return what the store is told about a worker.

    Args:
        worker: Its id.
        tasks: The tasks whose code it has, by name.
        config: Its settings.
        schedules: What its code declares.
        coroutines: How many jobs it runs on an event loop, beside those in threads.
    """
    ttl = config.dead_letter_ttl
    return WorkerRegistration(
        id=worker,
        pid=os.getpid(),
        host=socket.gethostname(),
        queues=config.queues,
        tasks=tuple(tasks),
        lease_ms=to_milliseconds(config.lease),
        concurrency=config.concurrency + coroutines,
        dead_letters=DeadLetterLimit(
            ttl_ms=None if ttl is None else to_milliseconds(ttl),
            most=config.max_dead_letters,
        ),
        schedules=tuple(one.name for one in schedules),
        limits=tuple(
            _limit(name, task.options)
            for name, task in tasks.items()
            if task.options.rate_limit is not None or task.options.max_concurrent is not None
        ),
    )


def _limit(name: str, options: TaskOptions) -> TaskLimit:
    rate = None
    if options.rate_limit is not None:
        count, period_ms, burst = parse_rate_limit("rate_limit", options.rate_limit)
        rate = Rate(count=count, period_ms=period_ms, burst=burst)
    return TaskLimit(task=name, rate=rate, max_concurrent=options.max_concurrent)
