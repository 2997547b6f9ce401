//! The one connection that writes, and how it commits.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::commit::{Committer, Sync};
use super::costs::Costs;
use super::failure::{self, Outcome};
use super::file::DatabaseFile;
use super::lanes::Lanes;
use super::opening::{PAGE_SIZE, log_of};
use super::transaction::{Pending, Transaction};
use crate::error::{EngineError, Result};
use crate::failpoint;

/// The pause between two tries for a write lock that another process holds.
const BUSY_STEP: Duration = Duration::from_micros(500);
/// A lock that is away for longer than this keeps workers from renewing their leases.
const OUTAGE: Duration = Duration::from_millis(100);
/// How long they have for it when the lock is back, before a lease that ended is acted on. Longer
/// than the longest pause between two tries of a dispatcher.
const RECOVERY: Duration = Duration::from_secs(3);
/// A write-ahead log of this many pages is started over, under the write lock: 128 MiB.
const LOG_LIMIT: i64 = 16_384;

/// The writing connection and what belongs to it, behind one lock.
pub(super) struct Writer {
    path: PathBuf,
    busy_timeout: Duration,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    lanes: Lanes,
    pending: Pending,
    sync: Option<Sync>,
    /// When the lock was last seen away for long.
    outage: Option<Instant>,
}

impl Writer {
    pub(super) fn new(path: PathBuf, connection: Connection, busy_timeout: Duration) -> Self {
        let state = State {
            connection,
            lanes: Lanes::default(),
            pending: Pending::default(),
            sync: None,
            outage: None,
        };
        Self {
            path,
            busy_timeout,
            state: Mutex::new(state),
        }
    }

    /// Read through the writing connection while nobody writes: for a store in memory.
    pub(super) fn with_idle_connection<T>(
        &self,
        work: impl FnOnce(&Connection, &mut Lanes) -> Outcome<T>,
    ) -> Outcome<T> {
        let mut state = self.lock();
        let State {
            connection, lanes, ..
        } = &mut *state;
        lanes.refresh(connection)?;
        work(connection, lanes)
    }

    /// What the connection has done.
    pub(super) fn costs(&self) -> Costs {
        Costs::of(&self.lock().connection)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begin, waiting for another process's lock in short even steps: SQLite's own back-off
    /// starves whoever has waited longest. Returns whether the lock was away for long, now or a
    /// moment ago.
    fn begin(&self, connection: &Connection, outage: &mut Option<Instant>) -> Result<bool> {
        let began = Instant::now();
        loop {
            let tried = connection
                .prepare_cached("BEGIN IMMEDIATE")
                .and_then(|mut statement| statement.execute([]));
            match tried {
                Ok(_) => break,
                Err(error) if failure::is_busy(&error) => {
                    let waited = began.elapsed();
                    if waited >= OUTAGE {
                        *outage = Some(Instant::now());
                    }
                    if waited >= self.busy_timeout {
                        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                        return Err(EngineError::Busy {
                            path: self.path.clone(),
                            waited_ms,
                        });
                    }
                    std::thread::sleep(BUSY_STEP);
                }
                Err(error) => return Err(failure::describe(&self.path, &error)),
            }
        }
        Ok(outage.is_some_and(|seen| seen.elapsed() < RECOVERY))
    }

    /// Put the file's state back to before the transaction; SQLite may have done so itself.
    fn roll_back(state: &mut State) {
        if !state.connection.is_autocommit() {
            // Nothing can be done about a rollback that fails: the next BEGIN reports it.
            let _ = state.connection.execute_batch("ROLLBACK");
        }
        state.pending.clear();
        state.lanes.clear();
    }
}

impl State {
    fn set_sync(&mut self, sync: Sync) -> rusqlite::Result<()> {
        if self.sync != Some(sync) {
            self.connection.execute_batch(match sync {
                Sync::Off => "PRAGMA synchronous = OFF",
                Sync::Normal => "PRAGMA synchronous = NORMAL",
                Sync::Full => "PRAGMA synchronous = FULL",
            })?;
            self.sync = Some(sync);
        }
        Ok(())
    }
}

impl Committer for DatabaseFile {
    fn commit(
        &self,
        sync: Sync,
        body: &mut dyn FnMut(&mut Transaction<'_>) -> std::result::Result<(), rusqlite::Error>,
    ) -> Result<()> {
        self.check_place()?;
        let writer = &self.writer;
        let mut guard = writer.lock();
        let state = &mut *guard;
        state
            .set_sync(sync)
            .map_err(|error| failure::describe(&self.path, &error))?;
        let after_outage = writer.begin(&state.connection, &mut state.outage)?;
        let before = state.connection.total_changes();
        let mut transaction = Transaction::new(
            &state.connection,
            &mut state.lanes,
            &mut state.pending,
            after_outage,
        );
        let ended = body(&mut transaction).and_then(|()| {
            let rings = state.pending.flush(&state.connection)?;
            failpoint::reach(failpoint::Place::BeforeCommit);
            // A transaction that wrote nothing ends without touching the log.
            state.connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(rings)
        });
        let rings = match ended {
            Ok(rings) => rings,
            Err(error) => {
                Writer::roll_back(state);
                return Err(failure::describe(&self.path, &error));
            }
        };
        failpoint::reach(failpoint::Place::AfterCommit);
        let wrote = state.connection.total_changes() != before;
        let log_pages = if wrote { log_pages(&self.path) } else { 0 };
        if log_pages > LOG_LIMIT {
            start_log_over(&state.connection);
        }
        drop(guard);
        self.note_log_pages(log_pages);
        if rings {
            self.ring();
        }
        Ok(())
    }
}

/// The length of the write-ahead log in pages, by the size of its file.
fn log_pages(path: &Path) -> i64 {
    std::fs::metadata(log_of(path)).map_or(0, |facts| {
        i64::try_from(facts.len()).unwrap_or(0) / PAGE_SIZE
    })
}

/// Copy the log into the database while nobody can append to it. A reader may prevent it; the next
/// commit tries again.
fn start_log_over(connection: &Connection) {
    let _ = connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
}
