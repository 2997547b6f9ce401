"""``Queue``: the application object that owns tasks and a backend."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import (
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Unpack,
    overload,
)

from taskito import config
from taskito.app.asynchronous import Asynchronous
from taskito.app.enqueueing import Defaults
from taskito.app.providing import Providing
from taskito.app.registry import known_queues
from taskito.backends.base import Backend, BackendOptions, Clock
from taskito.batch import Batch
from taskito.codec import Codec
from taskito.connection import check_clock, connect
from taskito.exceptions import ConfigurationError
from taskito.middleware import FunctionHooks, Middleware, check_middleware
from taskito.plugins.observing import publisher
from taskito.serializers.base import Serializer
from taskito.task import (
    AsyncTask,
    Exceptions,
    Task,
    TaskKeywords,
    TaskOptions,
    UnbatchedKeywords,
    UniqueUntil,
    default_task_name,
)

__all__ = ["Queue"]

P = ParamSpec("P")
R = TypeVar("R")
Item = TypeVar("Item")
Hook = TypeVar("Hook", bound=Callable[..., object])

_DURABILITIES = ("full", "normal", "off")
_LIMIT_OPTIONS = ("rate_limit", "max_concurrent", "concurrency_key")


class TaskDecorator(Protocol):
    """What ``queue.task(...)`` returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class BoundTaskDecorator(Protocol):
    """The same with ``bind=True``: callers do not give the first parameter."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...


class BatchTaskDecorator(Protocol):
    """The same with ``batch=``: callers give one item, the function gets a list of them."""

    @overload
    def __call__(
        self, function: Callable[[list[Item]], Coroutine[Any, Any, None]], /
    ) -> AsyncTask[[Item], None]: ...
    @overload
    def __call__(
        self, function: Callable[[list[Item]], Coroutine[Any, Any, list[R | BaseException]]], /
    ) -> AsyncTask[[Item], R]: ...
    @overload
    def __call__(
        self, function: Callable[[list[Item]], Coroutine[Any, Any, list[R]]], /
    ) -> AsyncTask[[Item], R]: ...
    @overload
    def __call__(self, function: Callable[[list[Item]], None], /) -> Task[[Item], None]: ...
    @overload
    def __call__(
        self, function: Callable[[list[Item]], list[R | BaseException]], /
    ) -> Task[[Item], R]: ...
    @overload
    def __call__(self, function: Callable[[list[Item]], list[R]], /) -> Task[[Item], R]: ...


class Queue(Asynchronous, Providing):
    """Tasks, and the store that their jobs go to.

    Nothing native exists and no file is touched before the first use, so a queue may be made before
    a fork; one that was used before a fork is opened anew in the child.

    Args:
        db_path: The database file; its folders are created. None means ``.taskito/taskito.db`` in
            the current folder, ``":memory:"`` a private store of this object.
        workers: How many attempts a worker runs at a time; 0 means the number of CPUs.
        default_retry: Failures and timeouts allowed beyond the first, for tasks that do not say.
        default_timeout: Longest run of an attempt in seconds, likewise; 0 means no limit.
        default_priority: -128 to 127, higher first, likewise.
        result_ttl: Seconds for which finished jobs are kept; None keeps them until a purge.
        backend: Instead of ``db_path``: a URL such as ``"sqlite:///tasks.db"`` or ``"memory://"``,
            or a ``Backend`` object. The queue opens such an object; whoever made it closes it.
        serializer: Encodes arguments and results; a name ("msgpack", "json", "pickle", or what a
            plugin offers) or an object.
        accept: The serializers that may be decoded. None means ``serializer``, msgpack and json.
            Decoding pickle runs code that whoever can write the store chose.
        durability: "full" (what was acknowledged survives power loss), "normal" (survives the crash
            of any process) or "off".
        namespace: Isolates everything in one store: jobs, keys, counts, workers.
        drain_timeout: Seconds that running attempts get when a worker stops.
        max_payload_bytes: The largest encoded arguments, metadata or result.
        clock: Replaces the store's clock, for tests.
        dead_letter_ttl: Seconds after which a dead letter is deleted; None keeps it.
        max_dead_letters: How many dead letters are kept, the newest ones; None keeps all. Both are
            stored when a worker of this queue starts, hold for the whole namespace whoever does the
            upkeep, and stay until a worker says something else.
        lease: Seconds after which a job is taken from a worker that does not renew its claim. The
            engine renews in time; this bounds how long the loss of a whole machine goes unnoticed.
        busy_timeout: Seconds that a write waits for another process's write lock.
        middleware: Called around each attempt of this queue's workers, in this order.

    Raises:
        ConfigurationError: A value is not allowed; names the option, the value and the choice.
        CapabilityError: The backend cannot have its clock replaced.

    Example:
        >>> queue = Queue(db_path="tasks.db")
        >>> @queue.task()
        ... def add(a: int, b: int) -> int:
        ...     return a + b
        >>> add.delay(2, 3).result(timeout=10)
        5
    """

    def __init__(  # noqa: PLR0917 - the order is part of the public API
        self,
        db_path: str | os.PathLike[str] | None = None,
        workers: int = 0,
        default_retry: int = 3,
        default_timeout: float = 300,
        default_priority: int = 0,
        result_ttl: float | None = None,
        *,
        backend: str | Backend | None = None,
        serializer: str | Serializer = "msgpack",
        accept: Iterable[str | Serializer] | None = None,
        durability: str = "full",
        namespace: str = "default",
        drain_timeout: float = 30.0,
        max_payload_bytes: int = 1_048_576,
        clock: Clock | None = None,
        dead_letter_ttl: float | None = None,
        max_dead_letters: int | None = None,
        lease: float = 30.0,
        busy_timeout: float = 10.0,
        middleware: Iterable[Middleware] = (),
    ) -> None:
        self._defaults = Defaults(
            max_retries=config.check_integer("default_retry", default_retry),
            timeout=config.check_seconds("default_timeout", default_timeout),
            priority=config.check_priority("default_priority", default_priority),
            result_ttl=None
            if result_ttl is None
            else config.check_seconds("result_ttl", result_ttl),
        )
        self._worker_settings: dict[str, Any] = {
            "concurrency": config.check_integer("workers", workers, maximum=10_000),
            "drain_timeout": config.check_seconds("drain_timeout", drain_timeout),
            "lease": config.check_seconds("lease", lease, positive=True),
            "dead_letter_ttl": dead_letter_ttl
            if dead_letter_ttl is None
            else config.check_seconds("dead_letter_ttl", dead_letter_ttl),
            "max_dead_letters": max_dead_letters
            if max_dead_letters is None
            else config.check_integer("max_dead_letters", max_dead_letters),
        }
        options = BackendOptions(
            namespace=config.check_name("namespace", namespace),
            durability=config.check_choice("durability", durability, _DURABILITIES),
            clock=check_clock(clock),
            busy_timeout_ms=config.to_milliseconds(
                config.check_seconds("busy_timeout", busy_timeout)
            ),
        )
        codec = Codec(
            serializer,
            accept,
            config.check_integer("max_payload_bytes", max_payload_bytes, minimum=1),
        )
        self._connection = connect(db_path, backend, options, codec)
        for option in ("dead_letter_ttl", "max_dead_letters"):
            if self._worker_settings[option] is not None:
                self._connection.require("dead_letter_limits", f"{option}=")
        self._events = publisher()
        self._tasks = {}
        self._templates = {}
        self._schedules = {}
        self._middleware = check_middleware("middleware", middleware)
        self._hooks = FunctionHooks()
        self._resources = {}
        self._running = []
        known_queues.add(self)

    # Tasks ----------------------------------------------------------------------------------------

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        name: str | None = None,
        *,
        bind: Literal[True],
        **options: Unpack[TaskKeywords],
    ) -> BoundTaskDecorator: ...
    @overload
    def task(
        self,
        name: str | None = None,
        *,
        batch: Batch,
        **options: Unpack[UnbatchedKeywords],
    ) -> BatchTaskDecorator: ...
    @overload
    def task(
        self,
        name: str | None = ...,
        max_retries: int | None = ...,
        retry_backoff: float = ...,
        timeout: float | None = ...,
        priority: int | None = ...,
        rate_limit: str | None = ...,
        queue: str = ...,
        *,
        retry_on: Exceptions = ...,
        dont_retry_on: Exceptions = ...,
        retry_delays: Iterable[float] | None = ...,
        max_retry_delay: float = ...,
        retry_jitter: bool = ...,
        soft_timeout: float | None = ...,
        expires: float | None = ...,
        max_concurrent: int | None = ...,
        concurrency_key: str | Callable[..., str | None] | None = ...,
        max_crashes: int = ...,
        unique: UniqueUntil | None = ...,
        idempotent: bool = ...,
        result_ttl: float | None = ...,
        serializer: str | Serializer | None = ...,
        batch: None = ...,
        middleware: Iterable[Middleware] = ...,
        bind: Literal[False] = ...,
    ) -> TaskDecorator: ...
    def task(  # noqa: PLR0917 - the order is part of the public API
        self,
        name: str | Callable[..., Any] | None = None,
        max_retries: int | None = None,
        retry_backoff: float = 1.0,
        timeout: float | None = None,
        priority: int | None = None,
        rate_limit: str | None = None,
        queue: str = "default",
        *,
        retry_on: Exceptions = None,
        dont_retry_on: Exceptions = None,
        retry_delays: Iterable[float] | None = None,
        max_retry_delay: float = 300,
        retry_jitter: bool = True,
        soft_timeout: float | None = None,
        expires: float | None = None,
        max_concurrent: int | None = None,
        concurrency_key: str | Callable[..., str | None] | None = None,
        max_crashes: int = 2,
        unique: UniqueUntil | None = None,
        idempotent: bool = False,
        result_ttl: float | None = None,
        serializer: str | Serializer | None = None,
        batch: Batch | None = None,
        middleware: Iterable[Middleware] = (),
        bind: bool = False,
    ) -> Any:
        """Register a function as a task; a decorator, with or without arguments.

        Sync and ``async def`` functions alike. Durations are seconds.

        Args:
            name: What jobs are stored under; None means ``module.qualname``, where the module of a
                script is the script's name.
            max_retries: Failures and timeouts allowed beyond the first; None: the queue's default.
            retry_backoff: Before retry n (from 0) wait ``retry_backoff * 2**n``.
            timeout: Longest run of an attempt; 0 means no limit, None the queue's default.
            priority: -128 to 127, higher first; None: the queue's default.
            rate_limit: At most so many starts in a time, over all workers: "100/m", "10/s",
                "5/30s"; any time ``t`` holds at most ``100 + 100 * t / 1 min`` of "100/m", and
                ``1 + 100 * t / 1 min`` of "100/m burst 1".
            queue: The queue that its jobs go to.
            retry_on: Retry only after these exceptions and their subclasses; None: after any. Given
                as classes, or as names such as "requests.exceptions.ConnectionError" (module and
                qualified name) of classes that need not be importable here.
            dont_retry_on: Never retry after these.
            retry_delays: The wait before each retry, the last one for all that follow; replaces
                ``retry_backoff``.
            max_retry_delay: No back-off is longer.
            retry_jitter: Add up to half a second, so that retries do not come all at once.
            soft_timeout: After this time ``SoftTimeoutError`` is raised inside the task, which may
                catch it to clean up. It cannot interrupt code written in C, such as ``time.sleep``,
                before that returns.
            expires: A job that has not started this long after its enqueue is cancelled.
            max_concurrent: At most so many attempts at a time, over all workers.
            concurrency_key: What ``max_concurrent`` is counted by: a text, or a function of the
                task's arguments that returns one. Jobs with different keys do not limit each other;
                those without one are counted together.
            max_crashes: Worker deaths allowed before a job becomes a dead letter.
            unique: How long a job holds its unique key: "until_finish" (the default for a key), or
                "until_start", when an attempt of it is claimed. Given without ``unique_key=`` of
                a call, the key is made from the arguments, as with ``idempotent``.
            idempotent: While a job with the same arguments is pending or running, a call returns
                that job. Arguments count as the same if they are encoded to the same bytes; sets of
                texts may not be.
            result_ttl: How long a finished job is kept; None: the queue's default.
            serializer: Encodes arguments and results; None: the queue's. It must be accepted.
            batch: Call the function with a list of many jobs' arguments; see ``Batch``.
            middleware: Called around each attempt of this task, after that of the queue.
            bind: Call the function with ``current_job`` as its first argument.

        Returns:
            The ``Task``, or a decorator that makes one.

        Raises:
            ConfigurationError: A value is not allowed, or another function has this name.
            CapabilityError: The backend lacks what an option needs.

        Example:
            >>> @queue.task(max_retries=5, retry_on=ConnectionError)
            ... def fetch(url: str) -> str: ...
        """
        given: dict[str, Any] = {
            "max_retries": max_retries,
            "retry_backoff": retry_backoff,
            "timeout": timeout,
            "priority": priority,
            "rate_limit": rate_limit,
            "queue": queue,
            "retry_on": retry_on,
            "dont_retry_on": dont_retry_on,
            "retry_delays": retry_delays,
            "max_retry_delay": max_retry_delay,
            "retry_jitter": retry_jitter,
            "soft_timeout": soft_timeout,
            "expires": expires,
            "max_concurrent": max_concurrent,
            "concurrency_key": concurrency_key,
            "max_crashes": max_crashes,
            "unique": unique,
            "idempotent": idempotent,
            "result_ttl": result_ttl,
            "serializer": serializer,
            "batch": batch,
            "middleware": middleware,
            "bind": bind,
        }
        options = TaskOptions.checked(given)
        if callable(name):
            return self._register(name, None, options)

        def decorate(function: Callable[..., Any]) -> Task[..., Any]:
            return self._register(function, name, options)

        return decorate

    def remote_task(self, name: str, **options: Unpack[TaskKeywords]) -> Task[..., Any]:
        """Declare a task whose code lives in another service, so that it can be enqueued here.

        Args:
            name: The name under which the other service registers it.
            options: Those of ``task``.

        Raises:
            ConfigurationError: A value is not allowed, or a function of this queue has this name.

        Example:
            >>> resize = queue.remote_task("images.tasks.resize", queue="images")
            >>> resize.delay("a.png", width=100)
        """
        checked = TaskOptions.checked(options)
        return self._add(Task(self, config.check_name("name", name), None, checked))

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks of this queue by name, remote ones included; read-only."""
        return MappingProxyType(self._tasks)

    # Hooks ----------------------------------------------------------------------------------------

    def before_task(self, function: Hook) -> Hook:
        """Call ``function(task_name, args, kwargs)`` before each attempt in this queue's workers.

        An exception in it fails the attempt. Several hooks run in the order of registration.

        Example:
            >>> @queue.before_task
            ... def announce(task_name, args, kwargs): ...
        """
        return self._hooks.before_task(function)

    def after_task(self, function: Hook) -> Hook:
        """Call ``function(task_name, args, kwargs, result, error)`` after each attempt.

        An exception in it is logged and changes nothing; so for ``on_success`` and ``on_failure``.
        """
        return self._hooks.after_task(function)

    def on_success(self, function: Hook) -> Hook:
        """Call ``function(task_name, args, kwargs, result)`` after each attempt that ended well."""
        return self._hooks.on_success(function)

    def on_failure(self, function: Hook) -> Hook:
        """Call ``function(task_name, args, kwargs, error)`` after each attempt that failed."""
        return self._hooks.on_failure(function)

    # Life -----------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        """The open backend.

        Raises:
            QueueClosedError: The queue is closed, or its store belongs to the parent process.
            StorageError: It cannot be opened.
        """
        return self._connection.backend

    def close(self) -> None:
        """Stop this queue's workers, wait for them, and give the store back.

        Whoever still waits for a result gets ``QueueClosedError``. Closing twice is fine; using the
        queue afterwards raises ``QueueClosedError``.
        """
        self._stop_workers()
        self._connection.close()

    def __enter__(self) -> Self:
        """Return the queue; leaving the block closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the queue."""
        self.close()

    def __repr__(self) -> str:
        return f"<Queue on {self._connection.description}, {len(self._tasks)} tasks>"

    # Parts ----------------------------------------------------------------------------------------

    def _register(
        self, function: Callable[..., Any], name: str | None, options: TaskOptions
    ) -> Task[..., Any]:
        if isinstance(function, Task) or not callable(function):
            raise ConfigurationError(f"task: {function!r} is not a function")
        name = default_task_name(function) if name is None else name
        kind = AsyncTask if inspect.iscoroutinefunction(function) else Task
        return self._add(kind(self, config.check_name("name", name), function, options))

    def _add(self, task: Task[..., Any]) -> Task[..., Any]:
        for option in _LIMIT_OPTIONS:
            if getattr(task.options, option) is not None:
                self._connection.require("limits", f"{option}= of task {task.name!r}")
        # Of a remote task the limit is said where its code is.
        keyed = task.options.concurrency_key is not None and not task.is_remote
        if keyed and task.options.max_concurrent is None:
            raise ConfigurationError(
                f"concurrency_key: task {task.name!r} has one but no max_concurrent, so that it "
                f"would limit nothing; give max_concurrent="
            )
        if task.options.idempotent or task.options.unique is not None:
            option = "idempotent" if task.options.idempotent else "unique"
            self._connection.require("unique", f"{option}= of task {task.name!r}")
        template = self._make_template(task)
        known = self._tasks.get(task.name)
        if known is not None and not _same_place(known, task):
            raise ConfigurationError(
                f"name: {task.name!r} is taken by {_place(known)}; give {_place(task)} another name"
            )
        self._tasks[task.name] = task
        self._templates[task.name] = template
        return task


def _same_place(known: Task[..., Any], task: Task[..., Any]) -> bool:
    """Return whether one is the other defined again: by a reload, or in a notebook."""
    return _place(known) == _place(task)


def _place(task: Task[..., Any]) -> str:
    function = task.function
    if function is None:
        return "a remote task"
    module = getattr(function, "__module__", "?")
    return f"{module}.{getattr(function, '__qualname__', repr(function))}"
