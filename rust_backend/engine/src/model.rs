//! The words of the engine: plain data that crosses the seam between a store and a dispatcher.
//!
//! Durations are milliseconds relative to the store's clock, instants are milliseconds of wall time
//! since the Unix epoch. Nothing here does I/O.

use std::sync::Arc;

use crate::id::JobId;
pub use crate::schedule::CatchUp;
use crate::transitions::State;

/// Bytes that travel without being copied: payloads, results, stored errors.
pub type Bytes = Arc<[u8]>;

/// Lowest priority a job may have.
pub const MIN_PRIORITY: i64 = -128;
/// Highest priority a job may have.
pub const MAX_PRIORITY: i64 = 127;

/// A job that a new one waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A job that is already stored.
    Id(JobId),
    /// An earlier item of the same batch.
    Earlier(usize),
}

/// How a job has to end for a dependent to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Complete; any other end cancels the dependent.
    Success,
    /// At least one of the dependencies with this condition must have ended otherwise.
    Failure,
    /// Any end will do.
    Always,
}

/// What a new job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    pub on: Target,
    pub condition: Condition,
    /// How it ended is handed to the worker together with the claim.
    pub input: bool,
}

impl Dependency {
    /// The plain dependency on the success of a stored job.
    #[must_use]
    pub const fn id(id: JobId) -> Self {
        Self {
            on: Target::Id(id),
            condition: Condition::Success,
            input: false,
        }
    }

    /// The plain dependency on the success of an earlier item of the batch.
    #[must_use]
    pub const fn earlier(index: usize) -> Self {
        Self {
            on: Target::Earlier(index),
            condition: Condition::Success,
            input: false,
        }
    }
}

/// How a dependency ended, as the job that waited for it gets to know.
#[derive(Debug, Clone)]
pub struct Input {
    pub id: JobId,
    pub state: State,
    pub serializer: Option<String>,
    pub result: Option<Bytes>,
    /// The last entry of the history of a dead one.
    pub error: Option<Bytes>,
    /// Why a cancelled one was cancelled.
    pub reason: Option<String>,
}

/// One call of a task, as a producer hands it in.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub task: String,
    pub queue: String,
    pub payload: Bytes,
    pub serializer: String,
    pub priority: i64,
    /// Wait this long after the enqueue, or after the last dependency completes.
    pub delay_ms: i64,
    /// Absolute due time; excludes `delay_ms`.
    pub eta_ms: Option<i64>,
    /// Not started this long after the enqueue: cancelled as expired.
    pub expires_in_ms: Option<i64>,
    /// Absolute form of `expires_in_ms`; at most one of the two is given.
    pub expires_at_ms: Option<i64>,
    pub max_retries: i64,
    pub max_crashes: i64,
    /// Longest run, from the start of the attempt; 0 means no limit.
    pub timeout_ms: i64,
    pub result_ttl_ms: Option<i64>,
    /// Held until the job reaches a final state.
    pub unique_key: Option<String>,
    /// Free the unique key when an attempt is claimed, not at the end.
    pub unique_until_start: bool,
    /// Held until the job is purged.
    pub idempotency_key: Option<String>,
    /// What the task's limit of jobs at a time is counted by.
    pub concurrency_key: Option<String>,
    /// An id that the caller chose.
    pub id: Option<JobId>,
    /// Opaque to the store.
    pub metadata: Option<Bytes>,
    /// The fire that made it; only the store itself sets this.
    pub fire: Option<Fire>,
    pub depends_on: Vec<Dependency>,
    /// The workflow that it is a step of.
    pub workflow: Option<String>,
}

/// What became of one item of an enqueued batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    pub id: JobId,
    /// The key or the given id was taken: `id` is the job that holds it.
    pub duplicate: bool,
}

/// How failed attempts of a task are spaced; the dispatcher applies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPolicy {
    pub task: String,
    /// First delay of the doubling sequence.
    pub retry_backoff_ms: i64,
    /// Explicit delays by attempt; the last one repeats. Excludes the doubling sequence.
    pub retry_delays_ms: Option<Vec<i64>>,
    pub max_retry_delay_ms: i64,
    /// Upper bound of the random addition to each delay.
    pub retry_jitter_ms: i64,
}

/// At most `burst + count * w / period_ms` starts in any window of `w` milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: i64,
    pub period_ms: i64,
    pub burst: i64,
}

