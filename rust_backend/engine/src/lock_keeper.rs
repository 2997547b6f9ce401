//! Extends named locks in time, on a thread that needs nothing of Python.
//!
//! A lock is extended when a third of its time is over, so that two attempts may fail before it is
//! lost. The keeper errs on the safe side: it counts the time from before each call, and once that
//! time is over the lock is lost to its holder, whatever the store may say later.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::EngineError;
use crate::model::LockLease;
use crate::platform::boottime_ms;
use crate::store::LockStore;

/// The longest wait after an extension that failed.
const RETRY_MS: i64 = 250;

/// Extends the locks of one process in one store.
pub struct LockKeeper {
    shared: Arc<Shared>,
    store: Arc<dyn LockStore>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: HashMap<i64, Held>,
    running: bool,
    closed: Option<String>,
}

/// One lock, on the clock of the host.
struct Held {
    lease: LockLease,
    next_ms: i64,
    deadline_ms: i64,
    trouble: Option<String>,
    lost: Option<String>,
}

impl Held {
    fn why_lost(&self, now_ms: i64) -> Option<String> {
        if self.lost.is_some() || now_ms < self.deadline_ms {
            return self.lost.clone();
        }
        Some(self.trouble.as_ref().map_or_else(
            || String::from("it was not extended in time: this process did not run"),
            |trouble| format!("it could not be extended in time: {trouble}"),
        ))
    }
}

impl LockKeeper {
    /// A keeper without a lock; its thread runs only while there is one.
    #[must_use]
    pub fn new(store: Arc<dyn LockStore>) -> Self {
        Self {
            shared: Arc::default(),
            store,
        }
    }

    /// Begin to extend a lock that was acquired `age_ms` ago at most.
    pub fn hold(&self, lease: LockLease, age_ms: i64) {
        let now_ms = boottime_ms();
        let mut state = self.shared.lock();
        let held = Held {
            next_ms: now_ms - age_ms + lease.ttl_ms / 3,
            deadline_ms: now_ms - age_ms + lease.ttl_ms,
            trouble: None,
            lost: state.closed.clone(),
            lease,
        };
        state.held.insert(held.lease.token, held);
        if state.running {
            self.shared.changed.notify_all();
            return;
        }
        let shared = Arc::clone(&self.shared);
        let store = Arc::clone(&self.store);
        let started = thread::Builder::new()
            .name(String::from("taskito-locks"))
            .spawn(move || shared.run(&*store));
        match started {
            Ok(_) => state.running = true,
            Err(error) => {
                let problem = format!("no thread to extend it could be started: {error}");
                for held in state.held.values_mut() {
                    held.trouble = Some(problem.clone());
                }
            }
        }
    }

    /// Extend a lock no more; why it was lost, if it was.
    #[must_use]
    pub fn drop_lock(&self, token: i64) -> Option<String> {
        let mut state = self.shared.lock();
        let held = state.held.remove(&token);
        self.shared.changed.notify_all();
        held.and_then(|held| held.why_lost(boottime_ms()))
    }

    /// Why a lock was lost; `None` while it is held.
    #[must_use]
    pub fn lost(&self, token: i64) -> Option<String> {
        let state = self.shared.lock();
        state.held.get(&token).map_or_else(
            || Some(String::from("it was released")),
            |held| held.why_lost(boottime_ms()),
        )
    }

    /// Extend nothing any more; the holders are told this reason.
    pub fn close(&self, reason: String) {
        let mut state = self.shared.lock();
        for held in state.held.values_mut() {
            held.lost.get_or_insert_with(|| reason.clone());
        }
        state.closed = Some(reason);
        self.shared.changed.notify_all();
    }
}

impl Drop for LockKeeper {
    fn drop(&mut self) {
        self.close(String::from("the queue that held it is gone"));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Extend what is due until nothing is held.
    fn run(&self, store: &dyn LockStore) {
        let mut state = self.lock();
        loop {
            let next_ms = state.kept().map(|held| held.next_ms).min();
            let Some(next_ms) = next_ms else {
                state.running = false;
                return;
            };
            let now_ms = boottime_ms();
            if next_ms > now_ms {
                let left = Duration::from_millis((next_ms - now_ms).unsigned_abs());
                state = self
                    .changed
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                continue;
            }
            // All of them in one call: one commit, however many locks there are.
            let leases: Vec<LockLease> = state.kept().map(|held| held.lease.clone()).collect();
            drop(state);
            let answer = store.extend_locks(&leases);
            state = self.lock();
            state.note(&leases, answer.as_deref(), now_ms);
        }
    }
}

impl State {
    fn kept(&self) -> impl Iterator<Item = &Held> {
        self.held.values().filter(|held| held.lost.is_none())
    }

