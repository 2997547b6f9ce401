"""The default backend: the native engine over one SQLite file.

Nothing native exists before the store is opened, so a backend may be made before a fork. One that
was opened before a fork is refused in the child by the engine itself.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from taskito.backends import params
from taskito.backends.base import Backend, BackendOptions
from taskito.backends.capabilities import Capabilities, Liveness
from taskito.backends.validation import check_options
from taskito.exceptions import ConfigurationError, QueueClosedError, StorageError

if TYPE_CHECKING:
    from taskito._core import SqliteStore, VirtualClock

__all__ = ["MEMORY", "SqliteBackend", "VirtualClock"]

MEMORY = ":memory:"
"""The path of a private store in memory."""

_SCHEME = "sqlite://"
_FLAGS = {"true": True, "false": False, "1": True, "0": False}


class SqliteBackend(Backend):
    """One SQLite file and one namespace in it.

    Args:
        path: The file; it and its folders are created. ``":memory:"`` is a private store.
        options: Namespace, durability, clock and patience.
        allow_network: Open the file even if it lies on a network file system, where SQLite's locks
            may not work.

    Raises:
        ConfigurationError: An option has a value that it cannot have.

    Example:
        >>> with SqliteBackend(":memory:") as backend:
        ...     [answer] = backend.enqueue([params.NewJob(task="add")])
        ...     answer.duplicate
        False
    """

    name: ClassVar[str] = "sqlite"
    capabilities: ClassVar[Capabilities] = Capabilities(
        unique=True,
        dependencies=True,
        given_ids=True,
        limits=True,
        locks=True,
        progress_log=True,
        pauses=True,
        replay=True,
        dead_letter_limits=True,
        schedules=True,
        workflows=True,
        cross_process=True,
        virtual_time=True,
        liveness=Liveness.KERNEL,
    )

    def __init__(
        self,
        path: str,
        options: BackendOptions | None = None,
        *,
        allow_network: bool = False,
    ) -> None:
        self.path = path
        self.options = options if options is not None else BackendOptions()
        self.allow_network = allow_network
        if not path:
            raise ConfigurationError(f"path: {path!r} names no file; give one, or {MEMORY!r}")
        check_options(self.options)
        self._store: SqliteStore | None = None
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def from_url(cls, url: str, options: BackendOptions) -> SqliteBackend:
        """Make the backend of a URL.

        ``sqlite:///tasks.db`` is relative to the current folder, ``sqlite:////var/tasks.db`` is
        absolute, ``sqlite://:memory:`` and ``sqlite:///:memory:`` are private stores. The only
        option is ``?allow_network=true``. Characters with a meaning in URLs (``?``, ``#``, ``%``)
        are written as percent codes.

        Raises:
            ConfigurationError: The URL names no file, or has an option that does not exist.
        """
        parts = urlsplit(url)
        if parts.fragment:
            raise ConfigurationError(f"backend: {url!r} has a fragment; write '#' as '%23'")
        flags = parse_qsl(parts.query, keep_blank_values=True)
        allow_network = False
        for option, value in flags:
            if option != "allow_network":
                raise ConfigurationError(
                    f"backend: {url!r} has the option {option!r}; the only one is allow_network"
                )
            if value.lower() not in _FLAGS:
                raise ConfigurationError(f"allow_network: {value!r} is neither 'true' nor 'false'")
            allow_network = _FLAGS[value.lower()]
        return cls(_path_of(url, parts.netloc, parts.path), options, allow_network=allow_network)

    # Life ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the file; a closed store is opened again."""
        with self._lock:
            if self._store is None:
                self._store = self._open_native()
                self.native_store = self._store
            self._closed = False

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            store, self._store = self._store, None
            self.native_store = None
            self._closed = True
        if store is not None:
            store.close()

    # Producers ----------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[params.NewJob]) -> list[params.Enqueued]:
        """Store a batch of jobs; see ``Backend.enqueue``."""
        return self._opened().enqueue(jobs)

    # Workers ------------------------------------------------------------------------------------

    def register(self, worker: params.WorkerRegistration) -> None:
        """Announce a worker; see ``Backend.register``."""
        self._opened().register(worker)

    def unregister(self, worker: str) -> None:
        """Take a worker away; see ``Backend.unregister``."""
        self._opened().unregister(worker)

    def exchange(self, request: params.ExchangeRequest) -> params.ExchangeReply:
        """Settle, renew and claim; see ``Backend.exchange``."""
        return self._opened().exchange(request)

    def maintain(self, budget: int) -> params.MaintainReply:
        """Do one step of upkeep; see ``Backend.maintain``."""
        return self._opened().maintain(budget)

    def wait(self, since: int, timeout: float) -> int:
        """Wait for a change; see ``Backend.wait``."""
        return self._opened().wait(since, timeout)

    # Inspection ---------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[params.JobRecord | None]:
        """Return the record of each job; see ``Backend.get``."""
        return self._opened().get(ids)

    def list(self, request: params.ListRequest) -> params.Page:
        """Return a page of jobs; see ``Backend.list``."""
        return self._opened().list(request)

    def counts(self) -> builtins.list[params.Count]:
        """Return how many jobs are in each state; see ``Backend.counts``."""
        return self._opened().counts()

    def workers(self) -> builtins.list[params.WorkerRecord]:
        """Return the registered workers; see ``Backend.workers``."""
        return self._opened().workers()

    def check(self) -> dict[str, str]:
        """Verify the file and return facts about it: versions, durability, sizes."""
        return self._opened().check()

    def costs(self) -> dict[str, int]:
        """Return how much work this process has done on the file since it was opened.

        SQLite counts it anyway. Tests compare these numbers instead of times.

        Returns:
            Totals: ``statements`` run, ``instructions`` of SQLite's virtual machine, rows
            ``scanned`` without an index, ``sorts`` without one, ``pages_read`` from cache or file,
            ``pages_written`` to the log.

        Example:
            >>> with SqliteBackend(":memory:") as backend:
            ...     before = backend.costs()["statements"]
            ...     _ = backend.enqueue([params.NewJob(task="add")])
            ...     backend.costs()["statements"] > before
            True
        """
        return self._opened().costs()

    # Control ------------------------------------------------------------------------------------

    def cancel(self, request: params.CancelRequest) -> builtins.list[params.CancelVerdict]:
        """Cancel jobs; see ``Backend.cancel``."""
        return self._opened().cancel(request)

    def purge(self, request: params.PurgeRequest) -> int:
        """Delete finished jobs; see ``Backend.purge``."""
        return self._opened().purge(request)

    def replay(self, request: params.ReplayRequest) -> builtins.list[str | None]:
        """Enqueue finished jobs again; see ``Backend.replay``."""
        return self._opened().replay(request)

    def pause(self, queue: str) -> None:
        """Pause a queue; see ``Backend.pause``."""
        self._opened().pause(queue)

    def resume(self, queue: str) -> None:
        """Resume a queue; see ``Backend.resume``."""
        self._opened().resume(queue)

    def paused(self) -> builtins.list[str]:
        """Return the paused queues; see ``Backend.paused``."""
        return self._opened().paused()

    def unstarted(self, queue: str) -> builtins.list[str]:
        """Return who may still start a job of a queue; see ``Backend.unstarted``."""
        return self._opened().unstarted(queue)

    def limit_rate(self, queue: str, rate: params.Rate | None) -> None:
        """Limit the rate of a queue; see ``Backend.limit_rate``."""
        self._opened().limit_rate(queue, rate)

    def limit_concurrency(self, queue: str, max_concurrent: int | None) -> None:
        """Limit the concurrency of a queue; see ``Backend.limit_concurrency``."""
        self._opened().limit_concurrency(queue, max_concurrent)

    def limits(self) -> builtins.list[params.LimitRecord]:
        """Return the limits in force; see ``Backend.limits``."""
        return self._opened().limits()

    def acquire_lock(self, request: params.LockRequest) -> params.LockAnswer:
        """Take a named lock; see ``Backend.acquire_lock``."""
        return self._opened().acquire_lock(request)

    def extend_locks(self, leases: Sequence[params.LockLease]) -> builtins.list[bool]:
        """Extend locks; see ``Backend.extend_locks``."""
        return self._opened().extend_locks(leases)

    def release_lock(self, name: str, token: int) -> bool:
        """Free a lock; see ``Backend.release_lock``."""
        return self._opened().release_lock(name, token)

    def locks(self) -> builtins.list[params.LockRecord]:
        """Return the locks that are held; see ``Backend.locks``."""
        return self._opened().locks()

    def set_progress(self, id: str, token: int | None, percent: int) -> bool:
        """Store the progress of a running job; see ``Backend.set_progress``."""
        return self._opened().set_progress(id, token, percent)

    def append_log(self, lease: params.Lease, level: str, message: str) -> bool:
        """Append a line to the log of a running job; see ``Backend.append_log``."""
        return self._opened().append_log(lease, level, message)

    def logs(self, id: str) -> builtins.list[params.LogRecord]:
        """Return the log lines of a job; see ``Backend.logs``."""
        return self._opened().logs(id)

    # Schedules ----------------------------------------------------------------------------------

    def put_schedules(self, schedules: Sequence[params.NewSchedule]) -> None:
        """Take over declared schedules; see ``Backend.put_schedules``."""
        self._opened().put_schedules(schedules)

    def schedules(self) -> builtins.list[params.ScheduleRecord]:
        """Return every schedule; see ``Backend.schedules``."""
        return self._opened().schedules()

    def set_schedules_paused(self, names: Sequence[str], paused: bool) -> builtins.list[bool]:
        """Pause or resume schedules; see ``Backend.set_schedules_paused``."""
        return self._opened().set_schedules_paused(names, paused)

    def delete_schedules(self, names: Sequence[str]) -> builtins.list[bool]:
        """Delete schedules; see ``Backend.delete_schedules``."""
        return self._opened().delete_schedules(names)

    def trigger_schedules(self, names: Sequence[str]) -> builtins.list[str | None]:
        """Make a job of each schedule; see ``Backend.trigger_schedules``."""
        return self._opened().trigger_schedules(names)

    def workflows(self, request: params.WorkflowsRequest) -> params.WorkflowPage:
        """Return a page of workflows; see ``Backend.workflows``."""
        return self._opened().workflows(request.limit, request.after)

    def workflow(self, id: str) -> params.WorkflowRecord | None:
        """Return one workflow; see ``Backend.workflow``."""
        return self._opened().workflow(id)

    # Parts --------------------------------------------------------------------------------------

    def _opened(self) -> SqliteStore:
        """Return the native store, which the first operation opens."""
        store = self._store
        if store is not None:
            return store
        if self._closed:
            raise QueueClosedError(f"the store {self.path!r} is closed; open it again before use")
        self.open()
        return self._opened()

    def _open_native(self) -> SqliteStore:
        from taskito._core import SqliteStore

        if self.path != MEMORY:
            _create_folder(Path(self.path).absolute().parent)
        return SqliteStore.open(
            self.path,
            namespace=self.options.namespace,
            durability=self.options.durability,
            busy_timeout_ms=self.options.busy_timeout_ms,
            clock=self._native_clock(),
            allow_network=self.allow_network,
        )

    def _native_clock(self) -> VirtualClock | None:
        from taskito._core import VirtualClock

        clock = self.options.clock
        if clock is None or isinstance(clock, VirtualClock):
            return clock
        raise ConfigurationError(
            f"clock: {clock!r} cannot be asked by the engine; give a taskito.testing.VirtualClock"
        )


def _path_of(url: str, host: str, path: str) -> str:
    if host == MEMORY or path == f"/{MEMORY}":
        return MEMORY
    if host:
        raise ConfigurationError(
            f"backend: {url!r} has two slashes; write {_SCHEME}/{host}{path} for a path relative "
            f"to the current folder, {_SCHEME}//{host}{path} for an absolute one"
        )
    if not path.strip("/"):
        raise ConfigurationError(f"backend: {url!r} names no file; write {_SCHEME}/tasks.db")
    return unquote(path[1:])


def _create_folder(folder: Path) -> None:
    # A folder made here is for the database, and only its owner may enter it.
    try:
        for missing in reversed([folder, *folder.parents]):
            if not missing.exists():
                missing.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(f"path: the folder {folder} cannot be created: {error}") from error


def __getattr__(name: str) -> Any:
    """Load the engine's clock only when somebody asks for it."""
    if name == "VirtualClock":
        from taskito._core import VirtualClock

        return VirtualClock
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
