"""The native engine.

Private: only ``taskito.backends.sqlite``, ``taskito.backends.transitions``, ``taskito.schedule``
and ``taskito.worker`` import it.
"""

import builtins
from collections.abc import Callable, Sequence
from typing import Final, final

from taskito.backends import params
from taskito.backends.base import Backend

SQLITE_VERSION: Final[str]
"""The version of the bundled SQLite."""
ENGINE_VERSION: Final[str]
"""The version of the engine crate; equals the package's."""
STATES: Final[tuple[str, ...]]
INITIAL_STATES: Final[tuple[str, ...]]
TRANSITIONS: Final[tuple[tuple[str, str, str], ...]]
"""Every legal transition as (state, event, state)."""

def new_job_id(wall_ms: int, sequence: int) -> str:
    """Make a UUIDv7 that carries ``sequence``, for backends written in Python."""

def retry_delay_ms(policy: TaskPolicy, attempt: int, random: float) -> int:
    """Return the delay before the retry that follows ``attempt``."""

@final
class CronSchedule:
    """A cron line in a time zone."""

    def __new__(cls, line: str, timezone: str = "UTC") -> CronSchedule: ...
    def next_after(self, after_ms: int) -> int | None: ...

@final
class VirtualClock:
    """A clock that a test moves by hand; copies share one time."""

    def __new__(cls, wall_ms: int = ...) -> VirtualClock: ...
    def wall_ms(self) -> int: ...
    def steady_ms(self) -> int: ...
    def advance(self, milliseconds: int) -> None: ...
    def set_wall(self, wall_ms: int) -> None: ...

@final
class SqliteStore:
    """One SQLite file and one namespace in it. Every method releases the interpreter."""

    @staticmethod
    def open(
        path: str,
        namespace: str = "default",
        durability: str = "full",
        busy_timeout_ms: int = 10_000,
        clock: VirtualClock | None = None,
        allow_network: bool = False,
    ) -> SqliteStore:
        """Open or create the file; ``":memory:"`` is a private store of this object."""

    def close(self) -> None: ...
    def enqueue(self, jobs: Sequence[params.NewJob]) -> list[params.Enqueued]: ...
    def register(self, worker: params.WorkerRegistration) -> None: ...
    def unregister(self, worker: str) -> None: ...
    def exchange(self, request: params.ExchangeRequest) -> params.ExchangeReply: ...
    def maintain(self, budget: int) -> params.MaintainReply: ...
    def wait(self, since: int, timeout: float) -> int: ...
    def get(self, ids: Sequence[str]) -> list[params.JobRecord | None]: ...
    def list(self, request: params.ListRequest) -> params.Page: ...
    def counts(self) -> builtins.list[params.Count]: ...
    def workers(self) -> builtins.list[params.WorkerRecord]: ...
    def cancel(self, request: params.CancelRequest) -> builtins.list[params.CancelVerdict]: ...
    def purge(self, request: params.PurgeRequest) -> int: ...
    def replay(self, request: params.ReplayRequest) -> builtins.list[str | None]: ...
    def acquire_lock(self, request: params.LockRequest) -> params.LockAnswer: ...
    def extend_locks(self, leases: Sequence[params.LockLease]) -> builtins.list[bool]: ...
    def release_lock(self, name: str, token: int) -> bool: ...
    def locks(self) -> builtins.list[params.LockRecord]: ...
    def pause(self, queue: str) -> None: ...
    def resume(self, queue: str) -> None: ...
    def paused(self) -> builtins.list[str]: ...
    def unstarted(self, queue: str) -> builtins.list[str]: ...
    def limit_rate(self, queue: str, rate: params.Rate | None) -> None: ...
    def limit_concurrency(self, queue: str, max_concurrent: int | None) -> None: ...
    def limits(self) -> builtins.list[params.LimitRecord]: ...
    def set_progress(self, id: str, token: int | None, percent: int) -> bool: ...
    def append_log(self, lease: params.Lease, level: str, message: str) -> bool: ...
    def logs(self, id: str) -> builtins.list[params.LogRecord]: ...
    def put_schedules(self, schedules: Sequence[params.NewSchedule]) -> None: ...
    def schedules(self) -> builtins.list[params.ScheduleRecord]: ...
    def set_schedules_paused(self, names: Sequence[str], paused: bool) -> builtins.list[bool]: ...
    def delete_schedules(self, names: Sequence[str]) -> builtins.list[bool]: ...
    def trigger_schedules(self, names: Sequence[str]) -> builtins.list[str | None]: ...
    def workflows(self, limit: int, after: int | None) -> params.WorkflowPage: ...
    def workflow(self, id: str) -> params.WorkflowRecord | None: ...
    def check(self) -> dict[str, str]:
        """Verify the file (``quick_check``, schema, counts); facts for ``taskito check``."""

    def costs(self) -> dict[str, int]:
        """Return how much work the connections of this process have done, by name."""

