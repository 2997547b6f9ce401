"""The life of one value of a resource: its generator from the set-up to the teardown.

All kinds have the same two coroutines. Those of a plain generator never wait for anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Mapping
from typing import Any, Protocol

from taskito.resources import Definition

__all__ = ["Lifetime", "begin"]


class Lifetime(Protocol):
    """A generator that was made and not yet entered."""

    async def enter(self) -> Any:
        """Set up and return the value."""

    async def leave(self, error: BaseException | None) -> None:
        """Tear down.

        Args:
            error: Raised where the generator yielded. Whether it lets it pass makes no difference.

        Raises:
            BaseException: The teardown failed.
        """


def begin(definition: Definition, arguments: Mapping[str, Any]) -> Lifetime:
    """Return the life of one more value."""
    if not definition.is_async:
        return _PlainLife(definition, arguments)
    if definition.scope == "job":
        return _AttemptLife(definition, arguments)
    return _LoopLife(definition, arguments)


class _PlainLife:
    """A generator; runs in whichever thread enters and leaves it."""

    def __init__(self, definition: Definition, arguments: Mapping[str, Any]) -> None:
        self._manager = contextlib.contextmanager(definition.function)(**arguments)

    async def enter(self) -> Any:
        return self._manager.__enter__()

    async def leave(self, error: BaseException | None) -> None:
        try:
            self._manager.__exit__(*_details(error))
        finally:
            error = None


class _AttemptLife:
    """An async generator that begins and ends in the ``asyncio.Task`` of its attempt."""

    def __init__(self, definition: Definition, arguments: Mapping[str, Any]) -> None:
        self._manager = contextlib.asynccontextmanager(definition.function)(**arguments)

    async def enter(self) -> Any:
        return await self._manager.__aenter__()

    async def leave(self, error: BaseException | None) -> None:
        try:
            await self._manager.__aexit__(*_details(error))
        finally:
            error = None


class _LoopLife:
    """An async generator in an ``asyncio.Task`` of its own.

    Task groups, time limits and cancel scopes have to end in the ``asyncio.Task`` in which they
    began, and the attempt that begins this one may be gone long before it ends.
    """

    def __init__(self, definition: Definition, arguments: Mapping[str, Any]) -> None:
        self._name = f"taskito resource {definition.name}"
        self._manager = contextlib.asynccontextmanager(definition.function)(**arguments)
        self._end = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> Any:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[Any] = loop.create_future()
        ready.add_done_callback(_seen)
        # A context of its own: it does not belong to the job that happens to be the first.
        self._task = loop.create_task(
            self._live(ready), name=self._name, context=contextvars.Context()
        )
        try:
            return await asyncio.shield(ready)
        except BaseException:
            # The attempt was cancelled meanwhile, and nobody else knows of this value.
            self._task.cancel()
            raise

    async def leave(self, error: BaseException | None) -> None:
        del error  # It belongs to an attempt, and this one does not.
        task = self._task
        if task is None:
            return
        self._end.set()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def _live(self, ready: asyncio.Future[Any]) -> None:
        try:
            value = await self._manager.__aenter__()
        except asyncio.CancelledError:
            ready.cancel()
            return
        except BaseException as error:  # noqa: BLE001 - raised in the attempt that waits for it
            ready.set_exception(error)
            return
        try:
            ready.set_result(value)
            await self._end.wait()
        finally:
            await self._manager.__aexit__(None, None, None)


def _seen(ready: asyncio.Future[Any]) -> None:
    """Keep asyncio from complaining about an exception that the cancelled attempt never saw."""
    if not ready.cancelled():
        ready.exception()


def _details(
    error: BaseException | None,
) -> tuple[type[BaseException] | None, BaseException | None, Any]:
    if error is None:
        return None, None, None
    return type(error), error, error.__traceback__
