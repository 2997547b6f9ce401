"""The event loop of an executor thread, for tasks that are ``async def``."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

__all__ = ["ThreadLoop"]


class ThreadLoop:
    """One event loop, kept from job to job, so that clients that are bound to a loop stay usable.

    It runs only while a coroutine of a job does. Belongs to one thread; made with the first
    coroutine.
    """

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end in a copy of the context and return or raise what it does."""
        # The task may have closed the loop that it was given.
        if self._runner is None or self._runner.get_loop().is_closed():
            self._runner = asyncio.Runner()
        outcome: list[Any] = []
        # A copy: the loop enters the context for each step, which is refused for the present one.
        context = contextvars.copy_context()
        error = self._runner.run(_guard(coroutine, outcome), context=context)
        if error is not None:
            raise error
        return outcome[0]

    def close(self) -> None:
        """Cancel what the tasks left behind on the loop and close it."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None


async def _guard(coroutine: Coroutine[Any, Any, Any], outcome: list[Any]) -> BaseException | None:
    # Nothing is raised through the loop: it would treat SystemExit as the end of the program and
    # CancelledError as its own.
    try:
        outcome.append(await coroutine)
    except BaseException as error:  # noqa: BLE001 - whatever the task raises is its outcome
        return error
    return None
