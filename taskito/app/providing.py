"""The resources that a queue provides for its tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal, TypeAlias, TypeVar

from taskito.exceptions import ConfigurationError
from taskito.resources import Definition, define

__all__ = ["Providing"]

Generator = TypeVar("Generator", bound=Callable[..., Iterator[Any] | AsyncIterator[Any]])

Scope: TypeAlias = Literal["job", "thread", "worker"]


class Providing:
    """The part of ``Queue`` that declares resources."""

    _resources: dict[str, Definition]

    def resource(
        self,
        name: str,
        *,
        scope: Scope = "job",
        check: Callable[[Any], object] | None = None,
    ) -> Callable[[Generator], Generator]:
        """Declare what tasks may ask for by ``Annotated[..., Resource(name)]``; a decorator.

        The function is a generator function: it sets up, yields the value once, and tears down. It
        may ask for other resources in the same way, if they live as long as it does or longer. An
        async generator function makes a resource for ``async def`` tasks; it runs on the event
        loop.

        Args:
            name: What tasks ask for.
            scope: How long a value lives. "job": for one attempt; what the attempt raises is raised
                where the function yields, and a teardown that raises fails the attempt. "thread":
                one for each thread of a worker, from the first use to the end of the thread.
                "worker": one for a worker, shared by its threads, from the first use to the end of
                the worker. An async one of scope "thread" or "worker" lives on the event loop.
            check: A function of the value, called before each attempt that uses a value of scope
                "thread" or "worker". If it returns False or raises, the value is torn down and made
                anew. May be async if the resource is.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            ConfigurationError: The function does not yield, another one has this name, or an option
                is not allowed. What cannot be had is told when a worker is made.

        Example:
            >>> @queue.resource("db", scope="thread", check=lambda db: not db.closed)
            ... def connect():
            ...     with psycopg.connect("dbname=shop") as connection:
            ...         yield connection
        """
        if callable(name):
            raise ConfigurationError('resource: give it a name: @queue.resource("name")')

        def decorate(function: Generator) -> Generator:
            definition = define(name, function, scope, check)
            known = self._resources.get(name)
            if known is not None and _place(known.function) != _place(function):
                raise ConfigurationError(
                    f"name: the resource {name!r} is declared by {_place(known.function)}; give "
                    f"{_place(function)} another name"
                )
            self._resources[name] = definition
            return function

        return decorate


def _place(function: Callable[..., Any]) -> str:
    module = getattr(function, "__module__", "?")
    return f"{module}.{getattr(function, '__qualname__', repr(function))}"
