//! Moving the write-ahead log into the database, off the hot path.
//!
//! One thread per file and process, started when the log first grows long. It works when the log
//! has grown by a few thousand pages, and once more when writing has stopped, so that an idle file
//! is left small. It never works on a short timer: its fsyncs would compete with the commits.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::opening;

/// Checkpoint when the log holds this many pages.
const STEP: i64 = 4_096;
/// A log longer than this is emptied once nothing was written for `IDLE`.
const SMALL: i64 = 64;
/// Writing has stopped when no commit came for this long.
const IDLE: Duration = Duration::from_secs(5);

/// Decides when to checkpoint, and does it on a thread of its own.
pub(super) struct Checkpointer {
    path: PathBuf,
    shared: Arc<Shared>,
    started: OnceLock<()>,
}

#[derive(Default)]
struct Shared {
    pages: AtomicI64,
    commits: AtomicU64,
    asked: Mutex<bool>,
    wake: Condvar,
    stopped: AtomicBool,
}

impl Checkpointer {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            shared: Arc::default(),
            started: OnceLock::new(),
        }
    }

    /// Note the length of the log after a commit; 0 says that nothing was written.
    pub(super) fn note(&self, pages: i64) {
        if pages == 0 {
            return;
        }
        self.shared.pages.store(pages, Ordering::Relaxed);
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        if pages > SMALL {
            self.started.get_or_init(|| self.start());
        }
        if pages > STEP {
            *self
                .shared
                .asked
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = true;
            self.shared.wake.notify_one();
        }
    }

    /// End the thread; for a file that has no name any more.
    pub(super) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.wake.notify_one();
    }

    fn start(&self) {
        let shared = Arc::clone(&self.shared);
        let path = self.path.clone();
        // Without the thread the writer starts the log over by itself when it is very long.
        let _ = std::thread::Builder::new()
            .name("taskito-checkpoint".to_owned())
            .spawn(move || {
                if let Ok(connection) = opening::open_checkpointer(&path) {
                    shared.work(&connection);
                }
            });
    }
}

impl Shared {
    fn work(&self, connection: &Connection) {
        let mut emptied_at = u64::MAX;
        while !self.stopped.load(Ordering::Relaxed) {
            let before = self.commits.load(Ordering::Relaxed);
            if self.sleep() {
                checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)");
                continue;
            }
            let idle = self.commits.load(Ordering::Relaxed) == before;
            if idle && emptied_at != before && self.pages.load(Ordering::Relaxed) > SMALL {
                checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)");
                emptied_at = before;
            }
        }
    }

    /// Sleep until asked (true) or until `IDLE` has gone by (false).
    fn sleep(&self) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if !*asked {
            asked = self
                .wake
                .wait_timeout(asked, IDLE)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        std::mem::take(&mut *asked)
    }
}

/// A checkpoint that a reader or another process prevents is done at the next occasion.
fn checkpoint(connection: &Connection, statement: &str) {
    let _ = connection.query_row(statement, [], |_| Ok(()));
}
