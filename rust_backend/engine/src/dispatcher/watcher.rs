//! Waits for changes of the store on a thread of its own, so that the dispatcher can sleep.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::handover::Handover;
use crate::error::Result;
use crate::store::Store;

/// One wait takes no longer, so that the thread ends soon after the worker.
const SLICE: Duration = Duration::from_millis(100);
/// Pause after a failed wait.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether the store has changed since the dispatcher last looked.
#[derive(Default)]
pub(super) struct Changes {
    changed: AtomicBool,
    ended: AtomicBool,
    lock: Mutex<Watcher>,
    seen: Condvar,
}

/// Where the thread is in its life.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Watcher {
    #[default]
    Absent,
    Watching,
}

impl Changes {
    /// Whether something changed since the last call; the watcher looks for more from now on.
    ///
    /// While the dispatcher is busy it does not ask, and the watcher sleeps.
    pub(super) fn take(&self) -> bool {
        if !self.changed.load(Ordering::Acquire) {
            return false;
        }
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.store(false, Ordering::Release);
        drop(guard);
        self.seen.notify_all();
        true
    }

    pub(super) fn end(&self) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended.store(true, Ordering::Release);
        drop(guard);
        self.seen.notify_all();
    }

    /// End the thread and wait for that, at most for `limit`.
    ///
    /// A store written in another language may be inside its interpreter here, which must not go
    /// away meanwhile: so a worker has stopped only when this thread has.
    pub(super) fn end_and_join(&self, limit: Duration) {
        self.end();
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let watching = |state: &mut Watcher| *state == Watcher::Watching;
        drop(self.seen.wait_timeout_while(guard, limit, watching));
    }

    fn set(&self, state: Watcher) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.seen.notify_all();
    }

    /// Sleep until the dispatcher has seen the last change, or for `limit`.
    fn wait_until_seen(&self, limit: Duration) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let unseen = |_: &mut Watcher| {
            self.changed.load(Ordering::Acquire) && !self.ended.load(Ordering::Acquire)
        };
        drop(self.seen.wait_timeout_while(guard, limit, unseen));
    }

    fn watch(&self, store: &dyn Store, handover: &Handover) {
        let mut since = 0;
        while !self.ended.load(Ordering::Acquire) {
            match store.wait(since, SLICE) {
                Ok(present) if present == since => {}
                Ok(present) => {
                    since = present;
                    self.changed.store(true, Ordering::Release);
                    handover.wake().notify_one();
                    self.wait_until_seen(SLICE);
                }
                Err(error) if error.is_passing() => thread::sleep(PAUSE),
                // Upkeep fails in the same way, and ends the worker.
                Err(_) => return,
            }
        }
    }
}

/// Start the thread.
///
/// # Errors
/// The system has no thread left.
pub(super) fn start(
    changes: &Arc<Changes>,
    store: Arc<dyn Store>,
    handover: Arc<Handover>,
) -> Result<()> {
    changes.set(Watcher::Watching);
    let watching = Arc::clone(changes);
    super::spawn("taskito-watcher", move || {
        watching.watch(&*store, &handover);
        drop(store);
        watching.set(Watcher::Absent);
    })
    .inspect_err(|_| changes.set(Watcher::Absent))
}
