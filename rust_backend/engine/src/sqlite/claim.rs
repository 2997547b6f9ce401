//! Choosing the jobs that a worker gets.
//!
//! A claim merges the heads of the lanes that the worker may serve now. Lanes that are empty,
//! paused, or of a task the worker does not know are not looked at, so they cost nothing however
//! many jobs they hold.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::ops::ControlFlow;

use rusqlite::Connection;

use super::edges;
use super::failure::Outcome;
use super::finish::Ending;
use super::keyed;
use super::lanes::Lanes;
use super::limits::{Gates, Way};
use super::place::{self, Place};
use super::schedules;
use super::schema::code;
use super::session::Session;
use super::transaction::Transaction;
use crate::id::JobId;
use crate::model::{ClaimedJob, ExchangeRequest, Lease};

/// The reason of a job that was not started in time.
pub(super) const EXPIRED: &str = "expired";

/// The next jobs of one lane, in order.
struct Head {
    lane: i64,
    /// A claim from it changes what may be claimed next, so that nothing is read ahead.
    keyed: bool,
    fetched: VecDeque<(i64, i64)>,
    last: (i64, i64),
    exhausted: bool,
}

impl Head {
    const fn new(lane: i64, keyed: bool) -> Self {
        Self {
            lane,
            keyed,
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
        let chunk = if self.keyed { 1 } else { chunk };
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
            self.exhausted = !self.keyed && self.fetched.len() < chunk;
            if let Some(last) = self.fetched.back() {
                self.last = *last;
            }
        }
        Ok(self.fetched.front().copied())
    }
}

/// The lanes with ready jobs of tasks and queues that this worker serves. `entered` are those in
/// which the open transaction has put jobs that are not counted yet.
fn served_lanes(
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
    let mut found = Vec::new();
    let mut statement =
        connection.prepare_cached("SELECT lane FROM count WHERE state = ?1 AND n > 0")?;
    let mut rows = statement.query([code::READY])?;
    while let Some(row) = rows.next()? {
        let lane = row.get(0)?;
        if serves(lane) {
            found.push(lane);
        }
    }
    for lane in entered {
        if serves(*lane) && !found.contains(lane) {
            found.push(*lane);
        }
    }
    Ok(found)
}

/// The tasks that a request wants jobs of.
///
/// Lanes of other tasks are still looked at for the time at which a rate lets the worker have their
/// next job: nobody else would tell it.
struct Asked<'a>(Option<HashSet<&'a str>>);

impl<'a> Asked<'a> {
    fn new(request: &'a ExchangeRequest) -> Self {
        let tasks = request.tasks.as_deref();
        Self(tasks.map(|tasks| tasks.iter().map(String::as_str).collect()))
    }

    fn includes(&self, task: &str) -> bool {
        self.0.as_ref().is_none_or(|tasks| tasks.contains(task))
    }
}

/// What a look finds without the write lock.
pub(super) struct Look {
    /// There may be something to claim.
    pub(super) work: bool,
    pub(super) next_token_ms: Option<i64>,
}

/// Whether a worker could claim anything that it asks for now.
pub(super) fn look(
    connection: &Connection,
    lanes: &Lanes,
    session: &Session,
    request: &ExchangeRequest,
    paused: &[String],
    steady_ms: i64,
) -> Outcome<Look> {
    let asked = Asked::new(request);
    let served = served_lanes(connection, lanes, &[], session, paused)?;
    let mut look = Look {
        work: false,
        next_token_ms: None,
    };
    if served.is_empty() {
        return Ok(look);
    }
    let gates = Gates::load(connection, lanes, session.namespace, steady_ms, |_| 0)?;
    for lane in served {
        let Some(name) = lanes.name(lane) else {
            continue;
        };
        let way = gates.way(name);
        if gates.closed_by(way).is_some() {
            look.next_token_ms = earlier(look.next_token_ms, gates.wait_ms(way));
        } else if asked.includes(&name.task)
            && Head::new(lane, name.keyed).peek(connection, 1)?.is_some()
        {
            look.work = true;
        }
    }
    Ok(look)
}

