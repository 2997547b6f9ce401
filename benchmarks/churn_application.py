"""The application of ``churn.py``: resources, middleware, coroutines, and jobs that fail."""
# ruff: noqa: ARG002 -- middleware is called with all that there is

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Annotated

from taskito import INJECTED, Middleware, Queue, Resource


class Counting(Middleware):
    """Counts attempts and failures."""

    def __init__(self) -> None:
        self.attempts = self.failures = 0

    def before(self, job: object, args: object, kwargs: object) -> None:
        """Count an attempt."""
        self.attempts += 1

    def on_error(self, job: object, args: object, kwargs: object, error: object) -> None:
        """Count a failure."""
        self.failures += 1


queue = Queue(
    db_path=os.environ["BENCHMARK_DATABASE"],
    durability="normal",
    result_ttl=1,
    dead_letter_ttl=1,
    middleware=[Counting()],
)


@queue.resource("connection", scope="worker", check=lambda connection: len(connection) > 0)
def connection() -> Iterator[list[int]]:
    """Stand for something that is expensive to make."""
    yield [0] * 1_000


@queue.resource("transaction")
def transaction(connection: Annotated[list[int], Resource("connection")]) -> Iterator[list[int]]:
    """Stand for something that belongs to one attempt."""
    yield connection[:10]


@queue.task()
def function(text: str, work: Annotated[list[int], Resource("transaction")] = INJECTED) -> str:
    """Return what it got."""
    return text + str(len(work))


@queue.task()
async def coroutine(text: str) -> str:
    """Return what it got, a moment later."""
    await asyncio.sleep(0)
    return text


@queue.task(max_retries=0)
def failing(text: str) -> None:
    """Fail."""
    raise ValueError(text)


TASKS = (function, coroutine, failing)
