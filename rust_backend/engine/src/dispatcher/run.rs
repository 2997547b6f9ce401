//! One attempt, from its delivery to its report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::pool::Pool;
use crate::model::{Bytes, ClaimedJob, ErrorKind, Lease};

/// A claimed job on its way through an executor, shared by the executor and the dispatcher.
#[derive(Debug)]
pub struct RunHandle {
    job: ClaimedJob,
    pool: Pool,
    /// Steady time from which it may not start any more because the job has expired.
    expires_at: Option<i64>,
    /// Steady time from which it may not start any more because the lease may be over.
    leased_until: i64,
    cancel_requested: AtomicBool,
    abandoned: AtomicBool,
}

impl RunHandle {
    /// Wrap a job whose lease was granted no earlier than `now`, in steady milliseconds.
    pub(super) fn new(job: ClaimedJob, pool: Pool, now: i64, lease_ms: i64) -> Self {
        Self {
            pool,
            expires_at: job.expires_in_ms.map(|left| now.saturating_add(left)),
            leased_until: now.saturating_add(lease_ms),
            job,
            cancel_requested: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        }
    }

    /// The job and its lease.
    #[must_use]
    pub fn job(&self) -> &ClaimedJob {
        &self.job
    }

    /// The claim that every write on behalf of this run carries.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.job.lease
    }

    /// Who runs it.
    pub(super) fn pool(&self) -> Pool {
        self.pool
    }

    /// Whether somebody asked for the cancellation of this job.
    #[must_use]
    pub fn cancel_requested(&self) -> bool {
        self.cancel_requested.load(Ordering::Acquire)
    }

    /// Whether the attempt is over already (timeout, lost lease, shutdown): its report is dropped.
    #[must_use]
    pub fn abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    pub(super) fn request_cancel(&self) {
        self.cancel_requested.store(true, Ordering::Release);
    }

    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Why this run may not start at `now`, if it may not.
    pub(super) fn refusal(&self, now: i64) -> Option<Refusal> {
        if self.expires_at.is_some_and(|at| at <= now) {
            Some(Refusal::Expired)
        } else if self.leased_until <= now {
            Some(Refusal::Lapsed)
        } else {
            None
        }
    }
}

/// Why a delivered run was not started when its turn came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The job's time was over.
    Expired,
    /// The process slept so long that the lease may be over.
    Lapsed,
}

/// How an attempt ended, as its executor tells it.
#[derive(Debug, Clone)]
pub enum Report {
    /// The task returned; `result` was encoded by `serializer`.
    Success { result: Bytes, serializer: Arc<str> },
    /// The attempt did not succeed.
    Failure {
        /// The stored error.
        error: Bytes,
        kind: ErrorKind,
        /// Whether another attempt may follow; what is left is checked as well.
        retry: bool,
        /// The delay that the task asked for; `None` follows the policy of the task.
        delay_ms: Option<i64>,
    },
    /// The task asked to run again later.
    Snoozed { delay_ms: i64 },
    /// The task stopped because its cancellation was asked for.
    Aborted { reason: String },
}

/// A run that is over, as the executors hand it to the dispatcher.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) run: Arc<RunHandle>,
    pub(super) slot: usize,
    pub(super) started_at: i64,
    pub(super) ended_at: i64,
    /// `None` if the executor's thread ended, or took another run, without a report.
    pub(super) report: Option<Report>,
}

/// A run that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Started {
    pub(super) lease: Lease,
    pub(super) slot: usize,
    pub(super) at: i64,
}
