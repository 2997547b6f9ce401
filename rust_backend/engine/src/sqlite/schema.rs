//! The tables of the schema, and how a file is recognised.
//!
//! A job's body is written once and never touched again. Where it stands follows from which narrow
//! structure holds its number:
//!
//! | state | where |
//! | --- | --- |
//! | complete, dead, cancelled | `done` |
//! | running | `running` |
//! | blocked | `detour` with `pending > 0` |
//! | scheduled | `timer` of kind promote |
//! | ready | `ready`, or `keyed` if it has a concurrency key and stands behind others of it |
//!
//! `detour` has a row only for jobs that have left the straight path (blocked, retried, snoozed,
//! crashed), so a job that just runs never touches it. `ready` holds nothing but jobs that may be
//! claimed now; its order within a lane is the order of claims. Nothing hot has a second index.

use rusqlite::Connection;

use super::failure::{Failure, Outcome};
use crate::error::EngineError;

/// The schema that this version reads and writes.
pub(super) const SCHEMA: i64 = 5;
/// `PRAGMA application_id` of every taskito file: "tskt".
pub(super) const APPLICATION_ID: i64 = 0x7473_6B74;

/// Codes of the `count` table: the states, with scheduled split by whether a retry is waited for.
pub(super) mod code {
    pub(in crate::sqlite) const BLOCKED: i64 = 0;
    pub(in crate::sqlite) const SCHEDULED: i64 = 1;
    pub(in crate::sqlite) const RETRYING: i64 = 2;
    pub(in crate::sqlite) const READY: i64 = 3;
    pub(in crate::sqlite) const RUNNING: i64 = 4;
    pub(in crate::sqlite) const COMPLETE: i64 = 5;
    pub(in crate::sqlite) const DEAD: i64 = 6;
    pub(in crate::sqlite) const CANCELLED: i64 = 7;
}

/// Kinds of `timer` rows.
pub(super) mod timer {
    /// The job becomes ready.
    pub(in crate::sqlite) const PROMOTE: i64 = 0;
    /// The job is cancelled unless it has started.
    pub(in crate::sqlite) const EXPIRE: i64 = 1;
    /// The finished job is deleted.
    pub(in crate::sqlite) const PRUNE: i64 = 2;
    /// A schedule fires; the number is that of the schedule.
    pub(in crate::sqlite) const FIRE: i64 = 3;
}

/// Kinds of `held_key` rows.
pub(super) mod key {
    /// Freed at the end of the job.
    pub(in crate::sqlite) const UNIQUE: i64 = 0;
    /// Freed when the job is deleted.
    pub(in crate::sqlite) const IDEMPOTENCY: i64 = 1;
}

/// Conditions of `edge` rows.
pub(super) mod condition {
    pub(in crate::sqlite) const SUCCESS: i64 = 0;
    pub(in crate::sqlite) const FAILURE: i64 = 1;
    pub(in crate::sqlite) const ALWAYS: i64 = 2;
}

/// Names of `counter` rows.
pub(super) mod counter {
    /// The last row number given to a job; purges never lower it.
    pub(in crate::sqlite) const SEQUENCE: i64 = 0;
    /// The last lease token: epoch * 2^32 + n, the epoch raised at the first opening after a boot.
    pub(in crate::sqlite) const TOKEN: i64 = 1;
}

