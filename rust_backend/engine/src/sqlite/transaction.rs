//! What the operations of one group share while its transaction is open.
//!
//! Counters and counts are read once and written once per transaction, however many jobs it moves.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Outcome;
use super::lanes::Lanes;
use super::schema::counter;

/// An open write transaction.
pub(super) struct Transaction<'a> {
    pub(super) connection: &'a Connection,
    pub(super) lanes: &'a mut Lanes,
    /// Somebody else held the write lock until a moment ago, so that nobody could renew a lease.
    pub(super) after_outage: bool,
    changes: &'a mut Pending,
}

/// Changes that are written once, just before the commit.
#[derive(Debug, Default)]
pub(super) struct Pending {
    sequence: Option<i64>,
    token: Option<i64>,
    counts: HashMap<(i64, i64), i64>,
    rings: bool,
}

impl<'a> Transaction<'a> {
    pub(super) const fn new(
        connection: &'a Connection,
        lanes: &'a mut Lanes,
        changes: &'a mut Pending,
        after_outage: bool,
    ) -> Self {
        Self {
            connection,
            lanes,
            after_outage,
            changes,
        }
    }

    /// The next row number for a job.
    pub(super) fn next_sequence(&mut self) -> Outcome<i64> {
        let next = match self.changes.sequence {
            Some(last) => last + 1,
            None => self.read_counter(counter::SEQUENCE)? + 1,
        };
        self.changes.sequence = Some(next);
        Ok(next)
    }

    /// The next lease token; greater than every token that this file has ever given out.
    pub(super) fn next_token(&mut self) -> Outcome<i64> {
        let next = match self.changes.token {
            Some(last) => last + 1,
            None => self.read_counter(counter::TOKEN)? + 1,
        };
        self.changes.token = Some(next);
        Ok(next)
    }

    /// Note that `by` jobs of `lane` entered (or left) a state.
    pub(super) fn count(&mut self, lane: i64, state: i64, by: i64) {
        *self.changes.counts.entry((state, lane)).or_insert(0) += by;
    }

    /// By how much the stored count of a lane and state is going to change.
    pub(super) fn uncounted(&self, lane: i64, state: i64) -> i64 {
        self.changes
            .counts
            .get(&(state, lane))
            .copied()
            .unwrap_or(0)
    }

    /// The lanes in which this transaction has put jobs into `state` that are not counted yet.
    pub(super) fn entered(&self, state: i64) -> Vec<i64> {
        let counts = self.changes.counts.iter();
        counts
            .filter(|((of, _), by)| *of == state && **by > 0)
            .map(|((_, lane), _)| *lane)
            .collect()
    }

    /// By how much the counts of a state are going to change, by lane.
    pub(super) fn changed(&self, state: i64) -> impl Iterator<Item = (i64, i64)> {
        let counts = self.changes.counts.iter();
        counts
            .filter(move |((of, _), _)| *of == state)
            .map(|((_, lane), by)| (*lane, *by))
    }

    /// Wake whoever waits for a change, after the commit.
    pub(super) const fn ring(&mut self) {
        self.changes.rings = true;
    }

    fn read_counter(&self, name: i64) -> Outcome<i64> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT value FROM counter WHERE name = ?1")?;
        Ok(statement.query_row([name], |row| row.get(0))?)
    }
}

impl Pending {
    /// Write what has been gathered; returns whether the commit must wake somebody.
    pub(super) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let mut statement =
            connection.prepare_cached("UPDATE counter SET value = ?2 WHERE name = ?1")?;
        if let Some(value) = self.sequence.take() {
            statement.execute([counter::SEQUENCE, value])?;
        }
        if let Some(value) = self.token.take() {
            statement.execute([counter::TOKEN, value])?;
        }
        let mut statement = connection.prepare_cached(
            "INSERT INTO count VALUES (?1, ?2, ?3)
             ON CONFLICT (state, lane) DO UPDATE SET n = n + excluded.n",
        )?;
        for ((state, lane), by) in self.counts.drain() {
            if by != 0 {
                statement.execute(params![state, lane, by])?;
            }
        }
        Ok(std::mem::take(&mut self.rings))
    }

    /// Forget everything, after a rollback.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The number of a namespace, if anything was ever stored in it.
pub(super) fn namespace(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM namespace WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// The number of a namespace, added if it is new; the caller holds the write transaction.
pub(super) fn ensure_namespace(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    if let Some(id) = namespace(connection, name)? {
        return Ok(id);
    }
    connection
        .prepare_cached("INSERT INTO namespace (name) VALUES (?1)")?
        .execute([name])?;
    Ok(connection.last_insert_rowid())
}