fn earlier(left: Option<i64>, right: Option<i64>) -> Option<i64> {
    left.into_iter().chain(right).min()
}

/// What a claim came to.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) jobs: Vec<ClaimedJob>,
    /// How long until a rate lets another one start.
    pub(super) next_token_ms: Option<i64>,
}

/// Claim up to `want` jobs for the worker.
pub(super) fn run(
    transaction: &mut Transaction<'_>,
    session: &Session,
    request: &ExchangeRequest,
    paused: &[String],
    now_ms: i64,
    steady_ms: i64,
) -> Outcome<Claims> {
    let connection = transaction.connection;
    transaction.lanes.refresh(connection)?;
    let entered = transaction.entered(code::READY);
    let served = served_lanes(connection, transaction.lanes, &entered, session, paused)?;
    if served.is_empty() {
        return Ok(Claims::default());
    }
    let gates = Gates::load(
        connection,
        transaction.lanes,
        session.namespace,
        steady_ms,
        |lane| transaction.uncounted(lane, code::RUNNING),
    )?;
    let mut claim = Claim {
        transaction,
        session,
        gates,
        now_ms,
        steady_ms,
        want: request.want,
        idle: request.idle.unwrap_or(request.want),
        suspect_running: None,
        claimed: Vec::with_capacity(request.want.min(1_024)),
    };
    let ways = claim.merge(served, &Asked::new(request))?;
    let waits = ways.into_iter().filter_map(|way| claim.gates.wait_ms(way));
    let next_token_ms = waits.min();
    claim.gates.save(connection, session.namespace)?;
    Ok(Claims {
        jobs: claim.claimed,
        next_token_ms,
    })
}

/// One claim on its way through the heads of the lanes.
struct Claim<'a, 'b> {
    transaction: &'a mut Transaction<'b>,
    session: &'a Session,
    gates: Gates,
    now_ms: i64,
    steady_ms: i64,
    want: usize,
    /// Executors that wait for work: a job under a limit is claimed for one of them only.
    idle: usize,
    suspect_running: Option<bool>,
    claimed: Vec<ClaimedJob>,
}

impl Claim<'_, '_> {
    /// Take the first jobs of all open lanes that are asked for in their common order; returns the ways to all lanes.
    fn merge(&mut self, served: Vec<i64>, asked: &Asked<'_>) -> Outcome<Vec<Way>> {
        let connection = self.transaction.connection;
        let mut heads = Vec::with_capacity(served.len());
        let mut ways = Vec::with_capacity(served.len());
        for lane in served {
            let Some(name) = self.transaction.lanes.name(lane) else {
                continue;
            };
            let way = self.gates.way(name);
            ways.push(way);
            if asked.includes(&name.task) && self.gates.closed_by(way).is_none() {
                heads.push((Head::new(lane, name.keyed), way));
            }
        }
        let chunk = if heads.len() == 1 {
            self.want
        } else {
            (2 * self.want / heads.len().max(1)).clamp(4, self.want.max(4))
        };
        let mut order = BinaryHeap::new();
        for (index, (head, _)) in heads.iter_mut().enumerate() {
            if let Some(first) = head.peek(connection, chunk)? {
                order.push(Reverse((first, index)));
            }
        }
        while self.claimed.len() < self.want {
            let Some(Reverse((spot, index))) = order.pop() else {
                break;
            };
            let (head, way) = &mut heads[index];
            if self.gates.closed_by(*way).is_some() {
                continue;
            }
            head.fetched.pop_front();
            if self.consider(head.lane, head.keyed, spot, *way)?.is_break() {
                break;
            }
            if let Some(next) = head.peek(connection, chunk)? {
                order.push(Reverse((next, index)));
            }
        }
        Ok(ways)
    }

