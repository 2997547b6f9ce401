"""The one way to run code around every attempt of a task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from taskito.context import JobContext
from taskito.exceptions import ConfigurationError, JobCancelledError, Snooze

__all__ = ["FunctionHooks", "Middleware", "check_middleware"]

Arguments: TypeAlias = Sequence[Any]
KeywordArguments: TypeAlias = Mapping[str, Any]
Hook = TypeVar("Hook", bound=Callable[..., object])

_METHODS = ("before", "on_error", "on_retry", "after")


class Middleware:
    """Code around the attempts of tasks. Override the methods that you need.

    Given to a queue (``Queue(middleware=[...])``) it is called around the attempts of all tasks,
    given to a task (``@queue.task(middleware=[...])``) around those of that task. Those of plugins
    come first, then those of the queue, of the task, and at last functions such as
    ``@queue.before_task``; several of one place run in the order in which they were given.

    All methods are plain methods, for ``async def`` tasks as well. They run in the thread of the
    task, and ``current_job`` works in them. They are called for each attempt whose arguments could
    be decoded, in any number of threads at a time.

    Example:
        >>> class Timing(Middleware):
        ...     def before(self, job, args, kwargs):
        ...         started[job.id] = time.monotonic()
        ...
        ...     def after(self, job, args, kwargs, result, error):
        ...         print(job.task_name, time.monotonic() - started.pop(job.id))
    """

    @property
    def active(self) -> bool:
        """Whether there is anything to call; asked before every attempt."""
        return True

    def before(self, job: JobContext, args: Arguments, kwargs: KeywordArguments) -> None:
        """Run before the task.

        An exception fails the attempt as if the task had raised it: the task is not called, and
        neither are the ``before`` methods that would follow. Those of ``after`` are.

        Args:
            job: The job, as ``current_job`` shows it.
            args: The positional arguments of the call.
            kwargs: The keyword arguments of the call.
        """

    def on_error(
        self, job: JobContext, args: Arguments, kwargs: KeywordArguments, error: BaseException
    ) -> None:
        """Run after an attempt that failed, before ``after``.

        A snoozed or cancelled attempt has not failed; one that raised ``Retry`` or ``Reject`` has.
        An attempt that exceeds its ``timeout=`` is given up from outside; what its body raises
        later is told here all the same. An exception is logged and changes nothing.

        Args:
            job: The job, as ``current_job`` shows it.
            args: The positional arguments of the call.
            kwargs: The keyword arguments of the call.
            error: What the task raised, or why its result could not be encoded.
        """

    def on_retry(
        self, job: JobContext, args: Arguments, kwargs: KeywordArguments, error: BaseException
    ) -> None:
        """Run after an attempt that failed and that another one follows, right after ``on_error``.

        Another one follows if the task has retries left and its ``retry_on`` and ``dont_retry_on``
        allow it. An exception is logged and changes nothing.

        Args:
            job: The job, as ``current_job`` shows it; ``job.retry_count`` counts from 0.
            args: The positional arguments of the call.
            kwargs: The keyword arguments of the call.
            error: What the task raised.
        """

    def after(
        self,
        job: JobContext,
        args: Arguments,
        kwargs: KeywordArguments,
        result: Any,
        error: BaseException | None,
    ) -> None:
        """Run after the task, before its outcome is stored.

        An exception is logged and changes nothing.

        Args:
            job: The job, as ``current_job`` shows it.
            args: The positional arguments of the call.
            kwargs: The keyword arguments of the call.
            result: What the task returned; None if there is an error.
            error: What the task raised, including ``Retry``, ``Snooze``, ``Reject`` and
                ``JobCancelledError``, or why its result could not be encoded; None if it succeeded.
        """


class FunctionHooks(Middleware):
    """Plain functions as middleware: ``@queue.before_task`` and its like.

    Each method registers one function and returns it, so that it can be used as a decorator. Those
    of one kind run in the order in which they were registered.
    """

    def __init__(self) -> None:
        self._before_task: list[Callable[..., object]] = []
        self._after_task: list[Callable[..., object]] = []
        self._on_success: list[Callable[..., object]] = []
        self._on_failure: list[Callable[..., object]] = []

    @property
    def active(self) -> bool:
        """Whether any function is registered."""
        return bool(self._before_task or self._after_task or self._on_success or self._on_failure)

    def before_task(self, function: Hook) -> Hook:
        """Call ``function(task_name, args, kwargs)`` before each attempt."""
        return _register(self._before_task, "before_task", function)

    def after_task(self, function: Hook) -> Hook:
        """Call ``function(task_name, args, kwargs, result, error)`` after each attempt."""
        return _register(self._after_task, "after_task", function)

    def on_success(self, function: Hook) -> Hook:
        """Call ``function(task_name, args, kwargs, result)`` after each attempt that ended well."""
        return _register(self._on_success, "on_success", function)

    def on_failure(self, function: Hook) -> Hook:
        """Call ``function(task_name, args, kwargs, error)`` after each attempt that failed.

        A snoozed or cancelled attempt has not failed; one that raised ``Retry`` or ``Reject`` has.
        """
        return _register(self._on_failure, "on_failure", function)

    def before(self, job: JobContext, args: Arguments, kwargs: KeywordArguments) -> None:
        """Call the functions of ``before_task``; the first exception ends it."""
        for function in self._before_task:
            function(job.task_name, args, kwargs)

    def after(
        self,
        job: JobContext,
        args: Arguments,
        kwargs: KeywordArguments,
        result: Any,
        error: BaseException | None,
    ) -> None:
        """Call the functions of the other three kinds; one that raises does not stop the rest.

        Raises:
            BaseExceptionGroup: Some of them raised.
        """
        calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        if error is None:
            calls += [(function, (result,)) for function in self._on_success]
        elif not isinstance(error, Snooze | JobCancelledError):
            calls += [(function, (error,)) for function in self._on_failure]
        calls += [(function, (result, error)) for function in self._after_task]
        failures: list[BaseException] = []
        for function, outcome in calls:
            try:
                function(job.task_name, args, kwargs, *outcome)
            except BaseException as failure:  # noqa: BLE001 - not even sys.exit() may stop the rest
                failures.append(failure)
        if failures:
            raise BaseExceptionGroup("functions registered with the queue raised", failures)


def check_middleware(field: str, value: Iterable[Middleware]) -> tuple[Middleware, ...]:
    """Check a list of middleware and return it as a tuple.

    Args:
        field: The name of the option.
        value: What was given.

    Raises:
        ConfigurationError: It is no list, or one of its items is no ``Middleware`` with plain
            methods.
    """
    if isinstance(value, Middleware) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{field}: {value!r} is not a list; give a list of Middleware")
    items = tuple(value)
    for item in items:
        if isinstance(item, type) and issubclass(item, Middleware):
            raise ConfigurationError(
                f"{field}: {item!r} is a class; give an object of it, such as {item.__name__}()"
            )
        if not isinstance(item, Middleware):
            raise ConfigurationError(f"{field}: {item!r} is no taskito.Middleware")
        for method in _METHODS:
            if inspect.iscoroutinefunction(getattr(item, method)):
                raise ConfigurationError(
                    f"{field}: {method} of {item!r} is async; it has to be a plain method"
                )
    return items


def _register(functions: list[Callable[..., object]], kind: str, function: Hook) -> Hook:
    if not callable(function):
        raise ConfigurationError(f"{kind}: {function!r} is not a function")
    if inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{kind}: {function!r} is async; it has to be a plain function")
    functions.append(function)
    return function
