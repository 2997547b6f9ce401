"""What crosses the seam: one small frozen dataclass per thing, so that fields can be added.

Durations are whole milliseconds counted from the store's own "now"; instants are whole milliseconds
of wall time since the Unix epoch. Job ids are UUIDs in their 36-character form. Payloads, results,
metadata and errors are bytes that a store keeps and never looks into.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

__all__ = [
    "FINAL_STATES",
    "MAX_PRIORITY",
    "MIN_PRIORITY",
    "SKIPPED",
    "CancelRequest",
    "CancelVerdict",
    "CatchUp",
    "ClaimedJob",
    "Condition",
    "Count",
    "DeadLetterLimit",
    "Dependency",
    "Enqueued",
    "ErrorKind",
    "ErrorRecord",
    "ExchangeReply",
    "ExchangeRequest",
    "JobInput",
    "JobRecord",
    "JobState",
    "Lease",
    "LimitKind",
    "LimitRecord",
    "LimitedBy",
    "ListRequest",
    "LockAnswer",
    "LockLease",
    "LockRecord",
    "LockRequest",
    "LogRecord",
    "MaintainReply",
    "NewJob",
    "NewSchedule",
    "Outcome",
    "OutcomeCancelled",
    "OutcomeDead",
    "OutcomeRelease",
    "OutcomeRetry",
    "OutcomeSnooze",
    "OutcomeSuccess",
    "Overlap",
    "Page",
    "PurgeRequest",
    "Rate",
    "ReplayRequest",
    "ScheduleRecord",
    "Settlement",
    "Start",
    "TaskLimit",
    "Verdict",
    "Why",
    "WorkerRecord",
    "WorkerRegistration",
    "WorkflowPage",
    "WorkflowRecord",
    "WorkflowsRequest",
]

MIN_PRIORITY = -128
MAX_PRIORITY = 127

SKIPPED = "skipped: nothing has failed that it was to follow"
"""The reason of a job that was to run only after a failure, when there was none."""


class JobState(StrEnum):
    """Where a job stands in a store; ``taskito.backends.transitions`` has the legal changes."""

    BLOCKED = "blocked"
    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    COMPLETE = "complete"
    DEAD = "dead"
    CANCELLED = "cancelled"


FINAL_STATES = frozenset({JobState.COMPLETE, JobState.DEAD, JobState.CANCELLED})


class Why(StrEnum):
    """What a scheduled job waits for."""

    DELAY = "delay"
    RETRY = "retry"
    SNOOZE = "snooze"


class ErrorKind(StrEnum):
    """Why an attempt did not succeed."""

    FAILURE = "failure"
    TIMEOUT = "timeout"
    CRASH = "crash"
    REJECTED = "rejected"
    INTERRUPTED = "interrupted"


class Verdict(StrEnum):
    """The store's answer to a settlement."""

    OK = "ok"
    STALE = "stale"
    GONE = "gone"


class CancelVerdict(StrEnum):
    """What a request to cancel one job came to."""

    DONE = "done"
    """It had not started, and never will."""
    REQUESTED = "requested"
    """It is running; its worker has been asked."""
    REFUSED = "refused"
    """Final already, unknown, or running while only pending jobs were meant."""


class Condition(StrEnum):
    """How a job has to end for a dependent to start."""

    SUCCESS = "success"
    """Complete. Any other end cancels the dependent at once."""
    FAILURE = "failure"
    """At least one of the dependencies with this condition must not end complete. It is decided
    when all dependencies have ended; without a failure the dependent is cancelled, for the reason
    ``SKIPPED``."""
    ALWAYS = "always"
    """Any end will do."""


class LimitKind(StrEnum):
    """What a limit is about."""

    TASK = "task"
    QUEUE = "queue"