    /// Claim one job unless something about itself forbids it. Breaks if it has to wait for a free
    /// executor: nothing that stands behind it may overtake it into the buffer, or there would never
    /// be one.
    fn consider(
        &mut self,
        lane: i64,
        keyed: bool,
        (rank, seq): (i64, i64),
        way: Way,
    ) -> Outcome<ControlFlow<()>> {
        if keyed && !keyed::is_offered(self.transaction.connection, lane, (rank, seq))? {
            // Another job of its key has just been claimed from another queue.
            return Ok(ControlFlow::Continue(()));
        }
        let mut candidate = load(self.transaction, lane, rank, seq)?;
        if candidate
            .expires_ms
            .is_some_and(|expires_ms| expires_ms <= self.now_ms)
        {
            expire(self.transaction, seq, self.now_ms)?;
            return Ok(ControlFlow::Continue(()));
        }
        if candidate.job.suspect {
            let occupied = match self.suspect_running {
                Some(known) => known,
                None => has_suspect(self.transaction.connection, self.session.row)?,
            };
            if occupied {
                self.suspect_running = Some(true);
                return Ok(ControlFlow::Continue(()));
            }
        }
        if way.is_limited() && self.claimed.len() >= self.idle {
            return Ok(ControlFlow::Break(()));
        }
        if candidate.job.suspect {
            self.suspect_running = Some(true);
        }
        candidate.job.expires_in_ms = candidate
            .expires_ms
            .map(|expires_ms| expires_ms - self.now_ms);
        take(
            self.transaction,
            self.session,
            self.steady_ms,
            &mut candidate,
        )?;
        self.gates.take(way);
        if candidate.inputs > 0 {
            candidate.job.inputs = edges::inputs(self.transaction.connection, seq)?;
        }
        self.claimed.push(candidate.job);
        Ok(ControlFlow::Continue(()))
    }
}

struct Candidate {
    lane: i64,
    rank: i64,
    seq: i64,
    expires_ms: Option<i64>,
    concurrency_key: Option<String>,
    /// The unique key that ends with this claim.
    freed_key: Option<String>,
    inputs: i64,
    job: ClaimedJob,
}

fn load(transaction: &mut Transaction<'_>, lane: i64, rank: i64, seq: i64) -> Outcome<Candidate> {
    let name = transaction.lane_name(lane)?;
    let candidate = transaction
        .connection
        .prepare_cached(
            "SELECT id, priority, max_retries, timeout_ms, expires_ms, serializer, metadata, payload,
                    concurrency_key, iif(unique_until_start, unique_key, NULL), schedule, fire_ms,
                    inputs, detour.due_ms, why, pending, attempt, crashes, suspect, run, started_ms
             FROM job LEFT JOIN detour ON detour.seq = job.seq WHERE job.seq = ?1",
        )?
        .query_row([seq], |row| {
            let carried = place::detour(row, 13)?.unwrap_or_default();
            Ok(Candidate {
                lane,
                rank,
                seq,
                expires_ms: row.get::<_, Option<i64>>(4)?.filter(|_| !carried.has_run()),
                concurrency_key: row.get(8)?,
                freed_key: row.get(9)?,
                inputs: row.get(12)?,
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
                    fire: schedules::read_fire(row, 10)?,
                    inputs: Vec::new(),
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
    if let Some(key) = &candidate.concurrency_key {
        let spot = (candidate.rank, candidate.seq);
        keyed::start(transaction, candidate.lane, key, spot)?;
    } else {
        transaction
            .connection
            .prepare_cached("DELETE FROM ready WHERE lane = ?1 AND rank = ?2 AND seq = ?3")?
            .execute([candidate.lane, candidate.rank, candidate.seq])?;
    }
    if let Some(unique_key) = &candidate.freed_key {
        transaction.free_key(candidate.lane, candidate.seq, unique_key)?;
    }
    let connection = transaction.connection;
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