/// What a task may use, over all workers; the last worker that started has the say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLimit {
    pub task: String,
    pub rate: Option<Rate>,
    /// Jobs that run at a time; counted for each concurrency key by itself.
    pub max_concurrent: Option<i64>,
}

/// What a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitKind {
    Task,
    Queue,
}

/// A stored limit and how far it is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRecord {
    pub kind: LimitKind,
    pub name: String,
    pub rate: Option<Rate>,
    pub max_concurrent: Option<i64>,
    /// Jobs of the task or queue that run now, whatever their key.
    pub running: i64,
    /// Starts that the rate allows now; `None` without a rate.
    pub tokens: Option<i64>,
}

/// Which kind of limit a ready job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitedBy {
    Rate,
    Concurrency,
}

/// One fire of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fire {
    pub schedule: String,
    pub at_ms: i64,
}

/// What becomes of a fire while an earlier job of the schedule has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overlap {
    Allow,
    Skip,
    Queue,
}

/// A schedule as the code of an application declares it.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    pub name: String,
    pub line: String,
    pub timezone: String,
    pub catch_up: CatchUp,
    pub overlap: Overlap,
    /// What each fire enqueues.
    pub job: NewJob,
}

/// A stored schedule.
#[derive(Debug, Clone)]
pub struct ScheduleRecord {
    pub name: String,
    pub line: String,
    pub timezone: String,
    pub catch_up: CatchUp,
    pub overlap: Overlap,
    pub task: String,
    pub queue: String,
    pub paused: bool,
    /// Whether the code of a registered worker declares it.
    pub declared: bool,
    pub next_ms: Option<i64>,
    /// The last fire that made a job.
    pub last_ms: Option<i64>,
    pub last_job: Option<JobId>,
    pub fired: i64,
    /// Fires that made no job because of an earlier one.
    pub skipped: i64,
    /// Fires that wait for the end of an earlier job.
    pub waiting: i64,
}

/// What a worker tells the store about itself when it starts.
#[derive(Debug, Clone)]
pub struct WorkerRegistration {
    /// Unique per start: a UUID in hexadecimal, never reused.
    pub id: String,
    pub pid: u32,
    pub host: String,
    /// `None` serves every queue.
    pub queues: Option<Vec<String>>,
    /// The tasks it knows; jobs of others are left alone.
    pub tasks: Vec<String>,
    /// How long a claim lasts without a renewal.
    pub lease_ms: i64,
    /// Attempts it runs at a time.
    pub concurrency: usize,
    /// The schedules that its code declares; those of others do not fire.
    pub schedules: Vec<String>,
    /// The limits of its tasks; a task without an entry has none.
    pub limits: Vec<TaskLimit>,
    /// How many dead letters are kept; the last worker that started counts.
    pub dead_letters: DeadLetterLimit,
}

/// A claim on a running job: the pair that every write on behalf of an attempt carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub id: JobId,
    /// Grows with every claim and is never reused, so a stale holder is recognised.
    pub token: i64,
}

/// Why an attempt did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The task raised.
    Failure,
    /// The attempt ran past its timeout.
    Timeout,
    /// The worker process died.
    Crash,
    /// Repetition cannot help: unreadable payload, unserialisable result, `Reject`.
    Rejected,
    /// Given back by a worker that was shutting down.
    Interrupted,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    Success {
        result: Bytes,
        serializer: Arc<str>,
    },
    /// The attempt is used up; the job waits and runs again.
    Retry {
        error: Bytes,
        kind: ErrorKind,
        delay_ms: i64,
    },
    /// The job ends as a dead letter.
    Dead {
        error: Bytes,
        kind: ErrorKind,
    },
    Cancelled {
        reason: String,
    },
    /// Run again later; the attempt is not used up.
    Snooze {
        delay_ms: i64,
    },
    /// Give the job back untouched; `interrupted` tells that it had started.
    Release {
        interrupted: bool,
    },
}

/// A report of how an attempt ended.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub lease: Lease,
    pub outcome: Outcome,
    /// How long ago the attempt started; `None` if it never did.
    pub started_ago_ms: Option<i64>,
}

/// The store's answer to a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Stored.
    Ok,
    /// The lease has passed to somebody else or was ended; nothing was stored.
    Stale,
    /// No such job any more; nothing was stored.
    Gone,
}

