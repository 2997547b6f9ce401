//! Jobs with a concurrency key: of each key only so many run at a time.
//!
//! `keyed` holds every waiting job of this kind in the order of its lane and key, `slot` every
//! running one. A key is open while fewer of its jobs run than the task allows. The invariant, which
//! `check` verifies: of each lane and open key exactly the first waiting job stands in `ready`, of a
//! closed key none. So a claim finds nothing but what it may take, however many jobs wait behind
//! a closed key, and a slot cannot leak: it goes with the running row.

use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Outcome;
use super::lanes::Lane;
use super::limits;
use super::place::{Body, rank};
use super::transaction::Transaction;

/// Rank and number of a waiting job: its place in the line of its key.
type Spot = (i64, i64);

/// Let a job wait in the line of its key.
pub(super) fn line_up(
    transaction: &mut Transaction<'_>,
    body: &Body,
    key: &str,
    due_ms: i64,
) -> Outcome<()> {
    let spot = (rank(body.priority, due_ms), body.seq);
    let lane = transaction.lane_name(body.lane)?;
    let connection = transaction.connection;
    let before = first(connection, body.lane, key)?;
    connection
        .prepare_cached("INSERT INTO keyed VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![body.lane, key, spot.0, spot.1])?;
    if before.is_some_and(|before| before < spot) || !is_open(connection, &lane, key)? {
        return Ok(());
    }
    if let Some(before) = before {
        remove(connection, body.lane, before)?;
    }
    offer(connection, body.lane, spot)
}

/// Take a waiting job out of the line of its key.
pub(super) fn leave_line(connection: &Connection, body: &Body, key: &str) -> Outcome<()> {
    let spot = (rank(body.priority, body.due()), body.seq);
    take_out(connection, body.lane, key, spot)
}

/// Give a slot to a claimed job, which leaves the line. The caller has seen that it is on offer.
pub(super) fn start(
    transaction: &mut Transaction<'_>,
    lane: i64,
    key: &str,
    spot: Spot,
) -> Outcome<()> {
    let connection = transaction.connection;
    let name = transaction.lane_name(lane)?;
    take_out(connection, lane, key, spot)?;
    connection
        .prepare_cached("INSERT INTO slot VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![name.namespace, name.task, key, spot.1])?;
    if !is_open(connection, &name, key)? {
        refresh(transaction, &name, key)?;
    }
    Ok(())
}

/// A running job of this key has ended or was given back.
pub(super) fn end(transaction: &mut Transaction<'_>, body: &Body, key: &str) -> Outcome<()> {
    let name = transaction.lane_name(body.lane)?;
    transaction
        .connection
        .prepare_cached(
            "DELETE FROM slot WHERE namespace = ?1 AND task = ?2 AND key = ?3 AND seq = ?4",
        )?
        .execute(params![name.namespace, name.task, key, body.seq])?;
    refresh(transaction, &name, key)
}

/// The limit of a task has changed: open and close its keys anew. Keys of which nothing runs are
/// open whatever the limit is.
pub(super) fn rebalance(
    transaction: &mut Transaction<'_>,
    namespace: i64,
    task: &str,
) -> Outcome<()> {
    let keys: Vec<String> = {
        let mut statement = transaction
            .connection
            .prepare_cached("SELECT DISTINCT key FROM slot WHERE namespace = ?1 AND task = ?2")?;
        statement
            .query_map(params![namespace, task], |row| row.get(0))?
            .collect::<Result<_, _>>()?
    };
    let name = Lane {
        namespace,
        queue: String::new(),
        task: task.to_owned(),
        keyed: true,
    };
    for key in keys {
        refresh(transaction, &name, &key)?;
    }
    Ok(())
}

/// Whether one more job of the key may run.
pub(super) fn is_open(connection: &Connection, name: &Lane, key: &str) -> rusqlite::Result<bool> {
    let Some(most) = limits::most_running(connection, name.namespace, &name.task)? else {
        return Ok(true);
    };
    let running: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM slot WHERE namespace = ?1 AND task = ?2 AND key = ?3",
        )?
        .query_row(params![name.namespace, name.task, key], |row| row.get(0))?;
    Ok(running < most)
}

/// Whether a job has one of the slots of its key.
pub(super) fn has_slot(
    connection: &Connection,
    name: &Lane,
    key: &str,
    seq: i64,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM slot
                            WHERE namespace = ?1 AND task = ?2 AND key = ?3 AND seq = ?4)",
        )?
        .query_row(params![name.namespace, name.task, key, seq], |row| {
            row.get(0)
        })
}

/// Whether the first waiting job of a lane and key stands where a claim finds it.
pub(super) fn is_offered(connection: &Connection, lane: i64, spot: Spot) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM ready WHERE lane = ?1 AND rank = ?2 AND seq = ?3)",
        )?
        .query_row([lane, spot.0, spot.1], |row| row.get(0))
}

/// The first waiting job of a lane and key.
pub(super) fn first(
    connection: &Connection,
    lane: i64,
    key: &str,
) -> rusqlite::Result<Option<Spot>> {
    connection
        .prepare_cached(
            "SELECT rank, seq FROM keyed WHERE lane = ?1 AND key = ?2 ORDER BY rank, seq LIMIT 1",
        )?
        .query_row(params![lane, key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Restore the invariant for one key in every queue of its task.
fn refresh(transaction: &mut Transaction<'_>, name: &Lane, key: &str) -> Outcome<()> {
    let connection = transaction.connection;
    let open = is_open(connection, name, key)?;
    transaction.lanes.refresh(connection)?;
    let lanes: Vec<i64> = transaction
        .lanes
        .of(name.namespace)
        .filter(|(_, lane)| lane.keyed && lane.task == name.task)
        .map(|(number, _)| number)
        .collect();
    for lane in lanes {
        let Some(spot) = first(connection, lane, key)? else {
            continue;
        };
        if open {
            offer(connection, lane, spot)?;
        } else {
            remove(connection, lane, spot)?;
        }
    }
    Ok(())
}

fn take_out(connection: &Connection, lane: i64, key: &str, spot: Spot) -> Outcome<()> {
    connection
        .prepare_cached(
            "DELETE FROM keyed WHERE lane = ?1 AND key = ?2 AND rank = ?3 AND seq = ?4",
        )?
        .execute(params![lane, key, spot.0, spot.1])?;
    if remove(connection, lane, spot)?
        && let Some(next) = first(connection, lane, key)?
    {
        offer(connection, lane, next)?;
    }
    Ok(())
}

fn offer(connection: &Connection, lane: i64, spot: Spot) -> Outcome<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO ready VALUES (?1, ?2, ?3)")?
        .execute([lane, spot.0, spot.1])?;
    Ok(())
}

fn remove(connection: &Connection, lane: i64, spot: Spot) -> Outcome<bool> {
    let removed = connection
        .prepare_cached("DELETE FROM ready WHERE lane = ?1 AND rank = ?2 AND seq = ?3")?
        .execute([lane, spot.0, spot.1])?;
    Ok(removed == 1)
}
