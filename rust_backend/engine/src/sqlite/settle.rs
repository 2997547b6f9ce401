//! Ending an attempt: accepted only with the lease that is current.

use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Outcome;
use super::finish::Ending;
use super::limits;
use super::place::{self, Body, Detour, Place};
use super::session::Session;
use super::transaction::Transaction;
use crate::model::{Bytes, ErrorKind, Lease, Outcome as Report, Settlement, Verdict, Why};
use crate::transitions::State;

/// A running job whose lease was found to be current.
struct Held {
    body: Body,
    place: Place,
    carried: Detour,
    started_ms: Option<i64>,
    token: i64,
}

impl Held {
    /// The same after an attempt that ended so: failures and timeouts use an attempt, the death of a
    /// child process counts as a crash.
    fn charged(mut self, kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Failure | ErrorKind::Timeout => self.carried.attempt += 1,
            ErrorKind::Crash => self.carried.crashes += 1,
            ErrorKind::Rejected | ErrorKind::Interrupted => {}
        }
        self
    }
}

/// An entry of a job's history.
pub(super) struct Entry<'a> {
    pub(super) run: i64,
    pub(super) attempt: i64,
    pub(super) kind: ErrorKind,
    pub(super) at_ms: i64,
    pub(super) worker: &'a str,
    pub(super) detail: &'a [u8],
}

/// Store how an attempt ended, with all that follows from it.
pub(super) fn run(
    transaction: &mut Transaction<'_>,
    session: &Session,
    settlement: &Settlement,
    now_ms: i64,
) -> Outcome<Verdict> {
    let Some(seq) = current(transaction.connection, session, settlement.lease)? else {
        let known = place::find(
            transaction.connection,
            session.namespace,
            settlement.lease.id,
        )?;
        return Ok(if known.is_some() {
            Verdict::Stale
        } else {
            Verdict::Gone
        });
    };
    let Some(body) = place::body(transaction.connection, seq)? else {
        return Ok(Verdict::Gone);
    };
    let place = place::locate(transaction.connection, &body)?;
    let Place::Running { started_ms, .. } = place else {
        return Ok(Verdict::Stale);
    };
    let started_ms = settlement
        .started_ago_ms
        .map(|ago| now_ms - ago)
        .or(started_ms);
    if started_ms.is_none() {
        limits::give_back(transaction, body.lane)?;
    }
    let before = body.carried();
    let carried = Detour {
        run: settlement.lease.token,
        // A run that never started does not undo that an earlier one did.
        started_ms: started_ms.or(before.started_ms),
        ..before
    };
    let held = Held {
        body,
        place,
        carried,
        started_ms,
        token: settlement.lease.token,
    };
    apply(transaction, session, held, &settlement.outcome, now_ms)?;
    Ok(Verdict::Ok)
}

/// The row number of the job, if this worker holds it under this token.
pub(super) fn current(
    connection: &Connection,
    session: &Session,
    lease: Lease,
) -> Outcome<Option<i64>> {
    let holds = |seq: i64| -> rusqlite::Result<bool> {
        let found: Option<(i64, i64)> = connection
            .prepare_cached("SELECT token, worker FROM running WHERE seq = ?1")?
            .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(found == Some((lease.token, session.row)))
    };
    // A token is given out once in the life of a file, so it settles whose job this is; the id
    // only says where to look, unless a caller chose it.
    let seq = lease.id.sequence();
    if holds(seq)? {
        return Ok(Some(seq));
    }
    match place::find(connection, session.namespace, lease.id)? {
        Some(given) if given != seq && holds(given)? => Ok(Some(given)),
        _ => Ok(None),
    }
}