/// A start that has happened since the last exchange, for `started_at`.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub lease: Lease,
    pub ago_ms: i64,
}

/// One round trip of the hot path: settle these, renew those, give me up to `want` more.
#[derive(Debug, Clone, Default)]
pub struct ExchangeRequest {
    pub worker: String,
    pub settlements: Vec<Settlement>,
    pub renewals: Vec<Lease>,
    pub starts: Vec<Start>,
    pub want: usize,
    /// How many of the claimed jobs can start at once: a job under a limit must be one of these,
    /// and what stands behind it in the order is left alone. `None` means all of them.
    pub idle: Option<usize>,
    /// Claim jobs of these tasks only; `None` means all that the worker knows.
    pub tasks: Option<Arc<[String]>>,
}

/// A job handed to a worker together with its lease.
#[derive(Debug, Clone)]
pub struct ClaimedJob {
    pub lease: Lease,
    pub task: String,
    pub queue: String,
    pub payload: Bytes,
    pub serializer: String,
    pub metadata: Option<Bytes>,
    pub priority: i64,
    /// Failures and timeouts so far; the first attempt is 0.
    pub attempt: i64,
    pub max_retries: i64,
    pub timeout_ms: i64,
    /// How long from now until the job expires unless it has started.
    pub expires_in_ms: Option<i64>,
    /// The fire of a schedule that made it.
    pub fire: Option<Fire>,
    /// It was running beside a crash; a worker runs one such job at a time.
    pub suspect: bool,
    /// How the dependencies ended whose results it takes, in their order.
    pub inputs: Vec<Input>,
}

/// What an exchange brings back.
#[derive(Debug, Clone, Default)]
pub struct ExchangeReply {
    /// One per settlement, in order.
    pub verdicts: Vec<Verdict>,
    pub jobs: Vec<ClaimedJob>,
    /// Renewals that were refused: these leases are over.
    pub lost: Vec<Lease>,
    /// Jobs of this worker whose cancellation was asked for.
    pub cancel_requests: Vec<JobId>,
    /// Queues that are paused now: give back what has not started.
    pub paused: Vec<String>,
    /// How long until a waiting job of this store becomes due or a rate lets one start.
    pub next_due_ms: Option<i64>,
}

/// What one bounded step of upkeep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaintainReply {
    pub promoted: usize,
    pub rescued: usize,
    pub expired: usize,
    pub pruned: usize,
    /// Jobs made by schedules.
    pub fired: usize,
    pub next_due_ms: Option<i64>,
    /// Tasks with waiting jobs that no registered worker knows.
    pub unknown_tasks: Vec<String>,
    /// Schedules that do not fire since no registered worker declares them.
    pub undeclared_schedules: Vec<String>,
}

/// Why a scheduled job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    Delay,
    Retry,
    Snooze,
}

/// One entry of a job's history: an attempt that did not succeed, or an interruption.
#[derive(Debug, Clone)]
pub struct ErrorRecord {
    /// The token of the run it belongs to.
    pub run: i64,
    pub attempt: i64,
    pub kind: ErrorKind,
    pub at_ms: i64,
    pub worker: String,
    /// Opaque to the store (see the public description of stored errors); empty for interruptions.
    pub detail: Bytes,
}

/// Everything the store knows about one job.
#[derive(Debug, Clone)]
pub struct JobRecord {
    pub id: JobId,
    pub task: String,
    pub queue: String,
    pub namespace: String,
    pub state: State,
    pub why: Option<Why>,
    pub priority: i64,
    pub attempt: i64,
    pub crashes: i64,
    pub max_retries: i64,
    pub max_crashes: i64,
    pub timeout_ms: i64,
    pub created_ms: i64,
    pub due_ms: i64,
    pub expires_ms: Option<i64>,
    pub started_ms: Option<i64>,
    pub finished_ms: Option<i64>,
    pub progress: Option<i64>,
    /// Token of the current or last run, 0 before the first.
    pub run: i64,
    pub worker: Option<String>,
    pub unique_key: Option<String>,
    pub concurrency_key: Option<String>,
    /// What a ready job waits for, if that is a limit; not in listings.
    pub limited_by: Option<LimitedBy>,
    pub metadata: Option<Bytes>,
    pub serializer: String,
    pub payload: Bytes,
    pub result: Option<Bytes>,
    pub result_serializer: Option<String>,
    /// Why it was cancelled.
    pub reason: Option<String>,
    pub cancel_requested: bool,
    pub original_id: Option<JobId>,
    pub replayed_as: Option<JobId>,
    /// The fire of a schedule that made it.
    pub fire: Option<Fire>,
    pub dependencies: Vec<JobId>,
    pub dependents: Vec<JobId>,
    /// The dependencies with their conditions, one entry for each that was given; not in listings.
    pub waits_for: Vec<Dependency>,
    pub workflow: Option<String>,
    pub errors: Vec<ErrorRecord>,
}

