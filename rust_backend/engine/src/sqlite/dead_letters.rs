//! How many dead letters are kept, and for how long.
//!
//! A narrow table holds them in the order in which they ended, so that a step of upkeep finds the
//! oldest without looking at anything else. A replayed one counts until it is deleted.

use rusqlite::{Connection, params};

use super::failure::Outcome;
use super::lanes::Lanes;
use super::place::Body;
use super::schema::code;
use super::transaction::Transaction;
use crate::model::DeadLetterLimit;

/// Note that a job has ended as a dead letter.
pub(super) fn note(transaction: &mut Transaction<'_>, body: &Body, now_ms: i64) -> Outcome<()> {
    let namespace = transaction.lane_name(body.lane)?.namespace;
    transaction
        .connection
        .prepare_cached("INSERT INTO dead_letter VALUES (?1, ?2, ?3)")?
        .execute([namespace, now_ms, body.seq])?;
    Ok(())
}

/// Forget a dead letter that is being deleted.
pub(super) fn forget(
    transaction: &Transaction<'_>,
    namespace: i64,
    ended_ms: i64,
    seq: i64,
) -> Outcome<()> {
    transaction
        .connection
        .prepare_cached("DELETE FROM dead_letter WHERE namespace = ?1 AND at_ms = ?2 AND seq = ?3")?
        .execute([namespace, ended_ms, seq])?;
    Ok(())
}

/// Keep what a worker says about the dead letters of its namespace; the last one started counts.
pub(super) fn announce(
    transaction: &mut Transaction<'_>,
    namespace: i64,
    limit: DeadLetterLimit,
) -> Outcome<()> {
    let connection = transaction.connection;
    connection
        .prepare_cached("DELETE FROM dead_letter_limit WHERE namespace = ?1")?
        .execute([namespace])?;
    if limit.ttl_ms.is_some() || limit.most.is_some() {
        connection
            .prepare_cached("INSERT INTO dead_letter_limit VALUES (?1, ?2, ?3)")?
            .execute(params![namespace, limit.ttl_ms, limit.most])?;
    }
    Ok(())
}

/// How long until the first dead letter is one too many or too old. `uncounted` tells what the open
/// transaction has not counted yet, by namespace.
pub(super) fn next_due(
    connection: &Connection,
    lanes: &Lanes,
    now_ms: i64,
    uncounted: &dyn Fn(i64) -> i64,
) -> Outcome<Option<i64>> {
    let mut next: Option<i64> = None;
    for (namespace, limit) in limits(connection)? {
        let oldest = oldest(connection, namespace, 1)?;
        if !oldest.is_empty()
            && excess(connection, lanes, namespace, limit, uncounted(namespace))? > 0
        {
            return Ok(Some(0));
        }
        let left = oldest
            .first()
            .zip(limit.ttl_ms)
            .map(|((at_ms, _), ttl)| at_ms.saturating_add(ttl).saturating_sub(now_ms).max(0));
        next = next.into_iter().chain(left).min();
    }
    Ok(next)
}

/// Note those again that were kept for a job that has ended.
pub(super) fn note_parents(connection: &Connection, child: i64) -> Outcome<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO dead_letter
             SELECT lane.namespace, finished_ms, job.seq
             FROM edge JOIN done ON done.seq = edge.parent JOIN job ON job.seq = edge.parent
             JOIN lane ON lane.id = job.lane
             WHERE edge.child = ?1 AND done.state = ?2",
        )?
        .execute([child, code::DEAD])?;
    Ok(())
}

/// Delete the oldest ones beyond the limits, at most `budget`; returns how many.
pub(super) fn prune(
    transaction: &mut Transaction<'_>,
    now_ms: i64,
    budget: usize,
) -> Outcome<usize> {
    let mut pruned = 0;
    for (namespace, limit) in limits(transaction.connection)? {
        let left = budget - pruned;
        let uncounted = uncounted(transaction, namespace);
        let connection = transaction.connection;
        let too_many = excess(connection, transaction.lanes, namespace, limit, uncounted)?;
        let mut gone = 0;
        for (at_ms, seq) in oldest(connection, namespace, left)? {
            let is_old = limit
                .ttl_ms
                .is_some_and(|ttl| at_ms.saturating_add(ttl) <= now_ms);
            if gone >= too_many && !is_old {
                break;
            }
            if super::control::delete(transaction, seq)? {
                gone += 1;
                pruned += 1;
            } else {
                // It is kept for another job, whose end notes it again.
                forget(transaction, namespace, at_ms, seq)?;
            }
        }
    }
    Ok(pruned)
}

fn limits(connection: &Connection) -> Outcome<Vec<(i64, DeadLetterLimit)>> {
    let mut statement =
        connection.prepare_cached("SELECT namespace, ttl_ms, most FROM dead_letter_limit")?;
    let limits = statement
        .query_map([], |row| {
            let limit = DeadLetterLimit {
                ttl_ms: row.get(1)?,
                most: row.get(2)?,
            };
            Ok((row.get(0)?, limit))
        })?
        .collect::<Result<_, _>>()?;
    Ok(limits)
}

fn oldest(connection: &Connection, namespace: i64, most: usize) -> Outcome<Vec<(i64, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT at_ms, seq FROM dead_letter WHERE namespace = ?1 ORDER BY at_ms, seq LIMIT ?2",
    )?;
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let found = statement
        .query_map([namespace, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(found)
}

/// By how many the number of dead letters is above the limit.
fn excess(
    connection: &Connection,
    lanes: &Lanes,
    namespace: i64,
    limit: DeadLetterLimit,
    uncounted: i64,
) -> Outcome<i64> {
    let Some(most) = limit.most else { return Ok(0) };
    let mut statement =
        connection.prepare_cached("SELECT lane, n FROM count WHERE state = ?1 AND n > 0")?;
    let mut rows = statement.query([code::DEAD])?;
    let mut dead = uncounted;
    while let Some(row) = rows.next()? {
        let of_namespace = |lane| {
            lanes
                .name(lane)
                .is_some_and(|name| name.namespace == namespace)
        };
        if of_namespace(row.get(0)?) {
            dead += row.get::<_, i64>(1)?;
        }
    }
    Ok((dead - most).max(0))
}

/// What the open transaction has not counted yet.
pub(super) fn uncounted(transaction: &Transaction<'_>, namespace: i64) -> i64 {
    let changes = transaction.changed(code::DEAD);
    changes
        .filter(|(lane, _)| {
            transaction
                .lanes
                .name(*lane)
                .is_some_and(|name| name.namespace == namespace)
        })
        .map(|(_, by)| by)
        .sum()
}
