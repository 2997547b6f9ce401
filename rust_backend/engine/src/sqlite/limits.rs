//! Rate and concurrency limits of tasks and queues: what is stored, and what it lets a claim take.
//!
//! A limit closes whole lanes, so that the jobs behind it cost a claim nothing. How many jobs run
//! is read from the counts, which every transaction keeps, so no slot can leak. Limits by key are the
//! subject of `keyed`.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::failure::Outcome;
use super::keyed;
use super::lanes::{Lane, Lanes};
use super::schema::code;
use super::transaction::Transaction;
use crate::model::{LimitKind, LimitRecord, LimitedBy, Rate, TaskLimit};
use crate::rate::Bucket;

/// One stored limit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    kind: LimitKind,
    name: String,
    max_running: Option<i64>,
    rate: Option<(Rate, Bucket)>,
}

/// The limits of a namespace as one transaction, or one look, sees them.
#[derive(Debug, Default)]
pub(super) struct Gates {
    gates: Vec<Gate>,
    by_name: HashMap<(LimitKind, String), usize>,
}

#[derive(Debug)]
struct Gate {
    limit: Limit,
    /// Jobs that may still start; `None` is no limit. Of a task it counts only jobs without a key.
    room: Option<i64>,
    taken: bool,
}

impl Gate {
    fn tokens(&self) -> Option<i64> {
        let (rate, bucket) = self.limit.rate.as_ref()?;
        Some(bucket.tokens(rate))
    }
}

/// Which gates stand before a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    task: Option<usize>,
    queue: Option<usize>,
    keyed: bool,
}

impl Way {
    /// Whether any limit is set for the lane: its jobs are claimed only for a free executor.
    pub(super) const fn is_limited(self) -> bool {
        self.task.is_some() || self.queue.is_some()
    }
}

impl Gates {
    /// Read the limits of a namespace. `uncounted` tells how many running jobs of a lane the open
    /// transaction has not counted yet.
    pub(super) fn load(
        connection: &Connection,
        lanes: &Lanes,
        namespace: i64,
        steady_ms: i64,
        uncounted: impl Fn(i64) -> i64,
    ) -> Outcome<Self> {
        let limits = stored(connection, namespace, steady_ms)?;
        if limits.is_empty() {
            return Ok(Self::default());
        }
        let running = running(connection, lanes, namespace, uncounted)?;
        let mut gates = Self::default();
        for limit in limits {
            let runs = |lane: &Lane| match limit.kind {
                LimitKind::Task => !lane.keyed && lane.task == limit.name,
                LimitKind::Queue => lane.queue == limit.name,
            };
            let now: i64 = running
                .iter()
                .filter(|(lane, _)| runs(lane))
                .map(|(_, count)| count)
                .sum();
            let key = (limit.kind, limit.name.clone());
            gates.by_name.insert(key, gates.gates.len());
            gates.gates.push(Gate {
                room: limit.max_running.map(|most| most - now),
                limit,
                taken: false,
            });
        }
        Ok(gates)
    }

    pub(super) fn way(&self, lane: &Lane) -> Way {
        if self.gates.is_empty() {
            return Way {
                task: None,
                queue: None,
                keyed: lane.keyed,
            };
        }
        let find = |kind, name: &String| self.by_name.get(&(kind, name.clone())).copied();
        Way {
            task: find(LimitKind::Task, &lane.task),
            queue: find(LimitKind::Queue, &lane.queue),
            keyed: lane.keyed,
        }
    }

    /// Whether a job of a lane may start now, as far as its task and its queue are concerned.
    pub(super) fn closed_by(&self, way: Way) -> Option<LimitedBy> {
        let full = |gate: &Gate| gate.room.is_some_and(|room| room <= 0);
        let task = way.task.map(|index| &self.gates[index]);
        let queue = way.queue.map(|index| &self.gates[index]);
        if task.is_some_and(|gate| !way.keyed && full(gate)) || queue.is_some_and(full) {
            return Some(LimitedBy::Concurrency);
        }
        let empty = |gate: &Gate| gate.tokens().is_some_and(|tokens| tokens <= 0);
        if task.is_some_and(empty) || queue.is_some_and(empty) {
            return Some(LimitedBy::Rate);
        }
        None
    }

    /// Note that a job of a lane was claimed.
    pub(super) fn take(&mut self, way: Way) {
        for (index, counts) in [(way.task, !way.keyed), (way.queue, true)] {
            let Some(gate) = index.map(|index| &mut self.gates[index]) else {
                continue;
            };
            if let Some(room) = gate.room.as_mut().filter(|_| counts) {
                *room -= 1;
            }
            if let Some((rate, bucket)) = &mut gate.limit.rate {
                *bucket = bucket.less(rate, 1);
                gate.taken = true;
            }
        }
    }