@final
class LockKeeper:
    """Extends the locks that this process holds in one store, on a thread without Python.

    The thread runs only while there is something to extend. Not to be used after a fork.

    Args:
        store: A native store, or any backend (reached through a bridge).
    """

    def __new__(cls, store: SqliteStore | Backend) -> LockKeeper: ...
    def hold(self, name: str, token: int, ttl_ms: int, age_ms: int) -> None:
        """Begin to extend a lock that was acquired ``age_ms`` ago at most."""
    def drop(self, token: int) -> str | None:
        """Extend a lock no more; return why it was lost, or None if it was held until now."""
    def lost(self, token: int) -> str | None:
        """Return why a lock was lost; None while it is held."""
    def close(self, reason: str) -> None:
        """Extend nothing any more; what is still held counts as lost for this reason."""

@final
class TaskPolicy:
    """How failed attempts of a task are spaced."""

    def __new__(
        cls,
        task: str,
        retry_backoff_ms: int = 1_000,
        retry_delays_ms: Sequence[int] | None = None,
        max_retry_delay_ms: int = 300_000,
        retry_jitter_ms: int = 500,
    ) -> TaskPolicy: ...

@final
class Failure:
    """An attempt that did not succeed, as the executor reports it.

    Args:
        error: The stored error.
        kind: "failure", "timeout", "rejected", or "crash", which uses no attempt and runs again at
            once, as long as the store does not say that there were too many.
        retry: Whether another attempt may follow; the dispatcher also looks at what is left.
        delay_ms: The delay that the task asked for; None follows its policy.
    """

    def __new__(
        cls, error: bytes, kind: str = "failure", retry: bool = True, delay_ms: int | None = None
    ) -> Failure: ...

@final
class Snoozed:
    """The task asked to run again later."""

    def __new__(cls, delay_ms: int) -> Snoozed: ...

@final
class Aborted:
    """The task stopped because its cancellation was asked for."""

    def __new__(cls, reason: str) -> Aborted: ...

@final
class Success:
    """The attempt ended well."""

    def __new__(cls, result: bytes, serializer: str) -> Success: ...

