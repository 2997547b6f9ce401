//! How connections are opened, and how a file is made.
//!
//! No connection to a database file is ever opened without the guard (see `platform::Guard`): without
//! it another SQLite library could delete the log under the connection. The guard needs a file that
//! is in WAL mode, so a new database is made complete under another name, which nobody knows, and
//! then linked to its place.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::failure::{self, Failure, Outcome};
use super::schema;
use crate::error::{EngineError, Result};
use crate::platform::{self, Guard};

/// More than the engine has statements, so that each is compiled once per connection.
const STATEMENTS: usize = 160;
/// Bytes of a database page. Large pages hold more narrow rows per write.
pub(super) const PAGE_SIZE: i64 = 8_192;
/// How often a file that others change meanwhile is looked at.
const TRIES: usize = 5;

/// The guard and the writing connection of a file, which is created if there is none.
pub(super) fn open_writer(path: &Path, busy_timeout: Duration) -> Result<(Guard, Connection)> {
    for _ in 0..TRIES {
        if !path.exists() {
            refuse_orphaned_log(path)?;
            create(path, busy_timeout)?;
        }
        let guard = Guard::acquire_in_wal_mode(path).map_err(|error| unusable(path, &error))?;
        let Some(guard) = guard else {
            // An empty file, or one that somebody took out of WAL mode. The connection that changes
            // this is closed again, since it is not guarded.
            drop(connect(path, busy_timeout)?);
            continue;
        };
        match connect(path, busy_timeout) {
            Ok(connection) => return Ok((guard, connection)),
            Err(error) => {
                // The file is not ours: leave it as it was.
                guard.release().map_err(|error| unusable(path, &error))?;
                return Err(error);
            }
        }
    }
    let problem =
        "it does not stay in WAL mode; another program changes its journal mode".to_owned();
    Err(EngineError::Path {
        path: path.to_path_buf(),
        problem,
    })
}

/// Make a complete database under a name of its own and link it to its place; somebody else may have
/// been quicker.
fn create(path: &Path, busy_timeout: Duration) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    // Random, since processes of several containers may share the folder and the process id.
    let number = getrandom::u64()
        .map_err(|error| unusable(path, &std::io::Error::other(error.to_string())))?;
    name.push(format!("-new-{number:016x}"));
    let temporary = PathBuf::from(name);
    let made = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(|error| unusable(path, &error))
        .and_then(|file| {
            connect(&temporary, busy_timeout)?;
            file.sync_all().map_err(|error| unusable(path, &error))?;
            link(&temporary, path).map_err(|error| unusable(path, &error))
        });
    let removed = std::fs::remove_file(&temporary);
    made?;
    removed.map_err(|error| unusable(path, &error))
}

/// Give the file its name, unless the name is taken, and make that survive the loss of power.
fn link(temporary: &Path, path: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(temporary, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::File::open(folder)?.sync_all(),
        _ => std::fs::File::open(".")?.sync_all(),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::ReadOnly {
        path: path.to_path_buf(),
        detail: error.to_string(),
    }
}

fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let answer = Connection::open_with_flags(path, flags)
        .map_err(Failure::from)
        .and_then(|connection| prepare_file(connection, path, busy_timeout));
    answer.map_err(|failure| match failure {
        Failure::Refused(error) => error,
        Failure::Sqlite(error) => failure::describe(path, &error),
    })
}

/// The write-ahead log of a database.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
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
        connection.execute("DELETE FROM named_lock", [])?;
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