    /// How long until a lane that only lacks tokens has one of each.
    pub(super) fn wait_ms(&self, way: Way) -> Option<i64> {
        if self.closed_by(way) != Some(LimitedBy::Rate) {
            return None;
        }
        [way.task, way.queue]
            .into_iter()
            .flatten()
            .filter_map(|index| self.gates[index].limit.rate.as_ref())
            .map(|(rate, bucket)| bucket.wait_ms(rate))
            .max()
    }

    /// Write the buckets from which something was taken.
    pub(super) fn save(&self, connection: &Connection, namespace: i64) -> Outcome<()> {
        for gate in self.gates.iter().filter(|gate| gate.taken) {
            if let Some((_, bucket)) = &gate.limit.rate {
                write_bucket(connection, namespace, &gate.limit, *bucket)?;
            }
        }
        Ok(())
    }
}

/// A claim has come to nothing before its start: its tokens go back, as far as there is room.
pub(super) fn give_back(transaction: &mut Transaction<'_>, lane: i64) -> Outcome<()> {
    let lane = transaction.lane_name(lane)?;
    let mut statement = transaction.connection.prepare_cached(
        "UPDATE limits SET level = min(level + period_ms, burst * period_ms)
         WHERE namespace = ?1 AND kind = ?2 AND name = ?3 AND count IS NOT NULL",
    )?;
    for (kind, name) in [
        (LimitKind::Task, &lane.task),
        (LimitKind::Queue, &lane.queue),
    ] {
        statement.execute(params![lane.namespace, kind_code(kind), name])?;
    }
    Ok(())
}

/// Make the limits of a starting worker's tasks the stored ones: the last worker started wins.
pub(super) fn announce(
    transaction: &mut Transaction<'_>,
    namespace: i64,
    tasks: &[String],
    limits: &[TaskLimit],
    steady_ms: i64,
) -> Outcome<()> {
    let known = stored(transaction.connection, namespace, steady_ms)?;
    for task in tasks {
        let wanted = limits.iter().find(|limit| limit.task == *task);
        let old = known
            .iter()
            .find(|limit| limit.kind == LimitKind::Task && limit.name == *task);
        let (max_running, rate) =
            wanted.map_or((None, None), |limit| (limit.max_concurrent, limit.rate));
        let changed = put(
            transaction.connection,
            namespace,
            (LimitKind::Task, task),
            old,
            (max_running, rate),
            steady_ms,
        )?;
        if changed {
            keyed::rebalance(transaction, namespace, task)?;
            transaction.ring();
        }
    }
    Ok(())
}

/// Set one of the two limits of a queue, or take it away.
pub(super) fn set_of_queue(
    transaction: &mut Transaction<'_>,
    namespace: &str,
    queue: &str,
    change: QueueChange,
    steady_ms: i64,
) -> Outcome<()> {
    let namespace = super::transaction::ensure_namespace(transaction.connection, namespace)?;
    let old = stored(transaction.connection, namespace, steady_ms)?
        .into_iter()
        .find(|limit| limit.kind == LimitKind::Queue && limit.name == queue);
    let old_rate = old
        .as_ref()
        .and_then(|limit| limit.rate.as_ref())
        .map(|(rate, _)| *rate);
    let old_most = old.as_ref().and_then(|limit| limit.max_running);
    let wanted = match change {
        QueueChange::Rate(rate) => (old_most, rate),
        QueueChange::Concurrency(most) => (most, old_rate),
    };
    let changed = put(
        transaction.connection,
        namespace,
        (LimitKind::Queue, queue),
        old.as_ref(),
        wanted,
        steady_ms,
    )?;
    if changed {
        transaction.ring();
    }
    Ok(())
}

/// Which limit of a queue is to change.
#[derive(Debug, Clone, Copy)]
pub(super) enum QueueChange {
    Rate(Option<Rate>),
    Concurrency(Option<i64>),
}

/// The limits of a namespace, by kind and name.
pub(super) fn list(
    connection: &Connection,
    lanes: &Lanes,
    namespace: i64,
    steady_ms: i64,
) -> Outcome<Vec<LimitRecord>> {
    let running = running(connection, lanes, namespace, |_| 0)?;
    let records = stored(connection, namespace, steady_ms)?
        .into_iter()
        .map(|limit| {
            let now = running
                .iter()
                .filter(|(lane, _)| match limit.kind {
                    LimitKind::Task => lane.task == limit.name,
                    LimitKind::Queue => lane.queue == limit.name,
                })
                .map(|(_, count)| count)
                .sum();
            LimitRecord {
                kind: limit.kind,
                name: limit.name,
                rate: limit.rate.as_ref().map(|(rate, _)| *rate),
                max_concurrent: limit.max_running,
                running: now,
                tokens: limit.rate.map(|(rate, bucket)| bucket.tokens(&rate)),
            }
        })
        .collect();
    Ok(records)
}

