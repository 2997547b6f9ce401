"""The seam: what a store has to do so that taskito can run on it.

Twelve operations are required; the others stand behind a flag of ``Capabilities`` and have a
default that raises ``CapabilityError``. Everything is batch-first, takes and returns the frozen
dataclasses of ``taskito.backends.params``, and is safe to call from several threads.

Rules for every backend (the conformance kit checks them):

- A job is never started before its time, never held by two live leases, never lost once accepted.
- Every write on behalf of an attempt carries the lease and is refused once that lease is over. It
  is over when the store has taken the job back or ended it; a deadline alone ends nothing.
- Tokens of a job only grow, whatever happens to it.
- What follows from a settlement happens in the same atom as the settlement.
- "Now" is the store's, never the caller's; no operation takes it.
- A refused call changes nothing.
- A backend neither logs nor measures; the layers above do.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from taskito.backends.capabilities import Capabilities, lacking

if TYPE_CHECKING:
    from types import TracebackType

    from taskito.backends import params
    from taskito.exceptions import CapabilityError

__all__ = ["BACKEND_API", "Backend", "BackendOptions", "Clock"]

BACKEND_API = 1
"""The version of this seam. It grows when a required operation is added or changes its meaning."""


class Clock(Protocol):
    """A source of time in milliseconds. ``taskito.testing.VirtualClock`` is one for tests."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""

    def steady_ms(self) -> int:
        """Return milliseconds of a clock that nobody can set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """What a ``Queue`` tells a backend when it creates one.

    Attributes:
        namespace: Isolates everything: jobs, keys, counts, workers.
        durability: "full" (what was acknowledged survives power loss), "normal" (survives the crash
            of any process) or "off".
        clock: Replaces the store's clock; None keeps it. Needs the capability ``virtual_time``.
        busy_timeout_ms: How long a write waits for somebody else's write lock.
    """

    namespace: str = "default"
    durability: str = "full"
    clock: Clock | None = None
    busy_timeout_ms: int = 10_000


class Backend(abc.ABC):
    """A store of jobs.

    A subclass sets ``name``, declares ``capabilities`` and implements the abstract operations. All
    operations may be called from any thread; those that wait release the interpreter.
    """

    name: ClassVar[str]
    """The name used in messages and listings."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    """What it can do beyond the required operations."""

    native_store: object | None = None
    """A store that the dispatcher reaches without Python, or None. Only for taskito's own
    engine."""

    # Life ---------------------------------------------------------------------------------------

    @abc.abstractmethod
    def open(self) -> None:
        """Open the store, creating what does not exist. Calling it twice does nothing.

        Raises:
            StorageError: It cannot be opened; the message names the place and the reason.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give the store back; later operations raise ``QueueClosedError``. Twice is fine."""

    def __enter__(self) -> Self:
        """Open the store."""
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    # Producers ----------------------------------------------------------------------------------

    @abc.abstractmethod
    def enqueue(self, jobs: Sequence[params.NewJob]) -> Sequence[params.Enqueued]:
        """Store a batch of jobs in one atom, and answer for each item, in order.

        A job starts as ``blocked`` if it has a dependency that is not complete, else ``scheduled``
        if it is due later, else ``ready``. A dependency that is already dead or cancelled makes it
        ``cancelled`` at once, with the reason. Within a batch a key counts from the item that takes
        it.

        That is for dependencies on success. With other conditions (capability ``workflows``) any
        end may be awaited, and it is decided in the atom in which the last dependency ends whether
        the job can start; if not, it is cancelled in that atom, and so is what depends on it.

        Raises:
            ConfigurationError: A field of an item cannot have its value; names item and field.
            JobNotFoundError: A dependency does not exist.
            CapabilityError: An item uses what this backend does not declare.
            StorageError: Nothing was stored. If the connection to a server was lost before its
                answer came, all of the batch may be stored; never a part of it.
        """

    # Workers ------------------------------------------------------------------------------------

    @abc.abstractmethod
    def register(self, worker: params.WorkerRegistration) -> None:
        """Announce a worker before its first exchange.

        Raises:
            ConfigurationError: Its id is malformed or taken.
        """

    @abc.abstractmethod
    def unregister(self, worker: str) -> None:
        """Take a worker away; what it still holds is given back without using an attempt."""

    @abc.abstractmethod
    def exchange(self, request: params.ExchangeRequest) -> params.ExchangeReply:
        """Settle, renew and claim for one worker, in that order, in one atom.

        A settlement is accepted (``ok``) only with the current lease; ``stale`` and ``gone`` store
        nothing and do not disturb the rest. What follows from an accepted one happens in the same
        atom: dependents are unblocked or cancelled, unique keys freed, the history written. A job
        whose cancellation was requested and that is settled as retry, snooze or release ends as
        ``cancelled``.

        Claims come from the queues that the worker serves and that are not paused, of the tasks
        that it knows and asks for, highest priority first, then by due time, then in the order of
        enqueueing; a claim never returns a job that is not due, or has expired, or a second
        suspect, or goes beyond a limit (see ``limits``). A store may keep the line of each
        concurrency key, so that a job waits behind a suspect of its own key.

        Raises:
            UnknownWorkerError: The worker is not registered.
            StorageError: Nothing of the request was stored, or, if the connection to a server was
                lost before its answer came, all of it; the same request may be sent again.
        """

    @abc.abstractmethod
    def maintain(self, budget: int) -> params.MaintainReply:
        """Do one bounded step of upkeep, at most ``budget`` rows of each kind.

        Promotes jobs that became due, takes back the jobs of workers that died or whose lease
        ended, cancels expired ones, deletes finished ones whose ``result_ttl_ms`` is over and dead
        letters beyond the ``DeadLetterLimit`` of the last worker that started, and makes the jobs
        of schedules that fire, in this order: fires come last (see ``put_schedules``). A store
        that holds several namespaces may do the upkeep of all of them in one step; the counts tell
        what was done. All jobs of a worker that is gone are taken back together, whatever the
        budget.

        A started attempt that is taken back uses no attempt. Nobody knows which of the started jobs
        of a dead worker killed it: if exactly one of them was a suspect, it alone is charged with
        one crash and ends as a dead letter once it has ``max_crashes`` of them; otherwise all of
        them become suspects, uncharged (completing clears the mark). Either way the history has an
        entry of kind ``crash``. Claimed but unstarted jobs go back without a trace.
        """

    @abc.abstractmethod
    def wait(self, since: int, timeout: float) -> int:
        """Block until something changed after ``since`` or for ``timeout`` seconds.

        A change is a job that became claimable or final, or a request. Spurious returns are
        allowed, correctness never depends on this. Must release the interpreter while it blocks.

        Args:
            since: What the last call returned; 0 at first.
            timeout: Seconds; 0 asks without waiting.

        Returns:
            The present change number.
        """

    # Inspection ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def get(self, ids: Sequence[str]) -> Sequence[params.JobRecord | None]:
        """Return the whole record of each job, None for an id that does not exist here."""

    @abc.abstractmethod
    def list(self, request: params.ListRequest) -> params.Page:
        """Return a page of jobs, newest first."""

    @abc.abstractmethod
    def counts(self) -> Sequence[params.Count]:
        """Return how many jobs are in each state, by queue and task; zeros may be left out."""

    @abc.abstractmethod
    def workers(self) -> Sequence[params.WorkerRecord]:
        """Return the registered workers, oldest first."""

    # Control ------------------------------------------------------------------------------------

    @abc.abstractmethod
    def cancel(self, request: params.CancelRequest) -> Sequence[params.CancelVerdict]:
        """Cancel jobs and, in the same atom, all that depends on them; one verdict per id.

        Dependents are cancelled when the job ends as cancelled: at once for a pending job, at its
        settlement for a running one.
        """

    @abc.abstractmethod
    def purge(self, request: params.PurgeRequest) -> int:
        """Delete finished jobs, at most ``limit``, and return how many; frees idempotency keys.

        A job stays, and is not counted, while one that has not ended takes its result as input or
        depends on its failure.
        """

    def replay(self, request: params.ReplayRequest) -> Sequence[str | None]:
        """Enqueue each finished job again as a new job; None for an id that does not qualify.

        The new job keeps payload, options and metadata and names the old one in ``original_id``;
        the old one names the new one in ``replayed_as``. It is a step of the same workflow.

        What the old job took as input, the new one takes again, from the latest run of that job; if
        an input was deleted, the job does not qualify. Of its other dependencies only those count
        that the same request runs again: the new job waits for the new runs. Needs the capability
        ``replay``.
        """
        del request
        raise self._lacks("replay", "replaying jobs")

    def workflows(self, request: params.WorkflowsRequest) -> params.WorkflowPage:
        """Return a page of the workflows that have jobs, newest first.

        Needs the capability ``workflows``.
        """
        del request
        raise self._lacks("workflows", "listing workflows")

    def workflow(self, id: str) -> params.WorkflowRecord | None:
        """Return one workflow, None if it has no jobs. Needs the capability ``workflows``."""
        del id
        raise self._lacks("workflows", "reading a workflow")

    def pause(self, queue: str) -> None:
        """Let no job of this queue be claimed until ``resume``. Needs the capability ``pauses``."""
        del queue
        raise self._lacks("pauses", "pausing a queue")

    def resume(self, queue: str) -> None:
        """Undo ``pause``. Needs the capability ``pauses``."""
        del queue
        raise self._lacks("pauses", "resuming a queue")

    def paused(self) -> Sequence[str]:
        """Return the names of the paused queues, sorted. Needs the capability ``pauses``."""
        raise self._lacks("pauses", "listing paused queues")

    def unstarted(self, queue: str) -> Sequence[str]:
        """Return the workers that hold claimed jobs of this queue and have not reported a start.

        So that whoever paused the queue can wait until nothing of it can start any more. Needs the
        capability ``pauses``.

        Returns:
            Their ids, sorted.
        """
        del queue
        raise self._lacks("pauses", "waiting for a pause")

    def limit_rate(self, queue: str, rate: params.Rate | None) -> None:
        """Let jobs of a queue start at this rate at most; None ends that. See ``limits``.

        Raises:
            ConfigurationError: The name or the rate is not allowed.
        """
        del queue, rate
        raise self._lacks("limits", "limiting the rate of a queue")

    def limit_concurrency(self, queue: str, max_concurrent: int | None) -> None:
        """Let at most so many jobs of a queue run at a time; None ends that. See ``limits``.

        Raises:
            ConfigurationError: The name or the number is not allowed.
        """
        del queue, max_concurrent
        raise self._lacks("limits", "limiting the concurrency of a queue")

    def limits(self) -> Sequence[params.LimitRecord]:
        """Return the limits in force: of tasks, as workers announced them, then of queues; by name.

        A claim takes a token of each rate that applies to the job, and a claim that ends without a
        start gives them back. So any window of ``w`` milliseconds of steady time holds at most
        ``burst + floor(count * w / period_ms)`` claims that led to a start, over all workers. How
        many jobs run at a time is derived from the running jobs, so that a slot never leaks; jobs
        beyond a limit are not looked at by a claim and cost other jobs nothing. A limit that is
        changed keeps the tokens that are there, as far as they fit. Needs the capability
        ``limits``.
        """
        raise self._lacks("limits", "listing limits")

    def acquire_lock(self, request: params.LockRequest) -> params.LockAnswer:
        """Take a named lock if nobody holds it; never waits.

        A lock is held until it is released, or until ``ttl_ms`` of steady time after it was taken
        or last extended: not a moment longer, and nobody can take it before. Every acquisition has
        a token of its own, whoever asks. ``wait`` returns when a lock was released. Needs the
        capability ``locks``.

        Raises:
            ConfigurationError: A field is not allowed.
        """
        del request
        raise self._lacks("locks", "taking a lock")

    def extend_locks(self, leases: Sequence[params.LockLease]) -> Sequence[bool]:
        """Let locks last for their full time from now; False for one that is not held any more."""
        del leases
        raise self._lacks("locks", "extending a lock")

    def release_lock(self, name: str, token: int) -> bool:
        """Free a lock; False, and nothing happens, if it was not held under this token any more."""
        del name, token
        raise self._lacks("locks", "releasing a lock")

    def locks(self) -> Sequence[params.LockRecord]:
        """Return the locks that are held, by name."""
        raise self._lacks("locks", "listing locks")

    def set_progress(self, id: str, token: int | None, percent: int) -> bool:
        """Store the progress of a running job; False if that lease is over.

        Args:
            id: The job.
            token: The lease; None means whatever run is current.
            percent: 0 to 100.
        """
        del id, token, percent
        raise self._lacks("progress_log", "storing progress")

    def append_log(self, lease: params.Lease, level: str, message: str) -> bool:
        """Append a line to the log of a running job; False if that lease is over."""
        del lease, level, message
        raise self._lacks("progress_log", "storing a log line")

    def logs(self, id: str) -> Sequence[params.LogRecord]:
        """Return the log lines of a job, oldest first."""
        del id
        raise self._lacks("progress_log", "reading log lines")

    def put_schedules(self, schedules: Sequence[params.NewSchedule]) -> None:
        """Take over schedules as code declares them, all of them or none.

        A new name is added and fires first after now. A known one follows what is declared and
        keeps its history and its pause; if line and time zone are the same, also its next fire,
        which may have been missed, otherwise fires count from now.

        ``maintain`` makes one job for each fire of a schedule that is not paused and that a
        registered worker declares, exactly one however many workers call it. It comes to one
        schedule after the other, that with the oldest due fire first, and to at most ``budget``
        fires in a step. The job carries the schedule's name and the time of the fire.

        While the oldest fire that is due is at most ten seconds late, each is made. Otherwise they
        count as missed, and ``catch_up`` decides: ``once`` makes the newest that is due, ``all``
        makes each, of very many the newest 1,000, and ``none`` makes none but the newest, if that
        is at most ten seconds late.

        A fire while an earlier job of the schedule has not ended follows ``overlap``. One whose
        ``unique_key`` is held makes no job. A line is read by ``taskito.schedule``. Needs the
        capability ``schedules``, as all operations on schedules do.

        Raises:
            ConfigurationError: A field of a schedule cannot have its value; names item and field.
        """
        del schedules
        raise self._lacks("schedules", "storing schedules")

    def schedules(self) -> Sequence[params.ScheduleRecord]:
        """Return every schedule, by name."""
        raise self._lacks("schedules", "listing schedules")

    def set_schedules_paused(self, names: Sequence[str], paused: bool) -> Sequence[bool]:
        """Let schedules make no jobs until they are resumed, or resume them.

        A resumed one goes on with its first fire after now: what came during the pause is not made
        good. Fires that wait for the end of a job are kept.

        Returns:
            For each name whether there is such a schedule.
        """
        del names, paused
        raise self._lacks("schedules", "pausing a schedule")

    def delete_schedules(self, names: Sequence[str]) -> Sequence[bool]:
        """Delete schedules with their history; jobs that they made stay.

        Returns:
            For each name whether there was such a schedule.
        """
        del names
        raise self._lacks("schedules", "deleting a schedule")

    def trigger_schedules(self, names: Sequence[str]) -> Sequence[str | None]:
        """Make a job of each schedule now, whether or not it is paused, declared or overlapping.

        The time of its fire is now, and later fires take it for an earlier job. The next fire stays
        as it is.

        Returns:
            The id of each job, or of the one that holds its unique key; None for an unknown name.
        """
        del names
        raise self._lacks("schedules", "triggering a schedule")

    def _lacks(self, capability: str, feature: str) -> CapabilityError:
        """Make the error for an operation that this backend does not implement."""
        return lacking(capability, feature, self.name)