    /// Take over what the store said to a call that began at `began_ms`.
    fn note(
        &mut self,
        leases: &[LockLease],
        answer: std::result::Result<&[bool], &EngineError>,
        began_ms: i64,
    ) {
        let now_ms = boottime_ms();
        for (index, lease) in leases.iter().enumerate() {
            let extended = answer.map(|answers| answers.get(index).copied().unwrap_or(false));
            let Some(held) = self.held.get_mut(&lease.token) else {
                continue;
            };
            match extended {
                Ok(true) if now_ms < held.deadline_ms => {
                    held.deadline_ms = began_ms + lease.ttl_ms;
                    held.next_ms = began_ms + lease.ttl_ms / 3;
                    held.trouble = None;
                }
                Ok(true) => held.lost = held.why_lost(now_ms),
                Ok(false) => {
                    let reason = "its time was over before it could be extended";
                    held.lost.get_or_insert_with(|| String::from(reason));
                }
                Err(error) => held.fail(error, now_ms),
            }
        }
    }
}

impl Held {
    fn fail(&mut self, error: &EngineError, now_ms: i64) {
        self.trouble = Some(error.to_string());
        self.next_ms = now_ms + RETRY_MS.min(self.lease.ttl_ms / 10).max(1);
        if !error.is_passing() || now_ms >= self.deadline_ms {
            self.lost = Some(format!("it could not be extended: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Result;

    /// Answers each call with the next of its answers, then with success.
    struct Played {
        calls: AtomicUsize,
        answers: Vec<Result<bool>>,
    }

    impl LockStore for Played {
        fn extend_locks(&self, leases: &[LockLease]) -> Result<Vec<bool>> {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            let answer = self.answers.get(call).cloned().unwrap_or(Ok(true))?;
            Ok(vec![answer; leases.len()])
        }
    }

    fn keeper(answers: Vec<Result<bool>>) -> (LockKeeper, Arc<Played>) {
        let store = Arc::new(Played {
            calls: AtomicUsize::new(0),
            answers,
        });
        (
            LockKeeper::new(Arc::clone(&store) as Arc<dyn LockStore>),
            store,
        )
    }

    fn lease(ttl_ms: i64) -> LockLease {
        LockLease {
            name: String::from("nightly"),
            token: 7,
            ttl_ms,
        }
    }

    fn wait_for(mut condition: impl FnMut() -> bool) {
        let deadline = boottime_ms() + 20_000;
        while !condition() {
            assert!(boottime_ms() < deadline, "it did not happen");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_lock_is_extended_again_and_again_until_it_is_dropped() {
        let (keeper, store) = keeper(Vec::new());
        keeper.hold(lease(60), 0);
        wait_for(|| store.calls.load(Ordering::SeqCst) >= 3);
        let _ = keeper.drop_lock(7);
        wait_for(|| !keeper.shared.lock().running);
    }

    #[test]
    fn a_refused_extension_loses_the_lock() {
        let (keeper, _) = keeper(vec![Ok(false)]);
        keeper.hold(lease(30), 0);
        wait_for(|| keeper.lost(7).is_some());
        assert!(keeper.drop_lock(7).is_some());
    }

    #[test]
    fn a_store_that_fails_for_a_moment_loses_nothing() {
        let busy = || {
            Err(EngineError::Busy {
                path: "x".into(),
                waited_ms: 1,
            })
        };
        let (keeper, store) = keeper(vec![busy(), busy()]);
        keeper.hold(lease(30_000), 20_000);
        wait_for(|| store.calls.load(Ordering::SeqCst) >= 3);
        wait_for(|| keeper.shared.lock().held[&7].trouble.is_none());
        assert_eq!(keeper.lost(7), None);
    }

    #[test]
    fn a_closed_store_loses_the_lock_and_says_why() {
        let (keeper, _) = keeper(vec![Err(EngineError::Closed)]);
        keeper.hold(lease(30_000), 20_000);
        wait_for(|| keeper.lost(7).is_some());
        assert!(keeper.lost(7).is_some_and(|why| why.contains("closed")));
    }

    #[test]
    fn time_that_passed_unnoticed_loses_the_lock() {
        let (keeper, _) = keeper(vec![Ok(true)]);
        keeper.hold(lease(10), 20);
        assert!(keeper.lost(7).is_some());
    }
}
