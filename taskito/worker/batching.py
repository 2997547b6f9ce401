"""Jobs of one task that wait for each other on the event loop and run in one call."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from taskito.batch import Batch, results_of
from taskito.worker.soft_timeout import SoftTimeouts, with_soft_timeout

__all__ = ["Batcher"]


class Batcher:
    """Collects the items of one task and calls its function with them.

    Belongs to the thread of the event loop. A plain function runs in another thread meanwhile.

    Args:
        name: The task's name.
        function: Takes a list of items.
        batch: How many items, and how long to wait for them.
        most: How many can come together at all.
        soft_timeout: Of each call of the function; None means none.
        soft_timeouts: Interrupts plain functions.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        batch: Batch,
        *,
        most: int,
        soft_timeout: float | None,
        soft_timeouts: SoftTimeouts,
    ) -> None:
        self._name = name
        self._function = function
        self._size = min(batch.size, most)
        self._wait = batch.wait
        self._soft_timeout = soft_timeout
        self._soft_timeouts = soft_timeouts
        self._waiting: dict[asyncio.Future[Any], Any] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def add(self, item: Any) -> Any:
        """Wait until the function was called with this item among others; return its result.

        Raises:
            BaseException: What the function returned for the item, or what it raised.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()
        self._waiting[result] = item
        if len(self._waiting) >= self._size:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(self._wait, self._flush)
        try:
            outcome = await result
        finally:
            # One that is cancelled while it waits is not in the call.
            self._waiting.pop(result, None)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, {}
        # In a context of its own: no job is the current one in a call for many of them.
        call = asyncio.get_running_loop().create_task(
            self._call(batch), context=contextvars.Context()
        )
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, batch: dict[asyncio.Future[Any], Any]) -> None:
        try:
            outcomes = results_of(self._name, await self._run(list(batch.values())), len(batch))
        except BaseException as error:  # noqa: BLE001 - it is the outcome of all of them
            outcomes = [error] * len(batch)
        for result, outcome in zip(batch, outcomes, strict=True):
            if not result.done():
                result.set_result(outcome)

    async def _run(self, items: list[Any]) -> Any:
        seconds = self._soft_timeout
        if inspect.iscoroutinefunction(self._function):
            coroutine: Coroutine[Any, Any, Any] = self._function(items)
            return await (coroutine if seconds is None else with_soft_timeout(seconds, coroutine))
        if seconds is None:
            return await asyncio.to_thread(self._function, items)
        return await asyncio.to_thread(
            self._soft_timeouts.call, seconds, lambda: self._function(items)
        )
