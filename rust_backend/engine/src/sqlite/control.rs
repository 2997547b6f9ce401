//! What people ask of stored jobs: cancel, delete, run again, pause, note progress.

use rusqlite::{Connection, OptionalExtension, params};

use super::dead_letters;
use super::edges;
use super::failure::Outcome;
use super::finish::Ending;
use super::lanes::Lanes;
use super::place::{self, Place, final_code, final_state};
use super::schema::{key, timer};
use super::transaction::{self, Transaction};
use super::workflows;
use crate::id::JobId;
use crate::model::{Cancelled, Lease, PurgeRequest};
use crate::transitions::State;

/// Cancel jobs and what depends on them; a running one is only asked, and only if `running`.
pub(super) fn cancel(
    transaction: &mut Transaction<'_>,
    namespace: &str,
    ids: &[JobId],
    reason: &str,
    running: bool,
    now_ms: i64,
) -> Outcome<Vec<Cancelled>> {
    let Some(namespace) = transaction::namespace(transaction.connection, namespace)? else {
        return Ok(vec![Cancelled::Refused; ids.len()]);
    };
    let mut verdicts = Vec::with_capacity(ids.len());
    for id in ids {
        verdicts.push(cancel_one(
            transaction,
            namespace,
            *id,
            reason,
            running,
            now_ms,
        )?);
    }
    Ok(verdicts)
}

fn cancel_one(
    transaction: &mut Transaction<'_>,
    namespace: i64,
    id: JobId,
    reason: &str,
    running: bool,
    now_ms: i64,
) -> Outcome<Cancelled> {
    let connection = transaction.connection;
    let Some(seq) = place::find(connection, namespace, id)? else {
        return Ok(Cancelled::Refused);
    };
    let Some(body) = place::body(connection, seq)? else {
        return Ok(Cancelled::Refused);
    };
    match place::locate(connection, &body)? {
        Place::Running { worker, .. } if running => {
            connection
                .prepare_cached("INSERT OR IGNORE INTO cancel_request VALUES (?1, ?2, ?3)")?
                .execute(params![worker, seq, reason])?;
            transaction.ring();
            Ok(Cancelled::Requested)
        }
        Place::Running { .. } | Place::Done(_) => Ok(Cancelled::Refused),
        waiting => {
            transaction.take_from(&body, &waiting)?;
            transaction.finish(&body, body.carried(), &Ending::cancelled(now_ms, reason))?;
            Ok(Cancelled::Done)
        }
    }
}

/// The finished jobs that a purge is about, oldest first; read without the write lock.
pub(super) fn select_finished(
    connection: &Connection,
    lanes: &Lanes,
    namespace: &str,
    request: &PurgeRequest,
    now_ms: i64,
) -> Outcome<Vec<i64>> {
    let Some(namespace) = transaction::namespace(connection, namespace)? else {
        return Ok(Vec::new());
    };
    let matches = |seq: i64, lane: i64, state: i64, finished_ms: i64| -> Outcome<bool> {
        let state = final_state(state);
        Ok(
            (request.states.is_empty() || request.states.contains(&state))
                && finished_ms <= now_ms - request.older_than_ms
                && lanes.name(lane).is_some_and(|name| {
                    name.is_in(namespace, request.queue.as_deref(), request.task.as_deref())
                })
                && !edges::is_needed(connection, seq)?,
        )
    };
    let mut found = Vec::new();
    if request.ids.is_empty() {
        let mut statement = connection.prepare_cached(
            "SELECT done.seq, lane, state, finished_ms FROM done JOIN job ON job.seq = done.seq
             ORDER BY done.seq",
        )?;
        let mut rows = statement.query([])?;
        while found.len() < request.limit
            && let Some(row) = rows.next()?
        {
            let seq = row.get(0)?;
            if matches(seq, row.get(1)?, row.get(2)?, row.get(3)?)? {
                found.push(seq);
            }
        }
        return Ok(found);
    }
    for id in &request.ids {
        if found.len() >= request.limit {
            break;
        }
        let Some(seq) = place::find(connection, namespace, *id)? else {
            continue;
        };
        let facts: Option<(i64, i64, i64)> = connection
            .prepare_cached(
                "SELECT lane, state, finished_ms FROM done JOIN job ON job.seq = done.seq
                 WHERE done.seq = ?1",
            )?
            .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        if let Some((lane, state, finished_ms)) = facts
            && !found.contains(&seq)
            && matches(seq, lane, state, finished_ms)?
        {
            found.push(seq);
        }
    }
    Ok(found)
}

