"""``batch=Batch(...)``: a task whose function gets many jobs in one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from taskito.config import check_integer, check_seconds
from taskito.exceptions import ConfigurationError, Reject

__all__ = ["Batch", "call_with_one", "check_batch", "item_of", "results_of"]


@dataclass(frozen=True, slots=True)
class Batch:
    """How the jobs of a task are put together for one call of its function.

    Each job is a call with one argument, ``task.delay(item)``; the function gets a list of items
    and returns a list of results of the same length, or None. A result that is an exception fails
    its own item only. Each item is a job with its own retries, limits and time.

    Attributes:
        size: At most so many items in one call, 1 to 10,000. No more come together than the
            worker's ``async_concurrency`` lets be under way.
        wait: Seconds that the first item waits for others, 0 or more.

    Raises:
        ConfigurationError: A value is not allowed.

    Example:
        >>> @queue.task(batch=Batch(size=100, wait=0.5))
        ... def index(documents: list[str]) -> list[int]: ...
        >>> index.delay("one document")
    """

    size: int = 100
    wait: float = 0.5

    def __post_init__(self) -> None:
        """Check both values."""
        check_integer("batch: size", self.size, 1, 10_000)
        object.__setattr__(self, "wait", check_seconds("batch: wait", self.wait))


def check_batch(field: str, value: object) -> Batch:
    """Return ``value`` if it is a ``Batch``."""
    if not isinstance(value, Batch):
        raise ConfigurationError(
            f"{field}: {value!r} is not a Batch; write for example Batch(size=100, wait=0.5)"
        )
    return value


def call_with_one(name: str, function: Callable[..., Any], item: Any) -> Any:
    """Call a batch function with one item where there is no event loop to collect more on.

    Returns:
        The item's result, or a coroutine that returns it.
    """
    results = function([item])
    if inspect.iscoroutine(results):
        return _only_one(name, results)
    return _unpack(name, results)


async def _only_one(name: str, results: Coroutine[Any, Any, Any]) -> Any:
    return _unpack(name, await results)


def _unpack(name: str, results: Any) -> Any:
    [outcome] = results_of(name, results, 1)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def item_of(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return the one argument of a call.

    Raises:
        Reject: There is not exactly one; no repetition can change that.
    """
    if len(args) != 1 or kwargs:
        raise Reject(
            f"task {name!r} takes its jobs in batches: each is a call with one positional "
            f"argument, and this one has {len(args)} and {len(kwargs)} by name"
        )
    return args[0]


def results_of(name: str, results: Any, length: int) -> Sequence[Any]:
    """Return the results of a batch function, one for each item.

    Raises:
        TypeError: They are no list.
        ValueError: There are too few or too many.
    """
    if results is None:
        return [None] * length
    if not isinstance(results, list | tuple):
        raise TypeError(
            f"task {name!r} takes its jobs in batches and has to return a list with one result for "
            f"each item, or None; it returned {type(results).__name__}"
        )
    if len(results) != length:
        raise ValueError(
            f"task {name!r} returned {len(results)} results for {length} items; it has to return "
            "one for each, in their order"
        )
    return results
