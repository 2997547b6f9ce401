//! Choosing the jobs that a worker gets.
//!
//! A claim merges the heads of the lanes that the worker may serve now. Lanes that are empty,
//! paused, or of a task the worker does not know are not looked at, so they cost nothing however
//! many jobs they hold.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rusqlite::Connection;

use super::failure::Outcome;
use super::finish::Ending;
use super::lanes::Lanes;
use super::place::{self, Place};
use super::schema::code;
use super::session::Session;
use super::transaction::Transaction;
use crate::id::JobId;
use crate::model::{ClaimedJob, Lease};

/// The reason of a job that was not started in time.
pub(super) const EXPIRED: &str = "expired";

/// The next jobs of one lane, in order.
struct Head {
    lane: i64,
    fetched: VecDeque<(i64, i64)>,
    last: (i64, i64),
    exhausted: bool,
}

impl Head {
    const fn new(lane: i64) -> Self {
        Self {
            lane,
            fetched: VecDeque::new(),
            last: (i64::MIN, i64::MIN),
            exhausted: false,
        }
    }

    /// The first job that was not popped yet, reading up to `chunk` more where needed.
    fn peek(
        &mut self,
        connection: &Connection,
        chunk: usize,
    ) -> rusqlite::Result<Option<(i64, i64)>> {
        if self.fetched.is_empty() && !self.exhausted {
            let mut statement = connection.prepare_cached(
                "SELECT rank, seq FROM ready WHERE lane = ?1 AND (rank, seq) > (?2, ?3)
                 ORDER BY rank, seq LIMIT ?4",
            )?;
            let limit = i64::try_from(chunk).unwrap_or(i64::MAX);
            let mut rows = statement.query([self.lane, self.last.0, self.last.1, limit])?;
            while let Some(row) = rows.next()? {
                self.fetched.push_back((row.get(0)?, row.get(1)?));
            }
            self.exhausted = self.fetched.len() < chunk;
            if let Some(last) = self.fetched.back() {
                self.last = *last;
            }
        }
        Ok(self.fetched.front().copied())
    }
}

/// The lanes with ready jobs that this worker may claim from now. `entered` are those in which the
/// open transaction has put jobs that are not counted yet.
pub(super) fn open_lanes(
    connection: &Connection,
    lanes: &Lanes,
    entered: &[i64],
    session: &Session,
    paused: &[String],
) -> rusqlite::Result<Vec<i64>> {
    let serves = |lane: i64| {
        lanes.name(lane).is_some_and(|name| {
            name.namespace == session.namespace
                && session.serves(&name.queue)
                && session.knows(&name.task)
                && !paused.contains(&name.queue)
        })
    };
    let mut open = Vec::new();
    let mut statement =
        connection.prepare_cached("SELECT lane FROM count WHERE state = ?1 AND n > 0")?;
    let mut rows = statement.query([code::READY])?;
    while let Some(row) = rows.next()? {
        let lane = row.get(0)?;
        if serves(lane) {
            open.push(lane);
        }
    }
    for lane in entered {
        if serves(*lane) && !open.contains(lane) {
            open.push(*lane);
        }
    }
    Ok(open)
}

/// Claim up to `want` jobs for the worker.
pub(super) fn run(
    transaction: &mut Transaction<'_>,
    session: &Session,
    now_ms: i64,
    steady_ms: i64,
    want: usize,
    paused: &[String],
) -> Outcome<Vec<ClaimedJob>> {
    let connection = transaction.connection;
    transaction.lanes.refresh(connection)?;
    let open = open_lanes(
        connection,
        transaction.lanes,
        &transaction.entered(code::READY),
        session,
        paused,
    )?;
    let chunk = if open.len() == 1 {
        want
    } else {
        (2 * want / open.len().max(1)).clamp(4, want.max(4))
    };
    let mut heads: Vec<Head> = open.into_iter().map(Head::new).collect();
    let mut order = BinaryHeap::new();
    for (index, head) in heads.iter_mut().enumerate() {
        if let Some(first) = head.peek(connection, chunk)? {
            order.push(Reverse((first, index)));
        }
    }
    let mut suspect_running = None;
    let mut claimed = Vec::with_capacity(want.min(1_024));
    while claimed.len() < want {
        let Some(Reverse(((rank, seq), index))) = order.pop() else {
            break;
        };
        let head = &mut heads[index];
        head.fetched.pop_front();
        if let Some(next) = head.peek(connection, chunk)? {
            order.push(Reverse((next, index)));
        }
        let mut candidate = load(transaction, head.lane, rank, seq)?;
        if candidate
            .expires_ms
            .is_some_and(|expires_ms| expires_ms <= now_ms)
        {
            expire(transaction, seq, now_ms)?;
            continue;
        }
        if candidate.job.suspect {
            let occupied = match suspect_running {
                Some(known) => known,
                None => has_suspect(connection, session.row)?,
            };
            suspect_running = Some(true);
            if occupied {
                continue;
            }
        }
        candidate.job.expires_in_ms = candidate.expires_ms.map(|expires_ms| expires_ms - now_ms);
        take(transaction, session, steady_ms, &mut candidate)?;
        claimed.push(candidate.job);
    }
    Ok(claimed)
}