@final
class Run:
    """One attempt that an executor slot has taken and must report on."""

    @property
    def id(self) -> str: ...
    @property
    def token(self) -> int: ...
    @property
    def task(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def serializer(self) -> str: ...
    @property
    def metadata(self) -> bytes | None: ...
    @property
    def attempt(self) -> int: ...
    @property
    def max_retries(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def timeout_ms(self) -> int: ...
    @property
    def schedule(self) -> str | None: ...
    @property
    def fire_ms(self) -> int | None: ...
    @property
    def inputs(self) -> tuple[params.JobInput, ...]: ...
    def cancel_requested(self) -> bool:
        """Whether somebody asked for the cancellation of this job."""
    def abandoned(self) -> bool:
        """Whether the attempt is over (timeout, lost lease): its outcome will be refused."""

@final
class Slot:
    """The place of one executor thread, or of one job on an event loop.

    Not shared between threads.
    """

    def next(
        self,
        outcome: Success | Failure | Snoozed | Aborted | None,
        idle: Callable[[], object] | None = None,
    ) -> Run | None:
        """Report how the last run ended (None at first) and take the next one.

        ``idle`` is called about ten times a second while there is nothing to run.
        Blocks without the interpreter while there is nothing to run. None means: end this thread.
        """
    def report(self, outcome: Success | Failure | Snoozed | Aborted | None) -> bool:
        """Report how the last run ended without taking another one.

        Until the call of ``next`` that follows this executor counts as out of service. False: that
        would return None.
        """
    def try_next(self, outcome: Success | Failure | Snoozed | Aborted | None) -> Run | None:
        """Report how the last run ended (None at first) and take the next one, without blocking.

        None means that there is nothing to run now, or no more at all: ``stopped`` tells.
        """
    @property
    def index(self) -> int:
        """The number by which notices name it; used again after it is gone."""
    @property
    def stopped(self) -> bool:
        """Whether it will get no more work."""

@final
class Bell:
    """A descriptor that becomes readable when there may be work for the slots of an event loop."""

    def __new__(cls) -> Bell: ...
    def fileno(self) -> int:
        """Return the descriptor, for ``loop.add_reader``."""
    def clear(self) -> None:
        """Take note of the rings so far; ask the slots for work after this."""

@final
class Notice:
    """Something that a worker's owner should log or act on.

    ``kind`` is one of: "started", "stale" (a settlement was refused), "lost" (a lease was lost),
    "timeout" (a run was abandoned; ``slot`` needs a replacement), "cancelling" (somebody asked for
    the cancellation of what ``slot`` runs), "unknown_task", "storage" (the store failed and is
    retried), "storage_recovered", "draining", "stopped" (the last one; ``fatal`` is the reason if
    it had to stop).
    """

    @property
    def kind(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def job_id(self) -> str | None: ...
    @property
    def task(self) -> str | None: ...
    @property
    def slot(self) -> int | None: ...
    @property
    def fatal(self) -> BaseException | None: ...

@final
class Dispatcher:
    """One per worker: claims, hands over, renews and settles, on a thread without Python.

    Args:
        store: A native store, or any backend (reached through a bridge).
        registration: The worker.
        policies: One per task that the worker knows.
        maintain_interval_ms: Longest time between two steps of upkeep.
        owns_process: End the process 2 s after the drain time if threads do not let it end.
        drain_ms: The drain time of a worker that stops by itself.
        kills_overdue: The executors of functions kill a run whose time is over, so that none gets
            stuck in it.
        coroutines: The tasks that run on an event loop; all others run in threads.
        coroutine_concurrency: How many of their jobs are under way at a time; counted in the
            registration's ``concurrency``.
    """

    def __new__(
        cls,
        store: SqliteStore | Backend,
        registration: params.WorkerRegistration,
        policies: Sequence[TaskPolicy],
        maintain_interval_ms: int = 1_000,
        owns_process: bool = False,
        drain_ms: int = 30_000,
        kills_overdue: bool = False,
        coroutines: Sequence[str] = ...,
        coroutine_concurrency: int = 0,
    ) -> Dispatcher: ...
    def start(self) -> None:
        """Register the worker and begin. Raises what the store raises."""
    def slot(self) -> Slot:
        """Make the place of one more executor thread."""
    def loop_slot(self, bell: Bell) -> Slot:
        """Make the place of one more job on the event loop that listens to ``bell``.

        When the bell rings, the loop clears it and asks with its free slots until one gets nothing.
        """
    def stop(self, drain_ms: int) -> None:
        """Stop claiming, give back what has not started, wait up to ``drain_ms`` for the rest.

        A second call shortens the time. Returns at once; "stopped" tells the end.
        """
    def next_notice(self, timeout: float) -> Notice | None:
        """Wait for the next notice; None when ``timeout`` seconds went by."""
    def statistics(self) -> dict[str, int]:
        """Return counters.

        claimed, started, settled, stale, exchanges, running, buffered, ``silent_ms``.
        """
