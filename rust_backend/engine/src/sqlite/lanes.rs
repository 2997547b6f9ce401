//! Lanes: one per (namespace, queue, task, whether its jobs have a concurrency key), numbered once
//! and cached.
//!
//! Rows are only ever added, so the highest number tells whether the cache is complete.

use std::collections::HashMap;

use rusqlite::Connection;

/// The name of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) namespace: i64,
    pub(super) queue: String,
    pub(super) task: String,
    /// Its jobs have a concurrency key.
    pub(super) keyed: bool,
}

impl Lane {
    /// Whether it belongs to a namespace and, where given, to a queue and a task.
    pub(super) fn is_in(&self, namespace: i64, queue: Option<&str>, task: Option<&str>) -> bool {
        self.namespace == namespace
            && queue.is_none_or(|queue| queue == self.queue)
            && task.is_none_or(|task| task == self.task)
    }
}

/// The cache; one belongs to the writer, one to each reader.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    names: HashMap<i64, Lane>,
    numbers: HashMap<Lane, i64>,
    highest: i64,
}

impl Lanes {
    /// Read the lanes that other processes have added.
    pub(super) fn refresh(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let highest: i64 = connection
            .prepare_cached("SELECT coalesce(max(id), 0) FROM lane")?
            .query_row([], |row| row.get(0))?;
        if highest == self.highest {
            return Ok(());
        }
        let mut statement = connection
            .prepare_cached("SELECT id, namespace, queue, task, keyed FROM lane WHERE id > ?1")?;
        let mut rows = statement.query([self.highest])?;
        while let Some(row) = rows.next()? {
            let lane = Lane {
                namespace: row.get(1)?,
                queue: row.get(2)?,
                task: row.get(3)?,
                keyed: row.get(4)?,
            };
            self.insert(row.get(0)?, lane);
        }
        Ok(())
    }

    /// The name of a lane that is in the cache.
    pub(super) fn name(&self, id: i64) -> Option<&Lane> {
        self.names.get(&id)
    }

    /// The lanes of a namespace that are in the cache, with their numbers.
    pub(super) fn of(&self, namespace: i64) -> impl Iterator<Item = (i64, &Lane)> {
        self.names
            .iter()
            .filter(move |(_, lane)| lane.namespace == namespace)
            .map(|(number, lane)| (*number, lane))
    }

    /// The number of a lane, added if it is new; the caller holds the write transaction.
    pub(super) fn number(&mut self, connection: &Connection, lane: Lane) -> rusqlite::Result<i64> {
        if let Some(id) = self.numbers.get(&lane) {
            return Ok(*id);
        }
        self.refresh(connection)?;
        if let Some(id) = self.numbers.get(&lane) {
            return Ok(*id);
        }
        let id = self.highest + 1;
        connection
            .prepare_cached(
                "INSERT INTO lane (id, namespace, queue, task, keyed) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(rusqlite::params![
                id,
                lane.namespace,
                lane.queue,
                lane.task,
                lane.keyed
            ])?;
        self.insert(id, lane);
        Ok(id)
    }

    /// Forget everything: a rollback may have undone what the cache holds.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn insert(&mut self, id: i64, lane: Lane) {
        self.highest = self.highest.max(id);
        self.numbers.insert(lane.clone(), id);
        self.names.insert(id, lane);
    }
}