struct Candidate {
    lane: i64,
    rank: i64,
    seq: i64,
    expires_ms: Option<i64>,
    job: ClaimedJob,
}

fn load(transaction: &mut Transaction<'_>, lane: i64, rank: i64, seq: i64) -> Outcome<Candidate> {
    let name = transaction.lane_name(lane)?;
    let candidate = transaction
        .connection
        .prepare_cached(
            "SELECT id, priority, max_retries, timeout_ms, expires_ms, serializer, metadata, payload,
                    detour.due_ms, why, pending, attempt, crashes, suspect, run, started_ms
             FROM job LEFT JOIN detour ON detour.seq = job.seq WHERE job.seq = ?1",
        )?
        .query_row([seq], |row| {
            let carried = place::detour(row, 8)?.unwrap_or_default();
            Ok(Candidate {
                lane,
                rank,
                seq,
                expires_ms: row.get::<_, Option<i64>>(4)?.filter(|_| !carried.has_run()),
                job: ClaimedJob {
                    lease: Lease { id: JobId(row.get(0)?), token: 0 },
                    task: name.task,
                    queue: name.queue,
                    priority: row.get(1)?,
                    max_retries: row.get(2)?,
                    timeout_ms: row.get(3)?,
                    serializer: row.get(5)?,
                    metadata: row.get_ref(6)?.as_blob_or_null()?.map(Into::into),
                    payload: row.get_ref(7)?.as_blob()?.into(),
                    attempt: carried.attempt,
                    suspect: carried.suspect,
                    expires_in_ms: None,
                },
            })
        })?;
    Ok(candidate)
}

fn take(
    transaction: &mut Transaction<'_>,
    session: &Session,
    steady_ms: i64,
    candidate: &mut Candidate,
) -> Outcome<()> {
    let token = transaction.next_token()?;
    candidate.job.lease.token = token;
    let connection = transaction.connection;
    connection
        .prepare_cached("DELETE FROM ready WHERE lane = ?1 AND rank = ?2 AND seq = ?3")?
        .execute([candidate.lane, candidate.rank, candidate.seq])?;
    connection
        .prepare_cached("INSERT INTO running VALUES (?1, ?2, ?3, ?4, NULL, ?5)")?
        .execute([
            candidate.seq,
            token,
            session.row,
            steady_ms.saturating_add(session.lease_ms),
            i64::from(candidate.job.suspect),
        ])?;
    transaction.count(candidate.lane, code::READY, -1);
    transaction.count(candidate.lane, code::RUNNING, 1);
    Ok(())
}

/// Cancel a ready job whose time is over.
fn expire(transaction: &mut Transaction<'_>, seq: i64, now_ms: i64) -> Outcome<()> {
    if let Some(body) = place::body(transaction.connection, seq)? {
        transaction.take_from(&body, &Place::Ready)?;
        transaction.finish(&body, body.carried(), &Ending::cancelled(now_ms, EXPIRED))?;
    }
    Ok(())
}

/// Whether the worker already holds a job that was running beside a crash. Only asked when
/// another one comes up, which is rare, so that the few rows may be scanned.
fn has_suspect(connection: &Connection, worker: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM running WHERE worker = ?1 AND suspect = 1)")?
        .query_row([worker], |row| row.get(0))
}