/// Who wants a named lock, and for how long without an extension.
#[derive(Debug, Clone)]
pub struct LockRequest {
    pub name: String,
    pub owner: String,
    pub ttl_ms: i64,
}

/// What a request for a lock came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockAnswer {
    /// `None`: somebody else holds it.
    pub token: Option<i64>,
    /// How long the present holder has it without an extension.
    pub expires_in_ms: i64,
}

/// A lock that is held, and how long an extension lasts.
#[derive(Debug, Clone)]
pub struct LockLease {
    pub name: String,
    pub token: i64,
    pub ttl_ms: i64,
}

/// A lock that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRecord {
    pub name: String,
    pub token: i64,
    pub owner: String,
    pub expires_in_ms: i64,
}

/// How many dead letters of a namespace are kept, and for how long; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadLetterLimit {
    pub ttl_ms: Option<i64>,
    pub most: Option<i64>,
}

/// Jobs that were enqueued as the steps of one workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowRecord {
    pub id: String,
    pub created_ms: i64,
    /// How many of its jobs are in each state; jobs that were replayed are left out.
    pub counts: Vec<(State, i64)>,
}

/// One keyset page of workflows, newest first.
#[derive(Debug, Clone)]
pub struct WorkflowPage {
    pub workflows: Vec<WorkflowRecord>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<i64>,
}

/// Which jobs a listing wants; newest first.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// Empty means every state.
    pub states: Vec<State>,
    /// Restrict `scheduled` jobs to these reasons; empty means all.
    pub whys: Vec<Why>,
    pub queue: Option<String>,
    pub task: Option<String>,
    /// Leave out dead letters that have been replayed.
    pub skip_replayed: bool,
    /// Only the steps of this workflow.
    pub workflow: Option<String>,
    pub limit: usize,
    /// Continue behind this position, as given by the page before.
    pub after: Option<i64>,
}

/// One keyset page of a listing.
#[derive(Debug, Clone)]
pub struct Page {
    pub jobs: Vec<JobRecord>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<i64>,
}

/// How many jobs of one task in one queue are in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub queue: String,
    pub task: String,
    pub state: State,
    /// Only for scheduled jobs: whether a retry is what they wait for.
    pub retrying: bool,
    pub count: i64,
}

/// What a request to cancel one job came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not started and never will.
    Done,
    /// It is running; its worker has been asked.
    Requested,
    /// Final already, unknown, or running while only pending ones were meant.
    Refused,
}

/// Which finished jobs to delete.
#[derive(Debug, Clone, Default)]
pub struct PurgeRequest {
    /// Final states only.
    pub states: Vec<State>,
    /// Only these jobs; empty means all.
    pub ids: Vec<JobId>,
    pub queue: Option<String>,
    pub task: Option<String>,
    /// Only jobs that ended at least this long ago.
    pub older_than_ms: i64,
    /// Delete at most this many in this step.
    pub limit: usize,
}

/// Which finished jobs to run again as new jobs.
#[derive(Debug, Clone, Default)]
pub struct ReplayRequest {
    pub ids: Vec<JobId>,
    /// Only dead letters that have not been replayed; otherwise any final job.
    pub dead_only: bool,
    /// Only jobs that have not been replayed yet, and all of them or none.
    pub once: bool,
}

/// One line that a task wrote about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    pub run: i64,
    pub at_ms: i64,
    pub level: String,
    pub message: String,
}

/// A worker that is registered with the store.
#[derive(Debug, Clone)]
pub struct WorkerRecord {
    pub id: String,
    pub pid: u32,
    pub host: String,
    pub queues: Option<Vec<String>>,
    pub tasks: Vec<String>,
    pub started_ms: i64,
    pub running: i64,
}
