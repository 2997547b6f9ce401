"""The values of resources: made when an attempt first needs them, torn down when their scope ends.

There is one algorithm, written as coroutines. On an event loop they are awaited; for a plain task
``finish`` drives them, which works since nothing that a plain task may ask for waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from taskito.resources import Definition, Recipe, Request
from taskito.worker.event_loop import ThreadLoop
from taskito.worker.lifetimes import Lifetime, begin

__all__ = ["Holding", "Resources", "finish"]

R = TypeVar("R")

_logger = logging.getLogger("taskito.worker")


def finish(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: R = stop.value
        return result
    coroutine.close()
    raise RuntimeError("a resource of a plain task has waited for an event loop")


class Value:
    """One value of a resource.

    Attributes:
        definition: The resource.
        life: Its generator.
        value: What that yielded.
        parts: The values that it was made of.
        users: Who keeps it: the shelf that offers it, the attempts that use it and the values that
            were made of it. The last one to let go tears it down.
        retired: Whether it is offered no longer.
    """

    __slots__ = ("definition", "life", "parts", "retired", "users", "value")

    def __init__(self, definition: Definition, life: Lifetime, value: Any) -> None:
        self.definition = definition
        self.life = life
        self.value = value
        self.parts: tuple[Value, ...] = ()
        self.users = 0
        self.retired = False

    @classmethod
    async def make(cls, definition: Definition, arguments: Mapping[str, Any]) -> Value:
        """Set up; what is raised says whose set-up it was."""
        try:
            life = begin(definition, arguments)
            return cls(definition, life, await life.enter())
        except BaseException as error:
            error.add_note(f"raised by the set-up of {definition.owner}")
            raise

    async def fault(self) -> tuple[str, BaseException | None] | None:
        """Return why it should be made anew, and the exception that says so; None if it is fine."""
        if any(part.retired for part in self.parts):
            return "was made of another one that was made anew", None
        check = self.definition.check
        if check is None:
            return None
        try:
            answer = check(self.value)
            if self.definition.is_async and inspect.isawaitable(answer):
                answer = await answer
        except Exception as error:  # noqa: BLE001 - it is the answer
            return "failed its check", error
        # None is the answer of a function that would have raised.
        return None if answer is None or answer else ("failed its check", None)

    async def tear_down(self) -> None:
        """End it, when no attempt can be told any more."""
        try:
            await self.life.leave(None)
        except asyncio.CancelledError:
            raise  # Whoever waited is cancelled; the teardown goes on.
        except BaseException:
            _logger.exception("the teardown of %s failed", self.definition.owner)


class _Shelf:
    """The values that one scope offers at present: a worker's, a thread's, or an event loop's."""

    def __init__(
        self,
        make_lock: Callable[[], AbstractAsyncContextManager[None]],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.values: dict[str, Value] = {}
        self.making: dict[str, AbstractAsyncContextManager[None]] = defaultdict(make_lock)
        """One lock per resource, so that each is made once, and one that is slow stops no other."""
        self.loop = loop


class _ThreadLock:
    """A lock between threads, in the form of one between coroutines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class Resources:
    """The values of all resources in one worker.

    Args:
        recipes: The resources, wired.
    """

    def __init__(self, recipes: Mapping[str, Recipe]) -> None:
        self._recipes = recipes
        self._lock = threading.Lock()
        """Guards shelves and users; held for a moment, never while foreign code runs."""
        self._shared = _Shelf(_ThreadLock)
        self._here = threading.local()

    def hold(self) -> Holding:
        """Return what one attempt uses: nothing yet."""
        return Holding(self, self._recipes)

    async def offer(
        self, definition: Definition, parts: Iterable[Value], arguments: Mapping[str, Any]
    ) -> Value:
        """Return the value of a worker- or thread-scoped resource, which the caller ``release``-s.

        Args:
            definition: The resource.
            parts: What a new one is made of.
            arguments: The same as arguments.
        """
        shelf, name = self._shelf(definition), definition.name
        while (value := self._take(shelf, name)) is not None:
            try:
                fault = await value.fault()
            except BaseException:
                await self.release(value)
                raise
            if fault is None:
                return value
            if self._retire(shelf, value):
                reason, error = fault
                _logger.warning("%s %s; it is made anew", definition.owner, reason, exc_info=error)
                await self.release(value)
            await self.release(value)
        with self._lock:
            making = shelf.making[name]
        async with making:
            present = self._take(shelf, name)
            if present is not None:
                return present
            value = await Value.make(definition, arguments)
            value.parts = tuple(part for part in parts if part.definition.scope != "job")
            with self._lock:
                for part in value.parts:
                    part.users += 1
                value.users = 2  # The shelf and the caller.
                shelf.values[name] = value
            return value

    async def release(self, value: Value) -> None:
        """Let go of a value; whoever is the last tears it down."""
        with self._lock:
            value.users -= 1
            last = value.users == 0
        if last:
            try:
                await value.tear_down()
            finally:
                for part in reversed(value.parts):
                    await self.release(part)

    def end_thread(self, loop: ThreadLoop) -> None:
        """Tear down what belongs to the calling thread, and to the loop that it runs at times."""
        if getattr(self._here, "loop_shelf", None) is not None:
            loop.run(self.end_loop())
        else:
            finish(self._clear("thread_shelf"))

    async def end_loop(self) -> None:
        """Tear down what belongs to the running event loop and its thread."""
        await self._clear("loop_shelf")
        await self._clear("thread_shelf")

    def close(self) -> None:
        """Tear down what belongs to the worker. What an attempt still uses lives as long as it."""
        finish(self._empty(self._shared))

    async def _clear(self, name: str) -> None:
        shelf = getattr(self._here, name, None)
        if shelf is None:
            return
        setattr(self._here, name, None)
        if shelf.loop is None or shelf.loop is asyncio.get_running_loop():
            await self._empty(shelf)

    async def _empty(self, shelf: _Shelf) -> None:
        for value in reversed(list(shelf.values.values())):
            if self._retire(shelf, value):
                await self.release(value)

    def _shelf(self, definition: Definition) -> _Shelf:
        here = self._here
        if definition.is_async:
            loop = asyncio.get_running_loop()
            shelf: _Shelf | None = getattr(here, "loop_shelf", None)
            # A task may have closed the loop of its thread, and with it all that lived there.
            if shelf is None or shelf.loop is not loop:
                shelf = here.loop_shelf = _Shelf(asyncio.Lock, loop)
            return shelf
        if definition.scope == "worker":
            return self._shared
        shelf = getattr(here, "thread_shelf", None)
        if shelf is None:
            shelf = here.thread_shelf = _Shelf(_ThreadLock)
        return shelf

    def _take(self, shelf: _Shelf, name: str) -> Value | None:
        with self._lock:
            value = shelf.values.get(name)
            if value is not None:
                value.users += 1
            return value

    def _retire(self, shelf: _Shelf, value: Value) -> bool:
        """Take a value off its shelf; False if somebody else has done it, who then lets go."""
        with self._lock:
            name = value.definition.name
            if shelf.values.get(name) is not value:
                return False
            del shelf.values[name]
            value.retired = True
            return True


class Holding:
    """What one attempt uses, from its set-up to its end.

    Attributes:
        arguments: What to pass to the task.
    """

    __slots__ = ("_own", "_recipes", "_resources", "_shared", "_values", "arguments")

    def __init__(self, resources: Resources, recipes: Mapping[str, Recipe]) -> None:
        self.arguments: dict[str, Any] = {}
        self._resources = resources
        self._recipes = recipes
        self._values: dict[str, Value] = {}
        self._own: list[Value] = []
        self._shared: list[Value] = []

    async def take(self, requests: Iterable[Request]) -> None:
        """Get everything that is asked for. If that fails, ``end`` ends what was made already."""
        for request in requests:
            value = await self._get(request.resource)
            self.arguments[request.parameter] = value.value

    async def _get(self, name: str) -> Value:
        value = self._values.get(name)
        if value is not None:
            return value
        recipe = self._recipes[name]
        parts = {
            request.parameter: await self._get(request.resource) for request in recipe.requests
        }
        arguments = {parameter: part.value for parameter, part in parts.items()}
        if recipe.definition.scope == "job":
            value = await Value.make(recipe.definition, arguments)
            self._own.append(value)
        else:
            value = await self._resources.offer(recipe.definition, parts.values(), arguments)
            self._shared.append(value)
        self._values[name] = value
        return value

    async def end(self, error: BaseException | None) -> BaseException | None:
        """Tear down what belongs to the attempt, in reverse order, and let go of the rest.

        Args:
            error: Why the attempt has failed; raised in each generator.

        Returns:
            Why it has failed in the end: a teardown that raises fails an attempt, too.
        """
        try:
            while self._own:
                value = self._own.pop()
                try:
                    await value.life.leave(error)
                except BaseException as raised:
                    if error is None:
                        raised.add_note(f"raised by the teardown of {value.definition.owner}")
                        error = raised
                    else:
                        # That of the task says more, and decides about the retry.
                        _logger.exception("the teardown of %s failed", value.definition.owner)
            while self._shared:
                with contextlib.suppress(asyncio.CancelledError):
                    await self._resources.release(self._shared.pop())
            self._values.clear()
            self.arguments.clear()
            return error
        finally:
            error = None  # The exception refers to this frame through its traceback.
