//! What can go wrong in the engine: one enum, mapped in one place onto the Python exceptions.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

/// The result of an engine operation.
pub type Result<T> = std::result::Result<T, EngineError>;

/// An error of the engine.
///
/// It is `Clone` because the failure of one commit is reported to every caller that shared it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A value that the store cannot accept; nothing was changed.
    #[error("{field}: {problem}")]
    Invalid {
        field: Cow<'static, str>,
        problem: String,
    },
    /// A dependency or a job that does not exist.
    #[error("{field}: no job has the id {id}")]
    UnknownJob { field: &'static str, id: String },
    /// A worker that has not registered, or has unregistered.
    #[error("worker {0} is not registered with this store; call register first")]
    UnknownWorker(String),
    /// Somebody else held the write lock for too long.
    #[error(
        "{path}: another process has held the write lock for {waited_ms} ms; try again, or raise busy_timeout"
    )]
    Busy { path: PathBuf, waited_ms: u64 },
    #[error("{path}: the disk is full; free some space, nothing was lost")]
    Full { path: PathBuf },
    #[error(
        "{path}: the database cannot be written: {detail}; check the permissions of the file and its folder"
    )]
    ReadOnly { path: PathBuf, detail: String },
    #[error(
        "{path}: the file is not a usable taskito database: {detail}; restore it from a backup"
    )]
    Corrupt { path: PathBuf, detail: String },
    #[error(
        "{path}: the file has schema {found}, this version of taskito needs {wanted}; use the version that wrote it, or a new file"
    )]
    Schema {
        path: PathBuf,
        found: i64,
        wanted: i64,
    },
    /// The database was deleted or replaced under us.
    #[error(
        "{path}: the database file was removed or replaced while it was open; stop every process that uses it and start again"
    )]
    Moved { path: PathBuf },
    #[error("{path}: {problem}")]
    Path { path: PathBuf, problem: String },
    /// The handle was opened before a fork and is used after it.
    #[error("this store was opened before a fork; open it again in the child process")]
    Forked,
    #[error("the store is closed")]
    Closed,
    #[error("{path}: {detail}")]
    Storage { path: PathBuf, detail: String },
    /// A failure inside a backend that the engine reaches through a bridge.
    #[error("{message}")]
    Backend {
        message: String,
        fatal: bool,
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
}

impl EngineError {
    /// Whether the same call can succeed later without anybody's help.
    ///
    /// The dispatcher keeps what it could not store while this holds, and gives up otherwise.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Full { .. } | Self::Storage { .. } => true,
            Self::Backend { fatal, .. } => !*fatal,
            _ => false,
        }
    }

    /// Shorthand for a refused value.
    pub fn invalid(field: impl Into<Cow<'static, str>>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            problem: problem.into(),
        }
    }
}
