//! How SQLite's errors become the engine's.

use std::path::Path;

use rusqlite::ffi;

use crate::error::EngineError;

/// Why an operation inside a transaction did not succeed.
///
/// A refusal concerns its caller alone and must come before the operation's first write; an SQLite
/// error concerns everybody who shares the transaction.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(EngineError),
    Sqlite(rusqlite::Error),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The result of an operation inside a transaction.
pub(super) type Outcome<T> = std::result::Result<T, Failure>;

/// Name the place and the reason of an SQLite error.
pub(super) fn describe(path: &Path, error: &rusqlite::Error) -> EngineError {
    let path = path.to_path_buf();
    let detail = error.to_string();
    match error.sqlite_error().map(|inner| inner.extended_code & 0xFF) {
        Some(ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED) => EngineError::Busy { path, waited_ms: 0 },
        Some(ffi::SQLITE_FULL) => EngineError::Full { path },
        Some(ffi::SQLITE_READONLY | ffi::SQLITE_PERM | ffi::SQLITE_AUTH) => {
            EngineError::ReadOnly { path, detail }
        }
        Some(ffi::SQLITE_CANTOPEN) => EngineError::ReadOnly { path, detail },
        Some(ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) => EngineError::Corrupt { path, detail },
        _ => EngineError::Storage { path, detail },
    }
}

/// Whether somebody else holds a lock that will be free again.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error().map(|inner| inner.extended_code & 0xFF),
        Some(ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED)
    )
}