fn apply(
    transaction: &mut Transaction<'_>,
    session: &Session,
    held: Held,
    report: &Report,
    now_ms: i64,
) -> Outcome<()> {
    let goes_on = matches!(
        report,
        Report::Retry { .. } | Report::Snooze { .. } | Report::Release { .. }
    );
    let cancelled = if goes_on {
        cancel_reason(transaction.connection, session, held.body.seq)?
    } else {
        None
    };
    write_history(transaction, session, &held, report, now_ms)?;
    transaction.take_from(&held.body, &held.place)?;
    let held = match report {
        Report::Retry { kind, .. } | Report::Dead { kind, .. } => held.charged(*kind),
        _ => held,
    };
    if let Some(reason) = cancelled {
        return end(
            transaction,
            session,
            &held,
            State::Cancelled,
            Some(&reason),
            None,
            now_ms,
        );
    }
    match report {
        Report::Success { result, serializer } => end(
            transaction,
            session,
            &held,
            State::Complete,
            None,
            Some((result, serializer)),
            now_ms,
        ),
        Report::Dead { .. } => end(transaction, session, &held, State::Dead, None, None, now_ms),
        Report::Cancelled { reason } => end(
            transaction,
            session,
            &held,
            State::Cancelled,
            Some(reason),
            None,
            now_ms,
        ),
        Report::Retry { kind, delay_ms, .. } => {
            if *kind == ErrorKind::Crash && held.carried.crashes >= held.body.max_crashes {
                return end(transaction, session, &held, State::Dead, None, None, now_ms);
            }
            wait(
                transaction,
                &held,
                held.carried,
                Why::Retry,
                now_ms,
                *delay_ms,
            )
        }
        Report::Snooze { delay_ms } => wait(
            transaction,
            &held,
            held.carried,
            Why::Snooze,
            now_ms,
            *delay_ms,
        ),
        Report::Release { .. } => transaction.make_ready_again(&held.body, held.carried),
    }
}

/// The attempt ended without harm to its worker, so whatever it was suspected of is forgotten.
fn wait(
    transaction: &mut Transaction<'_>,
    held: &Held,
    carried: Detour,
    why: Why,
    now_ms: i64,
    delay_ms: i64,
) -> Outcome<()> {
    let due_ms = now_ms.saturating_add(delay_ms.max(0));
    let detour = Detour {
        due_ms,
        why: Some(why),
        pending: 0,
        suspect: false,
        ..carried
    };
    transaction.set_detour(held.body.seq, &detour)?;
    transaction.make_scheduled(held.body.seq, held.body.lane, due_ms, why)
}

fn end(
    transaction: &mut Transaction<'_>,
    session: &Session,
    held: &Held,
    state: State,
    reason: Option<&str>,
    result: Option<(&Bytes, &str)>,
    now_ms: i64,
) -> Outcome<()> {
    let ending = Ending {
        state,
        now_ms,
        started_ms: held.started_ms,
        token: held.token,
        worker: Some(&session.id),
        reason,
        result,
    };
    transaction.finish(&held.body, held.carried, &ending)
}

fn cancel_reason(connection: &Connection, session: &Session, seq: i64) -> Outcome<Option<String>> {
    Ok(connection
        .prepare_cached("SELECT reason FROM cancel_request WHERE worker = ?1 AND seq = ?2")?
        .query_row([session.row, seq], |row| row.get(0))
        .optional()?)
}

fn write_history(
    transaction: &Transaction<'_>,
    session: &Session,
    held: &Held,
    report: &Report,
    now_ms: i64,
) -> Outcome<()> {
    let (kind, detail): (ErrorKind, &[u8]) = match report {
        Report::Retry { kind, error, .. } | Report::Dead { kind, error } => (*kind, error),
        Report::Release { interrupted: true } => (ErrorKind::Interrupted, &[]),
        _ => return Ok(()),
    };
    let entry = Entry {
        run: held.token,
        attempt: held.carried.attempt,
        kind,
        at_ms: now_ms,
        worker: &session.id,
        detail,
    };
    add_history(transaction, held.body.seq, &entry)
}

/// Add an entry to a job's history; one per run.
pub(super) fn add_history(
    transaction: &Transaction<'_>,
    seq: i64,
    entry: &Entry<'_>,
) -> Outcome<()> {
    transaction
        .connection
        .prepare_cached("INSERT OR REPLACE INTO error VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
            seq,
            entry.run,
            entry.attempt,
            kind_code(entry.kind),
            entry.at_ms,
            entry.worker,
            entry.detail
        ])?;
    Ok(())
}

const fn kind_code(kind: ErrorKind) -> i64 {
    match kind {
        ErrorKind::Failure => 0,
        ErrorKind::Timeout => 1,
        ErrorKind::Crash => 2,
        ErrorKind::Rejected => 3,
        ErrorKind::Interrupted => 4,
    }
}

/// The kind with this code.
pub(super) const fn kind_from(code: i64) -> ErrorKind {
    match code {
        1 => ErrorKind::Timeout,
        2 => ErrorKind::Crash,
        3 => ErrorKind::Rejected,
        4 => ErrorKind::Interrupted,
        _ => ErrorKind::Failure,
    }
}
