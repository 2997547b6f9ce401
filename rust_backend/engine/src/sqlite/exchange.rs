//! One round trip of the hot path: settle, renew, note starts, claim.

use std::sync::Arc;

use rusqlite::Connection;

use super::claim;
use super::enqueue;
use super::failure::{Failure, Outcome};
use super::lanes::Lanes;
use super::schedules;
use super::schema::timer;
use super::session::Session;
use super::settle;
use super::transaction::Transaction;
use super::upkeep;
use crate::error::EngineError;
use crate::id::JobId;
use crate::model::{ExchangeReply, ExchangeRequest, Lease, Outcome as Report, Start};

/// The most scheduled jobs that one exchange makes ready on its way.
const PROMOTE: usize = 1_000;

/// Refuse what no store could keep.
pub(super) fn validate(request: &ExchangeRequest) -> Result<(), EngineError> {
    for (index, settlement) in request.settlements.iter().enumerate() {
        if let Report::Retry { delay_ms, .. } | Report::Snooze { delay_ms } = &settlement.outcome
            && !(0..enqueue::TIME_LIMIT).contains(delay_ms)
        {
            return Err(EngineError::invalid(
                format!("settlement {index}: delay_ms"),
                format!("{delay_ms} is negative or too large"),
            ));
        }
    }
    Ok(())
}

/// Whether the request writes something by itself, whatever there is to claim.
pub(super) fn writes(request: &ExchangeRequest) -> bool {
    !(request.settlements.is_empty() && request.renewals.is_empty() && request.starts.is_empty())
}

/// The answer to a request that writes nothing by itself, found without the write lock; `None` if
/// there is something to claim.
pub(super) fn without_work(
    connection: &Connection,
    lanes: &Lanes,
    session: &Session,
    request: &ExchangeRequest,
    now_ms: i64,
    steady_ms: i64,
) -> Outcome<Option<ExchangeReply>> {
    let mut next_token_ms = None;
    if request.want > 0 {
        if upkeep::next_timer(connection, timer::PROMOTE)?.is_some_and(|at_ms| at_ms <= now_ms) {
            return Ok(None);
        }
        let paused = paused(connection, session.namespace)?;
        let look = claim::look(connection, lanes, session, request, &paused, steady_ms)?;
        if look.work {
            return Ok(None);
        }
        next_token_ms = look.next_token_ms;
    }
    signals(connection, session, now_ms, next_token_ms).map(Some)
}

/// Do everything that the request asks for, in one transaction.
pub(super) fn run(
    transaction: &mut Transaction<'_>,
    session: &Arc<Session>,
    request: &ExchangeRequest,
    now_ms: i64,
    steady_ms: i64,
) -> Outcome<ExchangeReply> {
    check_worker(transaction.connection, session)?;
    let mut verdicts = Vec::with_capacity(request.settlements.len());
    for settlement in &request.settlements {
        verdicts.push(settle::run(transaction, session, settlement, now_ms)?);
    }
    let lost = renew(transaction, session, &request.renewals, steady_ms)?;
    note_starts(transaction, session, &request.starts, now_ms)?;
    let mut claims = claim::Claims::default();
    if request.want > 0 {
        upkeep::promote(transaction, now_ms, PROMOTE)?;
        let paused = paused(transaction.connection, session.namespace)?;
        claims = claim::run(transaction, session, request, &paused, now_ms, steady_ms)?;
    }
    let mut reply = signals(
        transaction.connection,
        session,
        now_ms,
        claims.next_token_ms,
    )?;
    reply.verdicts = verdicts;
    reply.lost = lost;
    reply.jobs = claims.jobs;
    Ok(reply)
}

/// What every reply tells, whether or not anything was written.
fn signals(
    connection: &Connection,
    session: &Session,
    now_ms: i64,
    next_token_ms: Option<i64>,
) -> Outcome<ExchangeReply> {
    let mut statement = connection.prepare_cached(
        "SELECT job.id FROM cancel_request JOIN job ON job.seq = cancel_request.seq WHERE worker = ?1",
    )?;
    let cancel_requests = statement
        .query_map([session.row], |row| row.get(0).map(JobId))?
        .collect::<Result<_, _>>()?;
    let next_due_ms =
        schedules::next_promotion_or_fire(connection)?.map(|at_ms| (at_ms - now_ms).max(0));
    Ok(ExchangeReply {
        cancel_requests,
        paused: paused(connection, session.namespace)?,
        next_due_ms: next_due_ms.into_iter().chain(next_token_ms).min(),
        ..ExchangeReply::default()
    })
}

/// The paused queues of a namespace, sorted.
pub(super) fn paused(connection: &Connection, namespace: i64) -> Outcome<Vec<String>> {
    let mut statement =
        connection.prepare_cached("SELECT queue FROM pause WHERE namespace = ?1 ORDER BY queue")?;
    let queues = statement
        .query_map([namespace], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(queues)
}

fn check_worker(connection: &Connection, session: &Session) -> Outcome<()> {
    let known: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM worker WHERE row = ?1 AND id = ?2)")?
        .query_row(rusqlite::params![session.row, session.id], |row| row.get(0))?;
    if known {
        Ok(())
    } else {
        Err(Failure::Refused(EngineError::UnknownWorker(
            session.id.clone(),
        )))
    }
}

/// Extend leases; returns those that are over.
fn renew(
    transaction: &Transaction<'_>,
    session: &Session,
    renewals: &[Lease],
    steady_ms: i64,
) -> Outcome<Vec<Lease>> {
    let mut lost = Vec::new();
    for lease in renewals {
        match settle::current(transaction.connection, session, *lease)? {
            Some(seq) => {
                transaction
                    .connection
                    .prepare_cached("UPDATE running SET deadline_ms = ?2 WHERE seq = ?1")?
                    .execute([seq, steady_ms.saturating_add(session.lease_ms)])?;
            }
            None => lost.push(*lease),
        }
    }
    Ok(lost)
}

fn note_starts(
    transaction: &Transaction<'_>,
    session: &Session,
    starts: &[Start],
    now_ms: i64,
) -> Outcome<()> {
    for start in starts {
        if let Some(seq) = settle::current(transaction.connection, session, start.lease)? {
            transaction
                .connection
                .prepare_cached("UPDATE running SET started_ms = ?2 WHERE seq = ?1")?
                .execute([seq, now_ms - start.ago_ms])?;
        }
    }
    Ok(())
}
