//! Connections: how they are opened, and the one that writes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::commit::{Committer, Sync};
use super::failure::{self, Failure, Outcome};
use super::file::DatabaseFile;
use super::lanes::Lanes;
use super::schema;
use super::transaction::{Pending, Transaction};
use crate::error::{EngineError, Result};
use crate::platform;

/// More than the engine has statements, so that each is compiled once per connection.
const STATEMENTS: usize = 160;
/// The pause between two tries for a write lock that another process holds.
const BUSY_STEP: Duration = Duration::from_micros(500);
/// A lock that is away for longer than this keeps workers from renewing their leases.
const OUTAGE: Duration = Duration::from_millis(100);
/// How long they have for it when the lock is back, before a lease that ended is acted on. Longer
/// than the longest pause between two tries of a dispatcher.
const RECOVERY: Duration = Duration::from_secs(3);
/// Bytes of a database page. Large pages hold more narrow rows per write.
const PAGE_SIZE: i64 = 8_192;
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

/// The write-ahead log of a database.
fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
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

/// The writing connection of a file, created if there is none.
pub(super) fn open_writer(path: &Path, busy_timeout: Duration) -> Result<Connection> {
    if !path.exists() {
        refuse_orphaned_log(path)?;
        create(path)?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let answer = Connection::open_with_flags(path, flags)
        .map_err(Failure::from)
        .and_then(|connection| prepare_file(connection, path, busy_timeout));
    answer.map_err(|failure| match failure {
        Failure::Refused(error) => error,
        Failure::Sqlite(error) => failure::describe(path, &error),
    })
}

/// A log without its database: the database was deleted or moved, perhaps while it is in use. A new
/// file in its place would destroy what the log holds.
fn refuse_orphaned_log(path: &Path) -> Result<()> {
    let log = log_of(path);
    if std::fs::metadata(&log).is_ok_and(|facts| facts.len() > 0) {
        return Err(EngineError::Path {
            path: path.to_path_buf(),
            problem: format!(
                "the database is missing but its log {} is there: put the database back, or stop \
                 every process that uses it and remove the log and the -shm file",
                log.display()
            ),
        });
    }
    Ok(())
}

/// Create the file so that only its owner can read it.
fn create(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .or_else(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(EngineError::ReadOnly {
                path: path.to_path_buf(),
                detail: error.to_string(),
            }),
        })
}

fn prepare_file(
    connection: Connection,
    path: &Path,
    busy_timeout: Duration,
) -> Outcome<Connection> {
    // Only while opening: afterwards `Writer::begin` waits by itself.
    connection.busy_timeout(busy_timeout)?;
    settle(&connection)?;
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        let detail = "it can be opened only for reading".to_owned();
        return Err(EngineError::ReadOnly {
            path: path.to_path_buf(),
            detail,
        }
        .into());
    }
    let kind = schema::recognise(&connection, path)?;
    if kind == schema::Kind::Empty {
        connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction =
        rusqlite::Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
    // Looked at again under the lock: another process may have created the tables meanwhile.
    if schema::recognise(&transaction, path)? == schema::Kind::Empty {
        schema::create(&transaction)?;
    }
    begin_epoch(&transaction)?;
    transaction.commit()?;
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection)
}

/// The first opener of a boot ends every lease of the boot before and raises the epoch of tokens,
/// so that a power cut, which can undo the last claims, never leads to a token being reissued.
fn begin_epoch(connection: &Connection) -> Outcome<()> {
    let Ok(boot) = platform::boot_id() else {
        return Ok(());
    };
    let known: Vec<u8> = connection.query_row("SELECT id FROM boot", [], |row| row.get(0))?;
    if known != boot {
        connection.execute("UPDATE boot SET id = ?1", [boot])?;
        connection.execute(
            "UPDATE counter SET value = ((value >> 32) + 1) << 32 WHERE name = ?1",
            [schema::counter::TOKEN],
        )?;
        connection.execute("UPDATE running SET deadline_ms = 0", [])?;
    }
    Ok(())
}

/// A connection that cannot write.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .and_then(|connection| {
            connection.busy_timeout(Duration::from_secs(5))?;
            settle(&connection)?;
            Ok(connection)
        })
        .map_err(|error| failure::describe(path, &error))
}

/// A connection for the checkpointer, which writes only what others have committed.
pub(super) fn open_checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    settle(&connection)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// A private store in memory.
pub(super) fn open_memory() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    settle(&connection)?;
    schema::create(&connection)?;
    Ok(connection)
}

/// What every connection gets: a hostile schema can run nothing, and no page is mapped.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -16_384)
}