class LimitedBy(StrEnum):
    """The kind of limit that a ready job waits for."""

    RATE = "rate"
    CONCURRENCY = "concurrency"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most ``burst + floor(count * w / period_ms)`` starts in any window of ``w`` milliseconds.

    A token bucket: it holds ``burst`` tokens at first and at most, and ``count`` of them flow in
    evenly every ``period_ms``.

    Attributes:
        count: Tokens per period, 1 to 1,000,000.
        period_ms: The period, at most 366 days.
        burst: The capacity, 1 to 1,000,000.
    """

    count: int
    period_ms: int
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLimit:
    """What a task may use, over all workers.

    Attributes:
        task: The name of the task.
        rate: How often its jobs may start; None means as often as they like.
        max_concurrent: How many of its jobs may run at a time; jobs with a ``concurrency_key`` are
            counted for each key by itself, those without one together. None means any number.
    """

    task: str
    rate: Rate | None = None
    max_concurrent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRecord:
    """A limit in force.

    Attributes:
        running: How many jobs of the task or queue run now, whatever their key.
        tokens: How many starts the rate allows now; None without a rate.
    """

    kind: LimitKind
    name: str
    rate: Rate | None = None
    max_concurrent: int | None = None
    running: int = 0
    tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """What a job waits for. A bare id or index in ``NewJob.depends_on`` is one with the defaults.

    Attributes:
        job: The id of a stored job, or the index of an earlier item of the batch.
        condition: How it has to end.
        input: How it ended is handed to the worker together with the claim (``ClaimedJob.inputs``),
            and it is kept until then, whatever its retention or a purge says.
    """

    job: str | int
    condition: Condition = Condition.SUCCESS
    input: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInput:
    """How a dependency ended, as the job that waited for it gets to know.

    Attributes:
        state: A final one.
        serializer: What the result was encoded by; None unless complete.
        result: The encoded result; None unless complete.
        error: The last entry of the history of a dead job (see ``ErrorRecord.detail``); else None.
        reason: Why a cancelled job was cancelled; else None.
    """

    id: str
    state: JobState
    serializer: str | None = None
    result: bytes | None = None
    error: bytes | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """One call of a task, as a producer hands it in.

    Attributes:
        task: The task's name, 1 to 255 characters without control characters.
        queue: The queue's name, same rule.
        payload: The encoded arguments.
        serializer: The name of the serializer that encoded them.
        priority: -128 to 127, higher first.
        delay_ms: Wait this long after the enqueue, or after the last dependency completes.
        eta_ms: Absolute due time; excludes ``delay_ms``.
        expires_in_ms: Cancelled as expired if not started this long after the enqueue.
        expires_at_ms: The same as an instant; at most one of the two is given.
        max_retries: Failures and timeouts allowed beyond the first.
        max_crashes: Worker deaths allowed before it becomes a dead letter.
        timeout_ms: Longest run, from the start of the attempt; 0 means no limit.
        result_ttl_ms: How long to keep the finished job; None keeps it until it is purged.
        unique_key: Held until a final state (capability ``unique``).
        unique_until_start: Free ``unique_key`` when an attempt of the job is claimed. A job that is
            given back without ever having started takes it again, unless another job holds it by
            then; it does not lose its place because of that.
        idempotency_key: Held until the job is purged (capability ``unique``).
        concurrency_key: What ``TaskLimit.max_concurrent`` is counted by, 1 to 1,024 bytes of UTF-8
            (capability ``limits``).
        id: An id chosen by the caller (capability ``given_ids``).
        metadata: Opaque to the store.
        depends_on: Ids of stored jobs, or indexes of earlier items of the same batch
            (capability ``dependencies``); as a ``Dependency`` with a condition or as an input
            (capability ``workflows``).
        workflow: The workflow that it is a step of: any name, 1 to 255 characters without control
            characters (capability ``workflows``).
    """

    task: str
    queue: str = "default"
    payload: bytes = b""
    serializer: str = "msgpack"
    priority: int = 0
    delay_ms: int = 0
    eta_ms: int | None = None
    expires_in_ms: int | None = None
    expires_at_ms: int | None = None
    max_retries: int = 3
    max_crashes: int = 2
    timeout_ms: int = 300_000
    result_ttl_ms: int | None = None
    unique_key: str | None = None
    unique_until_start: bool = False
    idempotency_key: str | None = None
    concurrency_key: str | None = None
    id: str | None = None
    metadata: bytes | None = None
    depends_on: tuple[str | int | Dependency, ...] = ()
    workflow: str | None = None


class CatchUp(StrEnum):
    """What becomes of the fires of a schedule that were missed; see ``Backend.put_schedules``."""

    ONCE = "once"
    """The newest is made and stands for all of them."""
    ALL = "all"
    """Each is made, of very many the newest 1,000."""
    NONE = "none"
    """They are forgotten."""


class Overlap(StrEnum):
    """What becomes of a fire while an earlier job of its schedule has not ended."""

    ALLOW = "allow"
    """It makes a job all the same."""
    SKIP = "skip"
    """It makes none."""
    QUEUE = "queue"
    """It waits for the end of that job; at most 1,000 do, others are skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """A schedule as the code of an application declares it.

    Attributes:
        name: Its name, 1 to 255 characters without control characters.
        line: A cron line of five or six fields; see ``taskito.schedule``.
        timezone: The name of the time zone whose clock the line is about.
        catch_up: What becomes of missed fires.
        overlap: What becomes of a fire while an earlier job has not ended.
        job: What each fire enqueues, without ``id``, ``eta_ms``, ``expires_at_ms``,
            ``idempotency_key`` and ``depends_on``.
    """

    name: str
    line: str
    job: NewJob
    timezone: str = "UTC"
    catch_up: CatchUp = CatchUp.ONCE
    overlap: Overlap = Overlap.ALLOW


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord:
    """A stored schedule.

    Attributes:
        paused: Whether it makes no jobs until it is resumed.
        declared: Whether the code of a registered worker has it; otherwise it makes no jobs.
        next_ms: The next fire, in the past if it is due; None if the line does not fire any more.
        last_ms: The last fire that made a job, or the time of the last trigger.
        last_job: The id of that job, which may have been deleted since.
        fired: How many jobs it has made.
        skipped: How many fires made none, because of an earlier job or a unique key that is held.
        waiting: How many fires wait for the end of an earlier job.
    """

    name: str
    line: str
    timezone: str
    catch_up: CatchUp
    overlap: Overlap
    task: str
    queue: str
    paused: bool = False
    declared: bool = False
    next_ms: int | None = None
    last_ms: int | None = None
    last_job: str | None = None
    fired: int = 0
    skipped: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """What became of one item of an enqueued batch.

    Attributes:
        id: The new job, or the one that holds the key or id.
        duplicate: The key or the given id was taken; nothing was stored for this item.
    """

    id: str
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterLimit:
    """How many dead letters of a namespace are kept, and for how long; None is no limit.

    Upkeep deletes the oldest ones beyond it, within its budget. Those that were replayed count
    until they are deleted.

    Attributes:
        ttl_ms: Delete them this long after they ended.
        most: Keep this many, the ones that ended last.
    """

    ttl_ms: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRegistration:
    """What a worker tells the store about itself when it starts.

    Attributes:
        id: Unique per start: 32 hexadecimal digits, never reused.
        pid: Its process id.
        host: The name of its host.
        queues: The queues it serves; None serves all.
        tasks: The tasks it knows; jobs of others are left alone.
        lease_ms: How long a claim lasts without a renewal.
        concurrency: Attempts it runs at a time.
        schedules: Names of the schedules that its code declares; those that no registered worker
            declares do not fire (capability ``schedules``).
        limits: The limits of its tasks (capability ``limits``). For each task that it knows, what
            is said here replaces what an earlier worker said; without an entry there is no limit.
        dead_letters: How many dead letters of the namespace are kept, whoever does the upkeep. It
            replaces what an earlier worker said.
    """

    id: str
    pid: int
    host: str
    queues: tuple[str, ...] | None = None
    tasks: tuple[str, ...] = ()
    lease_ms: int = 30_000
    concurrency: int = 1
    schedules: tuple[str, ...] = ()
    limits: tuple[TaskLimit, ...] = ()
    dead_letters: DeadLetterLimit = DeadLetterLimit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A claim on a running job; every write on behalf of an attempt carries it.

    Attributes:
        id: The job.
        token: Grows with every claim of that job; no claim of any job has the same again.
    """

    id: str
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeSuccess:
    """The attempt ended well; ``result`` was encoded by ``serializer``."""

    result: bytes
    serializer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRetry:
    """The attempt is used up; the job runs again after ``delay_ms``."""

    error: bytes
    kind: ErrorKind
    delay_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeDead:
    """The attempt is used up and the job ends as a dead letter."""

    error: bytes
    kind: ErrorKind


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeCancelled:
    """The job ends as cancelled for ``reason``."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeSnooze:
    """The job runs again after ``delay_ms``; the attempt is not used up."""

    delay_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRelease:
    """The job is given back untouched; ``interrupted`` tells that it had started."""

    interrupted: bool = False


