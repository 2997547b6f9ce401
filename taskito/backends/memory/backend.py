"""The operations of the memory store, as the seam has them."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar
from urllib.parse import urlsplit

from taskito.backends import params
from taskito.backends.base import Backend, BackendOptions
from taskito.backends.capabilities import Capabilities, Liveness
from taskito.backends.memory import control, dead_letters, inspection, limits, locks
from taskito.backends.memory import schedules as scheduling
from taskito.backends.memory.enqueue import enqueue
from taskito.backends.memory.exchange import exchange
from taskito.backends.memory.maintain import give_back, maintain
from taskito.backends.memory.replay import replay
from taskito.backends.memory.shelf import put_back, take
from taskito.backends.memory.store import Store, Worker
from taskito.backends.validation import check_options, check_worker
from taskito.exceptions import ConfigurationError, QueueClosedError

__all__ = ["MemoryBackend"]


class MemoryBackend(Backend):
    """A store in the memory of this process. It keeps nothing beyond the process.

    A store without a name belongs to this object alone. All backends of one name and namespace
    share one store; it lives as long as one of them has it open. ``durability`` and
    ``busy_timeout_ms`` mean nothing here.

    Args:
        name: Which store to share; empty for a private one.
        options: Namespace and clock.

    Raises:
        ConfigurationError: An option has a value that it cannot have.

    Example:
        >>> with MemoryBackend() as backend:
        ...     [answer] = backend.enqueue([params.NewJob(task="add")])
        ...     answer.duplicate
        False
    """

    name: ClassVar[str] = "memory"
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
        virtual_time=True,
        liveness=Liveness.LEASE,
    )

    def __init__(self, name: str = "", options: BackendOptions | None = None) -> None:
        self.options = options if options is not None else BackendOptions()
        check_options(self.options)
        self.store_name = name
        self._store: Store | None = None
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def from_url(cls, url: str, options: BackendOptions) -> MemoryBackend:
        """Make the backend of a URL: ``memory://`` is private, ``memory://name`` is shared."""
        parts = urlsplit(url)
        if parts.query or parts.fragment:
            raise ConfigurationError(
                f"backend: {url!r} has options; memory:// knows none, give memory:// or "
                "memory://name"
            )
        return cls(parts.netloc + parts.path, options)

    # Life ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the store; a closed one is opened again."""
        with self._lock:
            if self._store is None:
                self._store = take(self.store_name, self.options)
            self._closed = False

    def close(self) -> None:
        """Give the store back; the last one to close a store ends it."""
        with self._lock:
            store, self._store = self._store, None
            self._closed = True
        if store is not None:
            put_back(self.store_name, store)

    # Producers ----------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[params.NewJob]) -> list[params.Enqueued]:
        """Store a batch of jobs; see ``Backend.enqueue``."""
        with self._atom() as store:
            return enqueue(store, jobs)

    # Workers ------------------------------------------------------------------------------------

    def register(self, worker: params.WorkerRegistration) -> None:
        """Announce a worker; see ``Backend.register``."""
        check_worker(worker)
        with self._atom() as store:
            if worker.id in store.workers:
                raise ConfigurationError(
                    f"id: {worker.id!r} is taken; every start of a worker needs an id of its own"
                )
            present = Worker(registration=worker, started_ms=store.clock.wall_ms())
            store.workers[worker.id] = present
            limits.announce(store, present)
            dead_letters.announce(store, worker.dead_letters)

    def unregister(self, worker: str) -> None:
        """Take a worker away; see ``Backend.unregister``."""
        with self._atom() as store:
            give_back(store, worker)

    def exchange(self, request: params.ExchangeRequest) -> params.ExchangeReply:
        """Settle, renew and claim; see ``Backend.exchange``."""
        with self._atom() as store:
            return exchange(store, request)

    def maintain(self, budget: int) -> params.MaintainReply:
        """Do one step of upkeep; see ``Backend.maintain``."""
        with self._atom() as store:
            return maintain(store, budget)

    def wait(self, since: int, timeout: float) -> int:
        """Wait for a change; see ``Backend.wait``."""
        return self._opened().wait(since, timeout)

    # Inspection ---------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> list[params.JobRecord | None]:
        """Return the record of each job; see ``Backend.get``."""
        with self._atom() as store:
            return inspection.get(store, ids)

    def list(self, request: params.ListRequest) -> params.Page:
        """Return a page of jobs; see ``Backend.list``."""
        with self._atom() as store:
            return inspection.list_jobs(store, request)

    def counts(self) -> builtins.list[params.Count]:
        """Return how many jobs are in each state; see ``Backend.counts``."""
        with self._atom() as store:
            return inspection.counts(store)

    def workers(self) -> builtins.list[params.WorkerRecord]:
        """Return the registered workers; see ``Backend.workers``."""
        with self._atom() as store:
            return inspection.workers(store)

    # Control ------------------------------------------------------------------------------------

    def cancel(self, request: params.CancelRequest) -> builtins.list[params.CancelVerdict]:
        """Cancel jobs; see ``Backend.cancel``."""
        with self._atom() as store:
            return control.cancel(store, request)

    def purge(self, request: params.PurgeRequest) -> int:
        """Delete finished jobs; see ``Backend.purge``."""
        with self._atom() as store:
            return control.purge(store, request)

    def replay(self, request: params.ReplayRequest) -> builtins.list[str | None]:
        """Enqueue finished jobs again; see ``Backend.replay``."""
        with self._atom() as store:
            return replay(store, request)

    def workflows(self, request: params.WorkflowsRequest) -> params.WorkflowPage:
        """Return a page of workflows; see ``Backend.workflows``."""
        with self._atom() as store:
            return inspection.list_workflows(store, request)

    def workflow(self, id: str) -> params.WorkflowRecord | None:
        """Return one workflow; see ``Backend.workflow``."""
        with self._atom() as store:
            return inspection.get_workflow(store, id)

    def pause(self, queue: str) -> None:
        """Pause a queue; see ``Backend.pause``."""
        with self._atom() as store:
            control.pause(store, queue)

    def resume(self, queue: str) -> None:
        """Resume a queue; see ``Backend.resume``."""
        with self._atom() as store:
            control.resume(store, queue)

    def paused(self) -> builtins.list[str]:
        """Return the paused queues; see ``Backend.paused``."""
        with self._atom() as store:
            return sorted(store.paused)

    def unstarted(self, queue: str) -> builtins.list[str]:
        """Return who may still start a job of a queue; see ``Backend.unstarted``."""
        with self._atom() as store:
            return control.unstarted(store, queue)

    def limit_rate(self, queue: str, rate: params.Rate | None) -> None:
        """Limit the rate of a queue; see ``Backend.limit_rate``."""
        with self._atom() as store:
            limits.limit_rate(store, queue, rate)

    def limit_concurrency(self, queue: str, max_concurrent: int | None) -> None:
        """Limit the concurrency of a queue; see ``Backend.limit_concurrency``."""
        with self._atom() as store:
            limits.limit_concurrency(store, queue, max_concurrent)

    def limits(self) -> builtins.list[params.LimitRecord]:
        """Return the limits in force; see ``Backend.limits``."""
        with self._atom() as store:
            return limits.records(store)

    def acquire_lock(self, request: params.LockRequest) -> params.LockAnswer:
        """Take a named lock; see ``Backend.acquire_lock``."""
        with self._atom() as store:
            return locks.acquire(store, request)

    def extend_locks(self, leases: Sequence[params.LockLease]) -> builtins.list[bool]:
        """Extend locks; see ``Backend.extend_locks``."""
        with self._atom() as store:
            return locks.extend(store, leases)

    def release_lock(self, name: str, token: int) -> bool:
        """Free a lock; see ``Backend.release_lock``."""
        with self._atom() as store:
            return locks.release(store, name, token)

    def locks(self) -> builtins.list[params.LockRecord]:
        """Return the locks that are held; see ``Backend.locks``."""
        with self._atom() as store:
            return locks.records(store)

    def set_progress(self, id: str, token: int | None, percent: int) -> bool:
        """Store the progress of a running job; see ``Backend.set_progress``."""
        with self._atom() as store:
            return control.set_progress(store, id, token, percent)

    def append_log(self, lease: params.Lease, level: str, message: str) -> bool:
        """Append a line to the log of a running job; see ``Backend.append_log``."""
        with self._atom() as store:
            return control.append_log(store, lease, level, message)

    def logs(self, id: str) -> builtins.list[params.LogRecord]:
        """Return the log lines of a job; see ``Backend.logs``."""
        with self._atom() as store:
            job = inspection.find(store, id)
            return [] if job is None else list(job.logs)

    # Schedules ----------------------------------------------------------------------------------

    def put_schedules(self, schedules: Sequence[params.NewSchedule]) -> None:
        """Take over declared schedules; see ``Backend.put_schedules``."""
        with self._atom() as store:
            scheduling.put(store, schedules)

    def schedules(self) -> builtins.list[params.ScheduleRecord]:
        """Return every schedule; see ``Backend.schedules``."""
        with self._atom() as store:
            return scheduling.records(store)

    def set_schedules_paused(self, names: Sequence[str], paused: bool) -> builtins.list[bool]:
        """Pause or resume schedules; see ``Backend.set_schedules_paused``."""
        with self._atom() as store:
            return [scheduling.set_paused(store, name, paused) for name in names]

    def delete_schedules(self, names: Sequence[str]) -> builtins.list[bool]:
        """Delete schedules; see ``Backend.delete_schedules``."""
        with self._atom() as store:
            return [store.schedules.pop(name, None) is not None for name in names]

    def trigger_schedules(self, names: Sequence[str]) -> builtins.list[str | None]:
        """Make a job of each schedule; see ``Backend.trigger_schedules``."""
        with self._atom() as store:
            return [scheduling.trigger(store, name) for name in names]

    # Parts --------------------------------------------------------------------------------------

    @contextmanager
    def _atom(self) -> Iterator[Store]:
        store = self._opened()
        with store.atom():
            yield store

    def _opened(self) -> Store:
        """Return the store, which the first operation opens."""
        store = self._store
        if store is not None:
            return store
        if self._closed:
            raise QueueClosedError("the memory store is closed; open it again before using it")
        self.open()
        return self._opened()
