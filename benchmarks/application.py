"""The application that the benchmark's worker processes run."""

from __future__ import annotations

import os
import time

from taskito import Queue

queue = Queue(
    db_path=os.environ["BENCHMARK_DATABASE"],
    durability=os.environ.get("BENCHMARK_DURABILITY", "full"),
)


@queue.task()
def add(left: int, right: int) -> int:
    """Do nothing worth mentioning."""
    return left + right


@queue.task(rate_limit="1/h", priority=100, queue="limited")
def hourly() -> None:
    """Do nothing, rarely."""


@queue.task()
def now() -> float:
    """Return when the task started, on the clock that all processes of the host share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


@queue.task()
def compute(rounds: int) -> int:
    """Keep one processor busy for a few hundredths of a second."""
    total = 0
    for number in range(rounds):
        total = (total * 31 + number) % 1_000_003
    return total
