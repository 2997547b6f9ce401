"""The store of one queue as this process sees it: opened on first use, and again after a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from taskito.backends.base import Backend, BackendOptions, Clock
from taskito.backends.capabilities import Capabilities
from taskito.codec import Codec
from taskito.exceptions import ConfigurationError, QueueClosedError
from taskito.waiter import Waiter

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["OPERATION_THREADS", "Connection", "LockKeeper", "check_clock", "connect"]

P = ParamSpec("P")
R = TypeVar("R")

_DEFAULT_PATH = ".taskito/taskito.db"
_MEMORY = ":memory:"

OPERATION_THREADS = 8
"""How many threads the asynchronous twins of one queue share for their operations."""


class LockKeeper(Protocol):
    """What extends the locks that this process holds; ``taskito._core.LockKeeper`` is one."""

    def hold(self, name: str, token: int, ttl_ms: int, age_ms: int) -> None:
        """Begin to extend a lock that was acquired ``age_ms`` ago at most."""

    def drop(self, token: int) -> str | None:
        """Extend a lock no more; return why it was lost, or None if it was held until now."""

    def lost(self, token: int) -> str | None:
        """Return why a lock was lost; None while it is held."""

    def close(self, reason: str) -> None:
        """Extend nothing any more; what is still held counts as lost for this reason."""


class _Opened:
    """What exists in one process: a child after a fork must not touch that of its parent."""

    def __init__(self, backend: Backend) -> None:
        self.pid = os.getpid()
        self.backend = backend
        self.waiter = Waiter(backend, self.submit)
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._keeper: LockKeeper | None = None

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The threads for operations, started when first needed."""
        with self._lock:
            if self._executor is None:
                from concurrent.futures import ThreadPoolExecutor

                self._executor = ThreadPoolExecutor(
                    OPERATION_THREADS, thread_name_prefix="taskito-operations"
                )
            return self._executor

    @property
    def keeper(self) -> LockKeeper:
        """What extends the locks that this process holds, made when first needed."""
        with self._lock:
            if self._keeper is None:
                from taskito import _core

                native = self.backend.native_store
                self._keeper = _core.LockKeeper(native or self.backend)  # type: ignore[arg-type]
            return self._keeper

    def submit(self, function: Callable[[], None]) -> None:
        """Run ``function`` on one of the operation threads."""
        self.executor.submit(function)

    def close(self, *, close_backend: bool) -> None:
        """Stop the threads, then give the store back."""
        self.waiter.close()
        with self._lock:
            executor, keeper = self._executor, self._keeper
        if keeper is not None:
            # The locks stay held until their time is over: the blocks that need them still run.
            keeper.close("the queue was closed while it was held")
        if executor is not None:
            executor.shutdown(wait=True)
        if close_backend:
            self.backend.close()


# In a child, what was opened before the fork. It is neither used nor closed nor dropped: that would
# disturb the parent.
_of_parents: list[_Opened] = []


