//! The seam, as the dispatcher sees it: the few operations that a running worker needs.

use std::time::Duration;

use crate::error::Result;
use crate::model::{
    ExchangeReply, ExchangeRequest, LockLease, MaintainReply, Settlement, WorkerRegistration,
};

/// A place that keeps named locks, as the thread that extends them sees it.
pub trait LockStore: Send + Sync + 'static {
    /// Let locks last for their full time from now; false for one whose time is over.
    ///
    /// # Errors
    /// The store cannot be written.
    fn extend_locks(&self, leases: &[LockLease]) -> Result<Vec<bool>>;
}

/// A place that keeps jobs. Implementations are shared between threads.
///
/// The contract of each operation is that of the Python seam, `taskito.backends.base.Backend`.
pub trait Store: Send + Sync + 'static {
    /// Announce a worker before its first exchange.
    ///
    /// # Errors
    /// The worker's id is taken or malformed, or the store cannot be written.
    fn register(&self, worker: &WorkerRegistration) -> Result<()>;

    /// Take a worker away; claims that it still has are released without using an attempt.
    ///
    /// # Errors
    /// The store cannot be written.
    fn unregister(&self, worker: &str) -> Result<()>;

    /// Settle, renew and claim in one atom. After an error nothing of the request is stored.
    ///
    /// # Errors
    /// The worker is unknown, or the store cannot be written.
    fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeReply>;

    /// One bounded step of upkeep: promote, rescue, expire, prune; at most `budget` rows of each.
    ///
    /// # Errors
    /// The store cannot be read or written.
    fn maintain(&self, budget: usize) -> Result<MaintainReply>;

    /// Block until the store has changed since `since`, or until `timeout`. A hint only.
    ///
    /// # Errors
    /// The store is closed.
    fn wait(&self, since: u64, timeout: Duration) -> Result<u64>;

    /// Note in which executor slot a run has started; survives the death of the process where the
    /// store can arrange that. `None` clears the slot.
    fn mark_started(&self, worker: &str, slot: usize, token: Option<i64>);

    /// Note that a run which had started has ended; its outcome is not settled yet. Without effect
    /// where nothing survives the process.
    fn mark_ended(&self, _worker: &str, _token: i64) {}

    /// Forget the notes of `mark_ended` about these: the store has answered.
    fn mark_settled(&self, _worker: &str, _settlements: &[Settlement]) {}
}
