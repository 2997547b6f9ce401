//! Who waits for a change is told of it: a hint, never a promise.
//!
//! Inside the process a number grows and a condition variable wakes. Between processes the bell file
//! is rung after a commit, and one thread per process listens to it; `PRAGMA data_version` four
//! times a second is the backstop, which also sees the commits of foreign connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::{EngineError, Result};
use crate::platform::{Bell, BellWaiter, InterruptHandle, Wake};

/// How often the backstop looks.
const BACKSTOP: Duration = Duration::from_millis(250);

/// The change number of one file in this process.
#[derive(Default)]
pub(super) struct Changes {
    number: Mutex<u64>,
    changed: Condvar,
    listening: AtomicBool,
    interrupt: Mutex<Option<InterruptHandle>>,
}

impl Changes {
    /// Wake everybody in this process.
    pub(super) fn bump(&self) {
        *self.number.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Block until the number has grown beyond `since`, or for `timeout`.
    pub(super) fn wait(&self, since: u64, timeout: Duration) -> u64 {
        let deadline = Instant::now() + timeout;
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        while *number <= since {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            number = self
                .changed
                .wait_timeout(number, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *number
    }

    /// Start the thread that listens to other processes; later calls do nothing.
    ///
    /// `backstop` is a connection that nobody else uses. The thread lives as long as the process:
    /// the file's descriptors are never closed while it does.
    pub(super) fn listen(
        self: &Arc<Self>,
        bell: &Bell,
        connect: impl FnOnce() -> Result<Connection>,
    ) -> Result<()> {
        if self.listening.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let started = connect().and_then(|backstop| {
            let waiter = bell.waiter().map_err(|error| unavailable(&error))?;
            *self
                .interrupt
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(waiter.interrupt_handle());
            let changes = Arc::clone(self);
            std::thread::Builder::new()
                .name("taskito-bell".to_owned())
                .spawn(move || changes.follow(&waiter, &backstop))
                .map_err(|error| unavailable(&error))
        });
        if started.is_err() {
            self.listening.store(false, Ordering::Release);
        }
        started.map(|_| ())
    }

    /// End the listening thread; for a file that has no name any more.
    pub(super) fn stop(&self) {
        let handle = self
            .interrupt
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(handle) = handle {
            // A thread that cannot be told stays idle; it holds nothing but its own descriptors.
            let _ = handle.interrupt();
        }
    }

    fn follow(&self, waiter: &BellWaiter, backstop: &Connection) {
        let mut seen = data_version(backstop);
        loop {
            let rung = match waiter.wait(BACKSTOP) {
                Ok(Wake::Rung | Wake::FileChanged) => true,
                Ok(Wake::Interrupted) => return,
                Ok(Wake::TimedOut) => false,
                // The hint is gone, the backstop remains.
                Err(_) => {
                    std::thread::sleep(BACKSTOP);
                    false
                }
            };
            let now = data_version(backstop);
            // An unreadable version (the file is locked) is no news: keep the old one, so that the
            // change it hides is seen at the next look.
            if rung || (now.is_some() && now != seen) {
                self.bump();
            }
            seen = now.or(seen);
        }
    }
}

fn data_version(connection: &Connection) -> Option<i64> {
    connection
        .prepare_cached("PRAGMA data_version")
        .ok()?
        .query_row([], |row| row.get(0))
        .ok()
}

fn unavailable(error: &std::io::Error) -> EngineError {
    EngineError::Path {
        path: "bell".into(),
        problem: format!("cannot listen for changes: {error}"),
    }
}