class Connection:
    """Opens the backend on first use, in each process anew.

    Args:
        make: Makes a backend that is not open yet.
        codec: Translates what goes into the store and comes out of it.
        shared: Whether another process, or another object, sees the same jobs. If not, a store that
            was opened before a fork cannot be had in the child.
        owned: Whether closing this closes the backend.
        description: Names the store in messages.

    Attributes:
        codec: As given.
        description: As given.
        capabilities: Those of the backend, known before it is opened.
        backend_name: Its name.
    """

    def __init__(
        self,
        make: Callable[[], Backend],
        codec: Codec,
        *,
        shared: bool,
        owned: bool,
        description: str,
    ) -> None:
        self.codec = codec
        self.description = description
        self._make = make
        self._owned = owned
        self._closed = False
        self._opened: _Opened | None = None
        # One lock per process: that of the parent may have been held at the time of the fork.
        self._locks: dict[int, threading.Lock] = {}
        self._unopened: Backend | None = make()
        self.capabilities: Capabilities = self._unopened.capabilities
        self.backend_name: str = self._unopened.name
        self._shared = shared and self.capabilities.cross_process

    @property
    def shared(self) -> bool:
        """Whether another process sees the same jobs."""
        return self._shared

    @property
    def backend(self) -> Backend:
        """The open backend.

        Raises:
            QueueClosedError: The queue is closed, or its store belongs to the parent process.
            StorageError: It cannot be opened.
        """
        return (self._present() or self._open()).backend

    @property
    def waiter(self) -> Waiter:
        """The one that waits for results on behalf of every caller in this process."""
        return (self._present() or self._open()).waiter

    @property
    def keeper(self) -> LockKeeper:
        """What extends the locks that this process holds."""
        return (self._present() or self._open()).keeper

    async def awaiter(self) -> Waiter:
        """Return the same without blocking the event loop."""
        return (await self._aopen()).waiter

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a blocking function on one of the few operation threads.

        A call that was cancelled may still take place.
        """
        import asyncio
        import contextvars
        import functools

        opened = await self._aopen()
        context = contextvars.copy_context()
        call = functools.partial(context.run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(opened.executor, call)

    def require(self, capability: str, feature: str) -> None:
        """Raise unless the backend declares ``capability``.

        Raises:
            CapabilityError: It does not.
        """
        self.capabilities.require(capability, feature, self.backend_name)

    def close(self) -> None:
        """Close what this process opened; closing twice is fine."""
        with self._lock():
            self._closed = True
            opened, self._opened = self._opened, None
        if opened is not None and opened.pid == os.getpid():
            opened.close(close_backend=self._owned)
        elif opened is not None:
            _of_parents.append(opened)

    def _lock(self) -> threading.Lock:
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _present(self) -> _Opened | None:
        opened = self._opened
        return opened if opened is not None and opened.pid == os.getpid() else None

    async def _aopen(self) -> _Opened:
        import asyncio

        present = self._present()
        if present is None:
            # Opening may create files and wait for locks.
            present = await asyncio.to_thread(self._open)
        return present

    def _open(self) -> _Opened:
        with self._lock():
            opened = self._opened
            if self._closed:
                raise QueueClosedError("this queue is closed; create a new Queue")
            if opened is not None and opened.pid == os.getpid():
                return opened
            if opened is not None:
                self._leave_to_parent(opened)
            backend = self._unopened or self._make()
            backend.open()
            self._unopened = None
            self._opened = present = _Opened(backend)
            return present

    def _leave_to_parent(self, opened: _Opened) -> None:
        if not self._shared:
            raise QueueClosedError(
                f"this queue was opened by process {opened.pid} and has a store that only that "
                f"process can use; after a fork create a new Queue, or use a database file"
            )
        _of_parents.append(opened)
        self._opened = None


def connect(
    db_path: str | os.PathLike[str] | None,
    backend: str | Backend | None,
    options: BackendOptions,
    codec: Codec,
) -> Connection:
    """Return the way to the store that a ``Queue`` was given.

    Args:
        db_path: A file, or ``":memory:"``; None means the default one.
        backend: A URL or a backend; excludes ``db_path``.
        options: For the backend, unless it is an object, which has its own.
        codec: The queue's.

    Raises:
        ConfigurationError: Both are given, or one is malformed; names it.
        CapabilityError: The backend cannot have its clock replaced.
    """
    from taskito.backends.registry import open_backend

    if backend is None:
        path = _check_path(db_path)

        def make() -> Backend:
            from taskito.backends.sqlite import SqliteBackend

            return SqliteBackend(path, options)

        in_memory = path == _MEMORY
        return Connection(make, codec, shared=not in_memory, owned=True, description=path)
    if db_path is not None:
        raise ConfigurationError(
            f"db_path: {os.fspath(db_path)!r} is given together with backend={backend!r}; give one"
        )
    if isinstance(backend, Backend):
        _refuse_options_beside_object(options)
        return Connection(
            lambda: backend, codec, shared=False, owned=False, description=f"backend {backend.name}"
        )
    shared = _MEMORY not in str(backend)
    return Connection(
        lambda: open_backend(backend, options),
        codec,
        shared=shared,
        owned=True,
        description=_without_password(backend),
    )


def _check_path(db_path: str | os.PathLike[str] | None) -> str:
    path = _DEFAULT_PATH if db_path is None else db_path
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigurationError(f"db_path: {path!r} is not allowed; give the path of a file")
    text = os.fspath(path)
    if not text or "\0" in text:
        raise ConfigurationError(f"db_path: {path!r} is not allowed; give the path of a file")
    # Absolute from now on: the current folder may be another one at the first use, or in a child.
    return text if text == _MEMORY else os.path.abspath(text)  # noqa: PTH100 - keeps symlinks


def check_clock(clock: Clock | None) -> Clock | None:
    """Return ``clock`` if it has the methods of one; None means the store's."""
    for method in ("wall_ms", "steady_ms"):
        if clock is not None and not callable(getattr(clock, method, None)):
            raise ConfigurationError(
                f"clock: {clock!r} is not allowed; give an object with wall_ms() and steady_ms()"
            )
    return clock


def _refuse_options_beside_object(options: BackendOptions) -> None:
    unset = BackendOptions()
    for field, value, default in (
        ("namespace", options.namespace, unset.namespace),
        ("durability", options.durability, unset.durability),
        ("clock", options.clock, unset.clock),
        ("busy_timeout", options.busy_timeout_ms, unset.busy_timeout_ms),
    ):
        if value != default:
            raise ConfigurationError(
                f"{field}: {value!r} is given together with a Backend object, which has options of "
                f"its own; give it to the backend, or give the backend as a URL"
            )


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{place}"