const TABLES: &str = "
CREATE TABLE boot (only INTEGER PRIMARY KEY CHECK (only = 0), id BLOB NOT NULL) STRICT;
CREATE TABLE counter (name INTEGER PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE namespace (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE lane (
    id INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    keyed INTEGER NOT NULL,
    UNIQUE (namespace, queue, task, keyed)
) STRICT;
CREATE TABLE job (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    lane INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    delay_ms INTEGER NOT NULL,
    max_retries INTEGER NOT NULL,
    max_crashes INTEGER NOT NULL,
    timeout_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    result_ttl_ms INTEGER,
    unique_key TEXT,
    unique_until_start INTEGER NOT NULL,
    idempotency_key TEXT,
    concurrency_key TEXT,
    original BLOB,
    schedule TEXT,
    fire_ms INTEGER,
    inputs INTEGER NOT NULL,
    on_failure INTEGER NOT NULL,
    workflow INTEGER,
    serializer TEXT NOT NULL,
    metadata BLOB,
    payload BLOB NOT NULL
) STRICT;
CREATE TABLE ready (
    lane INTEGER NOT NULL, rank INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (lane, rank, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE keyed (
    lane INTEGER NOT NULL, key TEXT NOT NULL, rank INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (lane, key, rank, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE slot (
    namespace INTEGER NOT NULL, task TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (namespace, task, key, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE limits (
    namespace INTEGER NOT NULL, kind INTEGER NOT NULL, name TEXT NOT NULL,
    max_running INTEGER,
    count INTEGER, period_ms INTEGER, burst INTEGER, level INTEGER, at_ms INTEGER,
    PRIMARY KEY (namespace, kind, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE timer (
    kind INTEGER NOT NULL, at_ms INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (kind, at_ms, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE detour (
    seq INTEGER PRIMARY KEY,
    due_ms INTEGER NOT NULL,
    why INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    suspect INTEGER NOT NULL,
    run INTEGER NOT NULL,
    started_ms INTEGER
) STRICT;
CREATE TABLE running (
    seq INTEGER PRIMARY KEY,
    token INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    deadline_ms INTEGER NOT NULL,
    started_ms INTEGER,
    suspect INTEGER NOT NULL
) STRICT;
CREATE TABLE done (
    seq INTEGER PRIMARY KEY,
    state INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL,
    started_ms INTEGER,
    token INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    worker TEXT,
    reason TEXT,
    replayed BLOB,
    serializer TEXT,
    result BLOB
) STRICT;
CREATE TABLE edge (
    parent INTEGER NOT NULL, child INTEGER NOT NULL, slot INTEGER NOT NULL,
    condition INTEGER NOT NULL, input INTEGER NOT NULL,
    PRIMARY KEY (parent, child, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_child ON edge (child, slot);
CREATE TABLE workflow (
    id INTEGER PRIMARY KEY, namespace INTEGER NOT NULL, name TEXT NOT NULL, created_ms INTEGER NOT NULL,
    UNIQUE (namespace, name)
) STRICT;
CREATE TABLE member (
    workflow INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (workflow, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE cascade (parent INTEGER PRIMARY KEY) STRICT;
CREATE TABLE held_key (
    namespace INTEGER NOT NULL, kind INTEGER NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (namespace, kind, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE named_lock (
    namespace INTEGER NOT NULL, name TEXT NOT NULL, token INTEGER NOT NULL, owner TEXT NOT NULL,
    deadline_ms INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE dead_letter (
    namespace INTEGER NOT NULL, at_ms INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (namespace, at_ms, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE dead_letter_limit (
    namespace INTEGER PRIMARY KEY, ttl_ms INTEGER, most INTEGER
) STRICT;
CREATE TABLE given_id (
    namespace INTEGER NOT NULL, id BLOB NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE error (
    seq INTEGER NOT NULL, run INTEGER NOT NULL, attempt INTEGER NOT NULL, kind INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, worker TEXT NOT NULL, detail BLOB NOT NULL,
    PRIMARY KEY (seq, run)
) STRICT, WITHOUT ROWID;
CREATE TABLE progress (seq INTEGER PRIMARY KEY, percent INTEGER NOT NULL) STRICT;
CREATE TABLE log (
    seq INTEGER NOT NULL, line INTEGER NOT NULL, run INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    level TEXT NOT NULL, message TEXT NOT NULL,
    PRIMARY KEY (seq, line)
) STRICT, WITHOUT ROWID;
CREATE TABLE worker (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    namespace INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    host TEXT NOT NULL,
    queues TEXT,
    tasks TEXT NOT NULL,
    schedules TEXT NOT NULL,
    started_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE schedule (
    id INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    name TEXT NOT NULL,
    line TEXT NOT NULL,
    timezone TEXT NOT NULL,
    catch_up INTEGER NOT NULL,
    overlap INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    next_ms INTEGER,
    armed_ms INTEGER,
    last_ms INTEGER,
    last_job BLOB,
    fired INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    priority INTEGER NOT NULL,
    delay_ms INTEGER NOT NULL,
    max_retries INTEGER NOT NULL,
    max_crashes INTEGER NOT NULL,
    timeout_ms INTEGER NOT NULL,
    expires_in_ms INTEGER,
    result_ttl_ms INTEGER,
    unique_key TEXT,
    unique_until_start INTEGER NOT NULL,
    concurrency_key TEXT,
    serializer TEXT NOT NULL,
    metadata BLOB,
    payload BLOB NOT NULL,
    UNIQUE (namespace, name)
) STRICT;
CREATE INDEX unarmed_schedule ON schedule (namespace, name) WHERE armed_ms IS NULL;
CREATE TABLE schedule_job (
    schedule INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (schedule, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE waiting_fire (
    schedule INTEGER NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (schedule, at_ms)
) STRICT, WITHOUT ROWID;
CREATE TABLE cancel_request (
    worker INTEGER NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (worker, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE pause (
    namespace INTEGER NOT NULL, queue TEXT NOT NULL, PRIMARY KEY (namespace, queue)
) STRICT, WITHOUT ROWID;
CREATE TABLE count (
    state INTEGER NOT NULL, lane INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (state, lane)
) STRICT, WITHOUT ROWID;
INSERT INTO counter VALUES (0, 0), (1, 0);
INSERT INTO boot VALUES (0, x'');
";

/// What the file is, before anything is written to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Empty,
    Taskito,
}

/// Recognise the file; refuse one that belongs to somebody else or to another version.
pub(super) fn recognise(connection: &Connection, path: &std::path::Path) -> Outcome<Kind> {
    let application: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let schema: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if application == APPLICATION_ID {
        if schema == SCHEMA {
            return Ok(Kind::Taskito);
        }
        return Err(Failure::Refused(EngineError::Schema {
            path: path.to_path_buf(),
            found: schema,
            wanted: SCHEMA,
        }));
    }
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && schema == 0 && tables == 0 {
        return Ok(Kind::Empty);
    }
    Err(Failure::Refused(EngineError::Corrupt {
        path: path.to_path_buf(),
        detail: "it is the database of another application".to_owned(),
    }))
}

/// Create the tables; the caller holds a write transaction.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", SCHEMA)
}
