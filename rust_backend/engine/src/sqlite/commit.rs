//! Group commit: whoever finds nobody leading commits for everyone who is waiting.
//!
//! A lone caller therefore pays no thread hop, and a crowd pays one commit. The leader runs the
//! operations one after the other inside one transaction. A refused operation has written nothing
//! and disturbs nobody; an SQLite error rolls the whole group back and is reported to each of its
//! callers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::failure::{Failure, Outcome};
use super::transaction::Transaction;
use crate::error::{EngineError, Result};

/// A group ends at this many rows...
const GROUP_ROWS: usize = 1_000;
/// ... or after this long.
const GROUP_TIME: Duration = Duration::from_millis(5);

/// How much of a commit must have reached the disk when it returns. The strictest of a group wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sync {
    Off,
    Normal,
    Full,
}

/// An operation that waits for a leader.
trait Waiting: Send {
    fn rows(&self) -> usize;
    fn sync(&self) -> Sync;
    /// Run inside the transaction; an error concerns the whole group.
    fn run(
        &mut self,
        transaction: &mut Transaction<'_>,
    ) -> std::result::Result<(), rusqlite::Error>;
    /// Tell the caller how it ended; `failure` replaces what the operation returned.
    fn resolve(self: Box<Self>, failure: Option<EngineError>);
}

struct Operation<T, F> {
    rows: usize,
    sync: Sync,
    work: Option<F>,
    outcome: Option<Result<T>>,
    answer: Arc<Mutex<Option<Result<T>>>>,
}

impl<T, F> Waiting for Operation<T, F>
where
    T: Send,
    F: FnOnce(&mut Transaction<'_>) -> Outcome<T> + Send,
{
    fn rows(&self) -> usize {
        self.rows
    }

    fn sync(&self) -> Sync {
        self.sync
    }

    fn run(
        &mut self,
        transaction: &mut Transaction<'_>,
    ) -> std::result::Result<(), rusqlite::Error> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        match work(transaction) {
            Ok(value) => self.outcome = Some(Ok(value)),
            Err(Failure::Refused(error)) => self.outcome = Some(Err(error)),
            Err(Failure::Sqlite(error)) => return Err(error),
        }
        Ok(())
    }

    fn resolve(self: Box<Self>, failure: Option<EngineError>) {
        let outcome = match failure {
            Some(error) => Err(error),
            None => self.outcome.unwrap_or(Err(EngineError::Closed)),
        };
        *lock(&self.answer) = Some(outcome);
    }
}

/// Runs a whole group: the part that knows the connection.
pub(super) trait Committer {
    /// Run `body` in one transaction at durability `sync` and commit it.
    fn commit(
        &self,
        sync: Sync,
        body: &mut dyn FnMut(&mut Transaction<'_>) -> std::result::Result<(), rusqlite::Error>,
    ) -> Result<()>;
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Box<dyn Waiting>>,
    leading: bool,
}

/// The queue of operations of one file.
#[derive(Default)]
pub(super) struct GroupCommit {
    queue: Mutex<Queue>,
    turn: Condvar,
}

impl GroupCommit {
    /// Run `work` in a transaction, alone or together with others, and return once it is committed.
    pub(super) fn submit<T, F>(
        &self,
        committer: &dyn Committer,
        rows: usize,
        sync: Sync,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Outcome<T> + Send + 'static,
    {
        let answer = Arc::new(Mutex::new(None));
        let mut queue = lock(&self.queue);
        queue.waiting.push_back(Box::new(Operation {
            rows,
            sync,
            work: Some(work),
            outcome: None,
            answer: Arc::clone(&answer),
        }));
        loop {
            if let Some(outcome) = lock(&answer).take() {
                return outcome;
            }
            if queue.leading {
                queue = self
                    .turn
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let group = next_group(&mut queue.waiting);
            queue.leading = true;
            drop(queue);
            let lead = Lead(self);
            run_group(committer, group);
            drop(lead);
            queue = lock(&self.queue);
        }
    }
}

/// Ends the leadership, also when an operation panics: the others must not wait for ever.
struct Lead<'a>(&'a GroupCommit);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        lock(&self.0.queue).leading = false;
        self.0.turn.notify_all();
    }
}

/// Take operations up to the size of a group; a larger one is a group of its own.
fn next_group(waiting: &mut VecDeque<Box<dyn Waiting>>) -> VecDeque<Box<dyn Waiting>> {
    let mut group = VecDeque::new();
    let mut rows = 0;
    while let Some(next) = waiting.front() {
        if !group.is_empty() && rows + next.rows() > GROUP_ROWS {
            break;
        }
        rows += next.rows();
        group.extend(waiting.pop_front());
    }
    group
}

fn run_group(committer: &dyn Committer, mut group: VecDeque<Box<dyn Waiting>>) {
    while !group.is_empty() {
        let sync = group
            .iter()
            .map(|operation| operation.sync())
            .max()
            .unwrap_or(Sync::Full);
        let mut finished = 0;
        let began = Instant::now();
        let ended = committer.commit(sync, &mut |transaction| {
            finished = 0;
            for operation in &mut group {
                operation.run(transaction)?;
                finished += 1;
                if began.elapsed() > GROUP_TIME {
                    break;
                }
            }
            Ok(())
        });
        match ended {
            Ok(()) => group
                .drain(..finished)
                .for_each(|operation| operation.resolve(None)),
            Err(error) => {
                group
                    .drain(..)
                    .for_each(|operation| operation.resolve(Some(error.clone())));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
