"""Tasks: registered functions, their options, and the ways to enqueue a call of one."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    get_args,
)

from taskito import config
from taskito.batch import Batch, call_with_one, check_batch, item_of
from taskito.canvas.signature import Signature, Submitter
from taskito.exceptions import ConfigurationError, TaskNotRegisteredError
from taskito.middleware import Middleware, check_middleware
from taskito.result import JobResult
from taskito.serializers.base import Serializer

__all__ = [
    "AsyncTask",
    "Exceptions",
    "Producer",
    "Task",
    "TaskKeywords",
    "TaskOptions",
    "UnbatchedKeywords",
    "default_task_name",
]

P = ParamSpec("P")
R = TypeVar("R")

_MAIN_MODULES = {"__main__", "__mp_main__"}

Exceptions: TypeAlias = type[BaseException] | str | Iterable[type[BaseException] | str] | None
"""An exception class, or the dotted name of one that need not be importable here, or several."""

UniqueUntil: TypeAlias = Literal["until_start", "until_finish"]
"""How long a job may hold its unique key."""


class UnbatchedKeywords(TypedDict, total=False):
    """The options of a task as keywords, all but ``batch`` and ``bind``."""

    max_retries: int | None
    retry_backoff: float
    timeout: float | None
    priority: int | None
    rate_limit: str | None
    queue: str
    retry_on: Exceptions
    dont_retry_on: Exceptions
    retry_delays: Iterable[float] | None
    max_retry_delay: float
    retry_jitter: bool
    soft_timeout: float | None
    expires: float | None
    max_concurrent: int | None
    concurrency_key: str | Callable[..., str | None] | None
    max_crashes: int
    unique: UniqueUntil | None
    idempotent: bool
    result_ttl: float | None
    serializer: str | Serializer | None
    middleware: Iterable[Middleware]


class TaskKeywords(UnbatchedKeywords, total=False):
    """The options of a task as keywords, all but ``bind``; ``TaskOptions`` says what each means."""

    batch: Batch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """The options of one task, checked. Durations are seconds.

    Attributes:
        max_retries: Failures and timeouts allowed beyond the first; None means the queue's default.
        retry_backoff: Before retry n (from 0) wait ``retry_backoff * 2**n``.
        timeout: Longest run of an attempt; 0 means no limit, None the queue's default.
        priority: -128 to 127, higher first; None means the queue's default.
        rate_limit: At most so many starts in a time, over all workers, e.g. "100/m".
        queue: The queue that its jobs go to.
        retry_on: Retry only after these exceptions and their subclasses, given as classes or dotted
            names; None means after any.
        dont_retry_on: Never retry after these.
        retry_delays: The wait before each retry, the last one for all that follow; replaces
            ``retry_backoff``.
        max_retry_delay: No back-off is longer.
        retry_jitter: Add up to half a second, so that retries do not come all at once.
        soft_timeout: After this time ``SoftTimeoutError`` is raised inside the task, which may
            catch it to clean up; None means never.
        expires: A job that has not started this long after its enqueue is cancelled.
        max_concurrent: At most so many attempts at a time, over all workers.
        concurrency_key: What ``max_concurrent`` is counted by: a text, or a function of the task's
            arguments that returns one.
        max_crashes: Worker deaths allowed before a job becomes a dead letter.
        unique: How long a job holds its unique key: "until_start" or "until_finish". Given, calls
            with the same arguments share one key, as with ``idempotent``.
        idempotent: Two calls with the same arguments are one job while it is pending or running.
        result_ttl: How long a finished job is kept; None means the queue's default.
        serializer: Encodes arguments and results; None means the queue's.
        batch: The function gets many jobs in one call.
        middleware: Called around each attempt, after that of the queue.
        bind: The function's first parameter is ``current_job``.
    """

    max_retries: int | None = None
    retry_backoff: float = 1.0
    timeout: float | None = None
    priority: int | None = None
    rate_limit: str | None = None
    queue: str = "default"
    retry_on: tuple[type[BaseException] | str, ...] | None = None
    dont_retry_on: tuple[type[BaseException] | str, ...] | None = None
    retry_delays: tuple[float, ...] | None = None
    max_retry_delay: float = 300.0
    retry_jitter: bool = True
    soft_timeout: float | None = None
    expires: float | None = None
    max_concurrent: int | None = None
    concurrency_key: str | Callable[..., str | None] | None = None
    max_crashes: int = 2
    unique: str | None = None
    idempotent: bool = False
    result_ttl: float | None = None
    serializer: str | Serializer | None = None
    batch: Batch | None = None
    middleware: tuple[Middleware, ...] = ()
    bind: bool = False

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> TaskOptions:
        """Check what a caller gave and return it as options.

        Args:
            given: Options by name, as in ``TaskKeywords``.

        Raises:
            TypeError: There is no option of this name.
            ConfigurationError: A value is not allowed; names the option, the value and the choice.
        """
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in names:
                raise TypeError(f"{name!r} is not an option of a task; known: {', '.join(names)}")
        options: dict[str, Any] = {
            name: value if value is None and name in _MAY_BE_NONE else _CHECKS[name](name, value)
            for name, value in given.items()
        }
        checked = cls(**options)
        if checked.batch is not None and checked.bind:
            raise ConfigurationError(
                "bind: a task with batch= cannot have it, since no job is the current one in a "
                "call for many of them"
            )
        return checked


def _unchecked(_field: str, value: Any) -> Any:
    return value  # The queue's codec looks at it: it knows which serializers there are.


_MAY_BE_NONE = {
    "batch",
    "concurrency_key",
    "dont_retry_on",
    "expires",
    "max_concurrent",
    "max_retries",
    "priority",
    "rate_limit",
    "result_ttl",
    "retry_delays",
    "retry_on",
    "serializer",
    "soft_timeout",
    "timeout",
    "unique",
}

_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "max_retries": config.check_integer,
    "retry_backoff": config.check_seconds,
    "timeout": config.check_seconds,
    "priority": config.check_priority,
    "rate_limit": config.check_rate_limit,
    "queue": config.check_name,
    "retry_on": config.check_exceptions,
    "dont_retry_on": config.check_exceptions,
    "retry_delays": config.check_retry_delays,
    "max_retry_delay": config.check_seconds,
    "retry_jitter": config.check_boolean,
    "soft_timeout": functools.partial(config.check_seconds, positive=True),
    "expires": config.check_seconds,
    "max_concurrent": functools.partial(config.check_integer, minimum=1),
    "concurrency_key": config.check_concurrency_key,
    "max_crashes": config.check_integer,
    "unique": functools.partial(config.check_choice, allowed=get_args(UniqueUntil)),
    "idempotent": config.check_boolean,
    "result_ttl": config.check_seconds,
    "serializer": _unchecked,
    "batch": check_batch,
    "middleware": check_middleware,
    "bind": config.check_boolean,
}


class Producer(Submitter, Protocol):
    """What a task enqueues through: its ``Queue``."""

    def submit(
        self, task: Task[..., Any], args: Any, kwargs: Any, options: Mapping[str, Any]
    ) -> JobResult[Any]:
        """Enqueue one call."""

    def submit_many(self, task: Task[..., Any], calls: Iterable[Any]) -> list[JobResult[Any]]:
        """Enqueue many calls in one atom."""

    async def asubmit(
        self, task: Task[..., Any], args: Any, kwargs: Any, options: Mapping[str, Any]
    ) -> JobResult[Any]:
        """Enqueue one call without blocking the event loop."""


class Task(Generic[P, R]):
    """A function that a queue knows by a name. Made by ``Queue.task`` and ``Queue.remote_task``.

    Attributes:
        name: What jobs are stored under; ``module.qualname`` unless it was given.
        options: Its options, checked.
        function: The function itself; None for a remote task.

    Example:
        >>> @queue.task(max_retries=5)
        ... def resize(path: str, width: int = 800) -> str: ...
        >>> resize("a.png")              # calls the function, here and now
        >>> job = resize.delay("a.png")  # a worker calls it
        >>> job.result()
    """

    def __init__(
        self,
        producer: Producer,
        name: str,
        function: Callable[..., Any] | None,
        options: TaskOptions,
    ) -> None:
        if function is not None:
            # First, since it copies the function's own attributes, whatever their names.
            functools.update_wrapper(self, function)
        self._producer = producer
        self.name = name
        self.function = function
        self.options = options

    @property
    def is_remote(self) -> bool:
        """Whether its code lives in another service, so that it can only be enqueued."""
        return self.function is None

    @property
    def is_async(self) -> bool:
        """Whether calling it makes a coroutine."""
        function = self.function
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - of an object, not of its class
        )

    @property
    def needs_event_loop(self) -> bool:
        """Whether a worker runs it on its event loop: a coroutine, or jobs that come in batches."""
        return self.is_async or self.options.batch is not None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function directly, without the queue.

        Raises:
            TaskNotRegisteredError: It is a remote task; there is nothing to call here.
        """
        function = self.function
        if function is None:
            raise TaskNotRegisteredError(
                f"task {self.name!r} is remote: its code lives in another service; "
                f"enqueue it with .delay(...)"
            )
        if self.options.batch is not None:
            item = item_of(self.name, args, kwargs)
            return call_with_one(self.name, function, item)  # type: ignore[no-any-return]
        if self.options.bind:
            from taskito.context import current_job

            return function(current_job, *args, **kwargs)  # type: ignore[no-any-return]
        return function(*args, **kwargs)  # type: ignore[no-any-return]

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> JobResult[R]:
        """Enqueue a call with these arguments, and with the task's own options.

        Returns:
            The job. When this returns, the job is stored.

        Raises:
            SerializationError: An argument cannot be encoded; nothing was stored.
            StorageError: Nothing was stored.
        """
        return self._producer.submit(self, args, kwargs, {})

    def apply_async(  # noqa: PLR0917 - the order is part of the public API
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int | None = None,
        delay: float | None = None,
        queue: str | None = None,
        max_retries: int | None = None,
        timeout: float | None = None,
        unique_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        depends_on: str | JobResult[Any] | Iterable[str | JobResult[Any]] | None = None,
        *,
        eta: datetime | None = None,
        expires: float | datetime | None = None,
        result_ttl: float | None = None,
        idempotency_key: str | None = None,
    ) -> JobResult[R]:
        """Enqueue a call with options of its own; ``Queue.enqueue`` describes them.

        Example:
            >>> resize.apply_async(("a.png",), {"width": 100}, priority=10, delay=60)
        """
        options = {
            "priority": priority,
            "delay": delay,
            "queue": queue,
            "max_retries": max_retries,
            "timeout": timeout,
            "unique_key": unique_key,
            "metadata": metadata,
            "depends_on": depends_on,
            "eta": eta,
            "expires": expires,
            "result_ttl": result_ttl,
            "idempotency_key": idempotency_key,
        }
        return self._producer.submit(self, args, kwargs, options)

    def map(self, calls: Iterable[Sequence[Any]]) -> list[JobResult[R]]:
        """Enqueue one job per item, all in one atom.

        Args:
            calls: The positional arguments of each call, as tuples or lists.

        Returns:
            The jobs, in the same order.

        Example:
            >>> jobs = add.map([(1, 2), (3, 4)])
        """
        return self._producer.submit_many(self, calls)

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature: this call, to be put into a chain, a group or a chord.

        In a chain or as the callback of a chord, what came before becomes its first argument.

        Example:
            >>> chain(add.s(2, 3), add.s(10)).apply().result(timeout=10)
            15
        """
        return Signature(self.name, args, kwargs, queue=self._producer)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return an immutable signature: what came before is waited for, and not passed on."""
        return Signature(self.name, args, kwargs, immutable=True, queue=self._producer)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> JobResult[R]:
        """Do what ``delay`` does without blocking the event loop."""
        return await self._producer.asubmit(self, args, kwargs, {})

    async def aapply_async(  # noqa: PLR0917 - as above
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int | None = None,
        delay: float | None = None,
        queue: str | None = None,
        max_retries: int | None = None,
        timeout: float | None = None,
        unique_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        depends_on: str | JobResult[Any] | Iterable[str | JobResult[Any]] | None = None,
        *,
        eta: datetime | None = None,
        expires: float | datetime | None = None,
        result_ttl: float | None = None,
        idempotency_key: str | None = None,
    ) -> JobResult[R]:
        """Do what ``apply_async`` does without blocking the event loop."""
        options = {
            "priority": priority,
            "delay": delay,
            "queue": queue,
            "max_retries": max_retries,
            "timeout": timeout,
            "unique_key": unique_key,
            "metadata": metadata,
            "depends_on": depends_on,
            "eta": eta,
            "expires": expires,
            "result_ttl": result_ttl,
            "idempotency_key": idempotency_key,
        }
        return await self._producer.asubmit(self, args, kwargs, options)

    def __repr__(self) -> str:
        return f"<Task {self.name!r}{' (remote)' if self.is_remote else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse to be pickled: a task belongs to its queue."""
        raise TypeError(f"task {self.name!r} cannot be pickled; send its name instead")


class AsyncTask(Task[P, R]):
    """A task whose function is a coroutine function; calling it returns the coroutine."""

    if TYPE_CHECKING:

        def __call__(  # type: ignore[override]
            self, *args: P.args, **kwargs: P.kwargs
        ) -> Coroutine[Any, Any, R]:
            """Call the function directly; the caller awaits what it returns."""


def default_task_name(function: Callable[..., Any]) -> str:
    """Return ``module.qualname``; for a script's own functions the module is the script's name.

    A worker imports the script under its real name, so a name with ``__main__`` would match none.

    Raises:
        ConfigurationError: The function has no name of its own.
    """
    module = getattr(function, "__module__", None)
    qualified = getattr(function, "__qualname__", None)
    if not module or not qualified:
        raise ConfigurationError(f"name: {function!r} has no name of its own; give name=")
    if module in _MAIN_MODULES:
        names = getattr(function, "__globals__", None) or vars(sys.modules[module])
        module = _real_module(names) or module
    return f"{module}.{qualified}"


def _real_module(names: Mapping[str, Any]) -> str | None:
    spec = names.get("__spec__")
    if spec is not None:
        return str(spec.name)
    file = names.get("__file__")
    return Path(file).stem if file else None