Outcome: TypeAlias = (
    OutcomeSuccess | OutcomeRetry | OutcomeDead | OutcomeCancelled | OutcomeSnooze | OutcomeRelease
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A report of how an attempt ended.

    Attributes:
        lease: Accepted only while it is current.
        outcome: How it ended.
        started_ago_ms: How long ago the attempt started; None if it never did.
    """

    lease: Lease
    outcome: Outcome
    started_ago_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """An attempt that has started since the last exchange, ``ago_ms`` ago."""

    lease: Lease
    ago_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRequest:
    """One round trip of the hot path.

    Attributes:
        worker: The id of a registered worker.
        settlements: Attempts that ended.
        renewals: Leases to extend to a full lease time from now.
        starts: Attempts that began since the last exchange.
        want: Claim up to this many jobs.
        idle: How many of the claimed jobs can start at once; None means all of them. A job under a
            limit must be one of these. If it is not, nothing behind it in the order is claimed:
            otherwise those would be started first, again and again.
        tasks: Claim jobs of these tasks only; None means of all that the worker knows. A worker
            that runs coroutines on an event loop and functions in threads asks for both apart,
            since each kind has its own free places. ``next_due_ms`` of the reply still speaks of
            all of them.
    """

    worker: str
    settlements: tuple[Settlement, ...] = ()
    renewals: tuple[Lease, ...] = ()
    starts: tuple[Start, ...] = ()
    want: int = 0
    idle: int | None = None
    tasks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJob:
    """A job handed to a worker together with its lease.

    Attributes:
        attempt: Failures and timeouts so far; the first attempt is 0.
        expires_in_ms: How long until it expires unless it has started; None means never.
        schedule: The schedule whose fire made it, if one did.
        fire_ms: The time of that fire.
        suspect: It was running beside a crash; a worker runs one such job at a time.
        inputs: How the dependencies ended that are inputs, in the order of ``depends_on``.
    """

    lease: Lease
    task: str
    queue: str
    payload: bytes
    serializer: str
    metadata: bytes | None
    priority: int
    attempt: int
    max_retries: int
    timeout_ms: int
    expires_in_ms: int | None = None
    schedule: str | None = None
    fire_ms: int | None = None
    suspect: bool = False
    inputs: tuple[JobInput, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeReply:
    """What an exchange brings back.

    Attributes:
        verdicts: One per settlement, in order.
        jobs: The claimed jobs, in the order in which they should start.
        lost: Renewals that were refused: these leases are over.
        cancel_requests: Ids of this worker's jobs whose cancellation was asked for.
        paused: The queues that are paused now.
        next_due_ms: How long until a waiting job becomes due, a schedule fires, or a rate lets one
            start that this worker could run; None if none waits for a time.
    """

    verdicts: tuple[Verdict, ...] = ()
    jobs: tuple[ClaimedJob, ...] = ()
    lost: tuple[Lease, ...] = ()
    cancel_requests: tuple[str, ...] = ()
    paused: tuple[str, ...] = ()
    next_due_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintainReply:
    """What one bounded step of upkeep did.

    Attributes:
        promoted: Scheduled jobs that became ready.
        rescued: Jobs taken back from workers that died or whose lease ended.
        expired: Jobs cancelled because they had not started in time.
        pruned: Finished jobs deleted because their ``result_ttl_ms`` was over, or as dead letters
            beyond a ``DeadLetterLimit``.
        fired: Jobs made by schedules.
        next_due_ms: How long until upkeep has something to do; None if nothing is known.
        unknown_tasks: Tasks with waiting jobs that no registered worker knows.
        undeclared_schedules: Schedules that do not fire because no registered worker declares them.
    """

    promoted: int = 0
    rescued: int = 0
    expired: int = 0
    pruned: int = 0
    fired: int = 0
    next_due_ms: int | None = None
    unknown_tasks: tuple[str, ...] = ()
    undeclared_schedules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """One entry of a job's history: an attempt that did not succeed, or an interruption.

    Attributes:
        run: The token of the run it belongs to.
        attempt: The attempt's number, from 0.
        detail: The stored error (see ``taskito.errors``); for a crash that the store itself
        noticed,
            plain UTF-8 text behind a zero byte; empty for an interruption.
    """

    run: int
    attempt: int
    kind: ErrorKind
    at_ms: int
    worker: str
    detail: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """Everything a store knows about one job.

    Attributes:
        why: What it waits for while ``scheduled``; None in other states.
        attempt: Failures and timeouts so far.
        crashes: Worker deaths charged to it so far.
        due_ms: When it may start, or was allowed to.
        run: Token of the current or last run, 0 before the first.
        worker: The worker that holds it while ``running``, or that settled it.
        reason: Why it was cancelled.
        schedule: The schedule whose fire made it, if one did.
        fire_ms: The time of that fire.
        limited_by: The limit that it waits for while ``ready``, if there is one; None in listings.
        waits_for: ``dependencies`` as they were given, with their conditions; empty in listings.
            Those whose job was deleted are left out, here and there.
        workflow: The workflow that it is a step of.
        payload: Empty in listings.
        result: Empty in listings; None unless complete.
        errors: Empty in listings; oldest first.
    """

    id: str
    task: str
    queue: str
    namespace: str
    state: JobState
    why: Why | None = None
    priority: int = 0
    attempt: int = 0
    crashes: int = 0
    max_retries: int = 0
    max_crashes: int = 0
    timeout_ms: int = 0
    created_ms: int = 0
    due_ms: int = 0
    expires_ms: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    progress: int | None = None
    run: int = 0
    worker: str | None = None
    unique_key: str | None = None
    concurrency_key: str | None = None
    limited_by: LimitedBy | None = None
    metadata: bytes | None = None
    serializer: str = "msgpack"
    payload: bytes = b""
    result: bytes | None = None
    result_serializer: str | None = None
    reason: str | None = None
    cancel_requested: bool = False
    original_id: str | None = None
    replayed_as: str | None = None
    schedule: str | None = None
    fire_ms: int | None = None
    dependencies: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()
    waits_for: tuple[Dependency, ...] = ()
    workflow: str | None = None
    errors: tuple[ErrorRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """Which jobs a listing wants; newest first.

    Attributes:
        states: Only these; empty means every state.
        whys: Of the scheduled jobs only those that wait for this; empty means all.
        skip_replayed: Leave out dead letters that were replayed.
        workflow: Only the steps of this workflow (capability ``workflows``).
        limit: At most this many rows, 1 to 10,000.
        after: Continue behind this position (``Page.next`` of the page before).
    """

    states: tuple[JobState, ...] = ()
    whys: tuple[Why, ...] = ()
    queue: str | None = None
    task: str | None = None
    skip_replayed: bool = False
    workflow: str | None = None
    limit: int = 50
    after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One keyset page.

    Attributes:
        jobs: Records without payload, result and errors. May be fewer than the limit, even none,
            while ``next`` is set: a step looks at a bounded number of jobs.
        next: Where the next page begins; None at the end.
    """

    jobs: tuple[JobRecord, ...] = ()
    next: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many jobs of one task in one queue are in one state.

    Attributes:
        retrying: Whether these scheduled jobs wait for a retry; False for other states.
    """

    queue: str
    task: str
    state: JobState
    retrying: bool = False
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """Which jobs to cancel, and why.

    Attributes:
        reason: Shown as the reason of these jobs; dependents name the job that they depended on.
        running: False cancels only jobs that have not started; True asks a running one to stop.
    """

    ids: tuple[str, ...]
    reason: str = "cancelled by request"
    running: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeRequest:
    """Which finished jobs to delete.

    Attributes:
        states: Final states only; empty means all of them.
        ids: Only these jobs; empty means any.
        older_than_ms: Only jobs that ended at least this long ago.
        limit: Delete at most this many in this step.
    """

    states: tuple[JobState, ...] = ()
    ids: tuple[str, ...] = ()
    queue: str | None = None
    task: str | None = None
    older_than_ms: int = 0
    limit: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """Which finished jobs to run again, as new jobs with the same payload and options.

    Attributes:
        ids: A job that waited for others is named behind them.
        dead_only: Only dead letters that were not replayed yet; otherwise any finished job.
        once: Only jobs that were not replayed yet, and all of them or none.
    """

    ids: tuple[str, ...]
    dead_only: bool = False
    once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """Who wants a named lock, and for how long.

    Attributes:
        name: 1 to 255 characters without control characters.
        owner: Who asks, for whoever looks at the locks; same rule.
        ttl_ms: How long it is held without an extension, 1 to 86,400,000.
    """

    name: str
    owner: str
    ttl_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LockAnswer:
    """What a request for a lock came to.

    Attributes:
        token: The fencing token: greater than that of every lock and lease before, never given out
            twice. None: somebody else holds the lock.
        expires_in_ms: How long the present holder, old or new, has it without an extension.
    """

    token: int | None
    expires_in_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LockLease:
    """A lock that is held, and how long an extension of it lasts."""

    name: str
    token: int
    ttl_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRecord:
    """A lock that somebody holds."""

    name: str
    token: int
    owner: str
    expires_in_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One line that a task wrote about itself."""

    run: int
    at_ms: int
    level: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker that is registered with the store; ``running`` is the number of its live leases."""

    id: str
    pid: int
    host: str
    queues: tuple[str, ...] | None = None
    tasks: tuple[str, ...] = ()
    started_ms: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowsRequest:
    """Which workflows a listing wants; newest first.

    Attributes:
        limit: At most this many, 1 to 10,000.
        after: Continue behind this position (``WorkflowPage.next`` of the page before).
    """

    limit: int = 50
    after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRecord:
    """Jobs that were enqueued as the steps of one workflow.

    Attributes:
        created_ms: When its first job was enqueued.
        counts: How many of its jobs are in each state that occurs. Jobs that were replayed are left
            out: the new ones are steps as well.
    """

    id: str
    created_ms: int
    counts: tuple[tuple[JobState, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowPage:
    """One keyset page of workflows; ``next`` is None at the end."""

    workflows: tuple[WorkflowRecord, ...] = ()
    next: int | None = None