/// Delete a finished job with all that belongs to it; false if there is none, or if a job that has
/// not ended needs its result.
pub(super) fn delete(transaction: &mut Transaction<'_>, seq: i64) -> Outcome<bool> {
    let connection = transaction.connection;
    let finished: Option<(i64, i64)> = connection
        .prepare_cached(
            "SELECT state, finished_ms FROM done
             WHERE seq = ?1 AND seq NOT IN (SELECT parent FROM cascade)",
        )?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((state, finished_ms)) = finished else {
        return Ok(false);
    };
    if edges::is_needed(connection, seq)? {
        return Ok(false);
    }
    let (lane, id, idempotency_key, workflow): (i64, [u8; 16], Option<String>, Option<i64>) =
        connection
            .prepare_cached("SELECT lane, id, idempotency_key, workflow FROM job WHERE seq = ?1")?
            .query_row([seq], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
    if let Some(workflow) = workflow {
        workflows::leave(connection, workflow, seq)?;
    }
    drop_timers(connection, seq, finished_ms)?;
    let namespace = transaction.lane_name(lane)?.namespace;
    if state == final_code(State::Dead) {
        dead_letters::forget(transaction, namespace, finished_ms, seq)?;
    }
    if let Some(value) = idempotency_key {
        connection
            .prepare_cached(
                "DELETE FROM held_key WHERE namespace = ?1 AND kind = ?2 AND key = ?3 AND seq = ?4",
            )?
            .execute(params![namespace, key::IDEMPOTENCY, value, seq])?;
    }
    connection
        .prepare_cached("DELETE FROM given_id WHERE namespace = ?1 AND id = ?2")?
        .execute(params![namespace, id])?;
    for statement in [
        "DELETE FROM edge WHERE parent = ?1",
        "DELETE FROM edge WHERE child = ?1",
        "DELETE FROM error WHERE seq = ?1",
        "DELETE FROM progress WHERE seq = ?1",
        "DELETE FROM log WHERE seq = ?1",
        "DELETE FROM done WHERE seq = ?1",
        "DELETE FROM job WHERE seq = ?1",
    ] {
        connection.prepare_cached(statement)?.execute([seq])?;
    }
    transaction.count(lane, state, -1);
    Ok(true)
}

/// Forget the times at which something would have happened to a finished job.
fn drop_timers(connection: &Connection, seq: i64, finished_ms: i64) -> Outcome<()> {
    let (expires_ms, result_ttl_ms): (Option<i64>, Option<i64>) = connection
        .prepare_cached("SELECT expires_ms, result_ttl_ms FROM job WHERE seq = ?1")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let prunes_ms = result_ttl_ms.map(|ttl| finished_ms.saturating_add(ttl));
    let mut statement = connection
        .prepare_cached("DELETE FROM timer WHERE kind = ?1 AND at_ms = ?2 AND seq = ?3")?;
    for (kind, at_ms) in [(timer::EXPIRE, expires_ms), (timer::PRUNE, prunes_ms)] {
        if let Some(at_ms) = at_ms {
            statement.execute([kind, at_ms, seq])?;
        }
    }
    Ok(())
}

/// Let no job of a queue be claimed, or end that.
pub(super) fn set_paused(
    transaction: &mut Transaction<'_>,
    namespace: &str,
    queue: &str,
    paused: bool,
) -> Outcome<()> {
    let connection = transaction.connection;
    let namespace = transaction::ensure_namespace(connection, namespace)?;
    let statement = if paused {
        "INSERT OR IGNORE INTO pause VALUES (?1, ?2)"
    } else {
        "DELETE FROM pause WHERE namespace = ?1 AND queue = ?2"
    };
    connection
        .prepare_cached(statement)?
        .execute(params![namespace, queue])?;
    transaction.ring();
    Ok(())
}

/// Store the progress of a run; false if it is not the current one.
pub(super) fn set_progress(
    transaction: &Transaction<'_>,
    namespace: &str,
    id: JobId,
    token: Option<i64>,
    percent: i64,
) -> Outcome<bool> {
    let Some(seq) = running(transaction.connection, namespace, id, token)? else {
        return Ok(false);
    };
    transaction
        .connection
        .prepare_cached("INSERT OR REPLACE INTO progress VALUES (?1, ?2)")?
        .execute([seq, percent])?;
    Ok(true)
}

/// Append a line to the log of a run; false if it is not the current one.
pub(super) fn append_log(
    transaction: &Transaction<'_>,
    namespace: &str,
    lease: Lease,
    level: &str,
    message: &str,
    now_ms: i64,
) -> Outcome<bool> {
    let Some(seq) = running(
        transaction.connection,
        namespace,
        lease.id,
        Some(lease.token),
    )?
    else {
        return Ok(false);
    };
    transaction
        .connection
        .prepare_cached(
            "INSERT INTO log SELECT ?1, coalesce(max(line), 0) + 1, ?2, ?3, ?4, ?5
             FROM log WHERE seq = ?1",
        )?
        .execute(params![seq, lease.token, now_ms, level, message])?;
    Ok(true)
}

fn running(
    connection: &Connection,
    namespace: &str,
    id: JobId,
    token: Option<i64>,
) -> Outcome<Option<i64>> {
    let Some(namespace) = transaction::namespace(connection, namespace)? else {
        return Ok(None);
    };
    let Some(seq) = place::find(connection, namespace, id)? else {
        return Ok(None);
    };
    let current: Option<i64> = connection
        .prepare_cached("SELECT token FROM running WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    Ok(current
        .filter(|current| token.is_none_or(|token| token == *current))
        .map(|_| seq))
}