/// The most jobs of a task that may run at a time, by key.
pub(super) fn most_running(
    connection: &Connection,
    namespace: i64,
    task: &str,
) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT max_running FROM limits WHERE namespace = ?1 AND kind = ?2 AND name = ?3",
    )?;
    let mut rows = statement.query(params![namespace, kind_code(LimitKind::Task), task])?;
    match rows.next()? {
        Some(row) => row.get(0),
        None => Ok(None),
    }
}

fn stored(connection: &Connection, namespace: i64, steady_ms: i64) -> Outcome<Vec<Limit>> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, name, max_running, count, period_ms, burst, level, at_ms
         FROM limits WHERE namespace = ?1",
    )?;
    let limits = statement
        .query_map([namespace], |row| {
            let count: Option<i64> = row.get(3)?;
            let rate = match count {
                None => None,
                Some(count) => {
                    let rate = Rate {
                        count,
                        period_ms: row.get(4)?,
                        burst: row.get(5)?,
                    };
                    let bucket = Bucket {
                        level: row.get(6)?,
                        at_ms: row.get(7)?,
                    };
                    Some((rate, bucket.at(&rate, steady_ms)))
                }
            };
            Ok(Limit {
                kind: kind_from(row.get(0)?),
                name: row.get(1)?,
                max_running: row.get(2)?,
                rate,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(limits)
}

/// How many jobs run in each lane of a namespace that has any.
fn running<'a>(
    connection: &Connection,
    lanes: &'a Lanes,
    namespace: i64,
    uncounted: impl Fn(i64) -> i64,
) -> Outcome<Vec<(&'a Lane, i64)>> {
    let mut counted: HashMap<i64, i64> = HashMap::new();
    let mut statement =
        connection.prepare_cached("SELECT lane, n FROM count WHERE state = ?1 AND n > 0")?;
    let mut rows = statement.query([code::RUNNING])?;
    while let Some(row) = rows.next()? {
        counted.insert(row.get(0)?, row.get(1)?);
    }
    Ok(lanes
        .of(namespace)
        .map(|(number, lane)| {
            let counted = counted.get(&number).copied().unwrap_or(0);
            (lane, counted + uncounted(number))
        })
        .filter(|(_, count)| *count > 0)
        .collect())
}

/// Store a limit, or remove it where nothing is limited any more; returns whether that is a change.
fn put(
    connection: &Connection,
    namespace: i64,
    (kind, name): (LimitKind, &str),
    old: Option<&Limit>,
    (max_running, rate): (Option<i64>, Option<Rate>),
    steady_ms: i64,
) -> Outcome<bool> {
    let old_rate = old.and_then(|limit| limit.rate.as_ref());
    if old.and_then(|limit| limit.max_running) == max_running
        && old_rate.map(|(rate, _)| *rate) == rate
    {
        return Ok(false);
    }
    if max_running.is_none() && rate.is_none() {
        connection
            .prepare_cached("DELETE FROM limits WHERE namespace = ?1 AND kind = ?2 AND name = ?3")?
            .execute(params![namespace, kind_code(kind), name])?;
        return Ok(true);
    }
    let bucket = rate.map(|rate| match old_rate {
        Some((old, bucket)) if *old == rate => *bucket,
        Some((old, bucket)) => bucket.under(old, &rate, steady_ms),
        None => Bucket::full(&rate, steady_ms),
    });
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO limits VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            namespace,
            kind_code(kind),
            name,
            max_running,
            rate.map(|rate| rate.count),
            rate.map(|rate| rate.period_ms),
            rate.map(|rate| rate.burst),
            bucket.map(|bucket| bucket.level),
            bucket.map(|bucket| bucket.at_ms),
        ])?;
    Ok(true)
}

fn write_bucket(
    connection: &Connection,
    namespace: i64,
    limit: &Limit,
    bucket: Bucket,
) -> Outcome<()> {
    connection
        .prepare_cached(
            "UPDATE limits SET level = ?4, at_ms = ?5
             WHERE namespace = ?1 AND kind = ?2 AND name = ?3",
        )?
        .execute(params![
            namespace,
            kind_code(limit.kind),
            limit.name,
            bucket.level,
            bucket.at_ms
        ])?;
    Ok(())
}

const fn kind_code(kind: LimitKind) -> i64 {
    match kind {
        LimitKind::Task => 0,
        LimitKind::Queue => 1,
    }
}

const fn kind_from(code: i64) -> LimitKind {
    if code == 0 {
        LimitKind::Task
    } else {
        LimitKind::Queue
    }
}
