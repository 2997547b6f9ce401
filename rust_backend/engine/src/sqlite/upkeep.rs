//! What time and the death of workers ask for, in bounded steps.

use std::collections::{HashMap, HashSet, VecDeque};

use rusqlite::{Connection, OptionalExtension};

use super::claim::EXPIRED;
use super::dead_letters;
use super::failure::Outcome;
use super::finish::{Ended, Ending};
use super::lanes::Lanes;
use super::limits;
use super::locks;
use super::place::{self, Body, Detour, Place};
use super::schedules;
use super::schema::{code, timer};
use super::session;
use super::settle::{self, Entry};
use super::transaction::Transaction;
use crate::clock::Clock;
use crate::model::{ErrorKind, MaintainReply};
use crate::transitions::State;

/// A worker whose process is gone, and the tokens of the runs that it had started.
#[derive(Debug, Clone)]
pub(super) struct DeadWorker {
    pub(super) row: i64,
    pub(super) id: String,
    pub(super) pid: i64,
    pub(super) started: HashSet<i64>,
}

/// A registered worker, as its row tells.
pub(super) struct Registered {
    pub(super) row: i64,
    pub(super) id: String,
    pub(super) pid: i64,
    pub(super) namespace: i64,
    pub(super) tasks: Vec<String>,
}

/// What a look at the store found to do.
pub(super) struct Findings {
    pub(super) workers: Vec<Registered>,
    pub(super) work: bool,
    pub(super) next_due_ms: Option<i64>,
    pub(super) unknown_tasks: Vec<String>,
    pub(super) undeclared_schedules: Vec<String>,
}

/// Look what there is to do, without the write lock: an idle store is not written to.
pub(super) fn look(
    connection: &Connection,
    lanes: &Lanes,
    namespace: &str,
    now_ms: i64,
    steady_ms: i64,
) -> Outcome<Findings> {
    let workers = registered(connection)?;
    let next_due_ms = next_due(connection, lanes, now_ms, steady_ms, &|_| 0)?;
    let cascade: bool =
        connection.query_row("SELECT EXISTS (SELECT 1 FROM cascade)", [], |row| {
            row.get(0)
        })?;
    let unknown_tasks = match super::transaction::namespace(connection, namespace)? {
        Some(namespace) => unknown_tasks(connection, lanes, namespace, &workers)?,
        None => Vec::new(),
    };
    let undeclared_schedules = match super::transaction::namespace(connection, namespace)? {
        Some(namespace) => schedules::undeclared(connection, namespace)?,
        None => Vec::new(),
    };
    let work = cascade || next_due_ms == Some(0);
    Ok(Findings {
        workers,
        work,
        next_due_ms,
        unknown_tasks,
        undeclared_schedules,
    })
}

/// Do one bounded step.
pub(super) fn run(
    transaction: &mut Transaction<'_>,
    dead: &[DeadWorker],
    clock: &dyn Clock,
    budget: usize,
    random: &mut dyn FnMut() -> u64,
) -> Outcome<MaintainReply> {
    let (now_ms, steady_ms) = (clock.wall_ms(), clock.steady_ms());
    let mut reply = MaintainReply::default();
    for worker in dead {
        reply.rescued += rescue_all(transaction, worker, now_ms)?;
    }
    if !(transaction.after_outage && clock.is_of_host()) {
        reply.rescued += rescue_expired(transaction, now_ms, steady_ms, budget)?;
    }
    reply.promoted = promote(transaction, now_ms, budget)?;
    reply.expired = expire(transaction, now_ms, budget)?;
    reply.pruned = prune(transaction, now_ms, budget)?;
    reply.pruned += dead_letters::prune(transaction, now_ms, budget - reply.pruned)?;
    locks::forget_expired(transaction, steady_ms, budget)?;
    continue_cascades(transaction, now_ms, budget)?;
    reply.fired = schedules::fire(transaction, now_ms, budget, random)?;
    let connection = transaction.connection;
    let uncounted = |namespace| dead_letters::uncounted(transaction, namespace);
    reply.next_due_ms = next_due(connection, transaction.lanes, now_ms, steady_ms, &uncounted)?;
    Ok(reply)
}

/// How long until there is something to do: a timer, or the end of a lease.
fn next_due(
    connection: &Connection,
    lanes: &Lanes,
    now_ms: i64,
    steady_ms: i64,
    uncounted: &dyn Fn(i64) -> i64,
) -> Outcome<Option<i64>> {
    let mut times = vec![schedules::next_promotion_or_fire(connection)?];
    for kind in [timer::EXPIRE, timer::PRUNE] {
        times.push(next_timer(connection, kind)?);
    }
    let next = times
        .into_iter()
        .flatten()
        .min()
        .map(|at_ms| (at_ms - now_ms).max(0));
    // Not a hot statement: once a second at most, over the jobs that are running.
    let deadline: Option<i64> = connection
        .prepare_cached("SELECT min(deadline_ms) FROM running")?
        .query_row([], |row| row.get(0))?;
    let left = deadline.map(|deadline_ms| (deadline_ms - steady_ms).max(0));
    let surplus = dead_letters::next_due(connection, lanes, now_ms, uncounted)?;
    Ok(next.into_iter().chain(left).chain(surplus).min())
}

/// The earliest time of one kind.
pub(super) fn next_timer(connection: &Connection, kind: i64) -> Outcome<Option<i64>> {
    Ok(connection
        .prepare_cached("SELECT at_ms FROM timer WHERE kind = ?1 ORDER BY at_ms LIMIT 1")?
        .query_row([kind], |row| row.get(0))
        .optional()?)
}

/// Make jobs ready whose time has come.
pub(super) fn promote(
    transaction: &mut Transaction<'_>,
    now_ms: i64,
    budget: usize,
) -> Outcome<usize> {
    let due = take_due(transaction.connection, timer::PROMOTE, now_ms, budget)?;
    for (_, seq) in &due {
        let Some(body) = place::body(transaction.connection, *seq)? else {
            continue;
        };
        let why = body
            .detour
            .and_then(|detour| detour.why)
            .unwrap_or(crate::model::Why::Delay);
        transaction.take_from(&body, &Place::Scheduled(why))?;
        let due_ms = body.due();
        transaction.make_ready(&body, due_ms)?;
    }
    // A promoted job cannot have been deleted, so each row was one.
    Ok(due.len())
}

fn expire(transaction: &mut Transaction<'_>, now_ms: i64, budget: usize) -> Outcome<usize> {
    let mut expired = 0;
    for (at_ms, seq) in take_due(transaction.connection, timer::EXPIRE, now_ms, budget)? {
        drop_timer(transaction.connection, timer::EXPIRE, at_ms, seq)?;
        let Some(body) = place::body(transaction.connection, seq)? else {
            continue;
        };
        let place = place::locate(transaction.connection, &body)?;
        if matches!(place, Place::Blocked | Place::Scheduled(_) | Place::Ready)
            && !body.carried().has_run()
        {
            transaction.take_from(&body, &place)?;
            transaction.finish(&body, body.carried(), &Ending::cancelled(now_ms, EXPIRED))?;
            expired += 1;
        }
    }
    Ok(expired)
}

fn prune(transaction: &mut Transaction<'_>, now_ms: i64, budget: usize) -> Outcome<usize> {
    let due = take_due(transaction.connection, timer::PRUNE, now_ms, budget)?;
    let mut pruned = 0;
    for (at_ms, seq) in due {
        drop_timer(transaction.connection, timer::PRUNE, at_ms, seq)?;
        pruned += usize::from(super::control::delete(transaction, seq)?);
    }
    Ok(pruned)
}

fn continue_cascades(transaction: &mut Transaction<'_>, now_ms: i64, budget: usize) -> Outcome<()> {
    let parent: Option<i64> = transaction
        .connection
        .prepare_cached("SELECT parent FROM cascade LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(parent) = parent else { return Ok(()) };
    transaction
        .connection
        .prepare_cached("DELETE FROM cascade WHERE parent = ?1")?
        .execute([parent])?;
    let Some(body) = place::body(transaction.connection, parent)? else {
        return Ok(());
    };
    let state = place::locate(transaction.connection, &body)?.state();
    let mut ended = VecDeque::from([Ended {
        continued: true,
        ..Ended::new(&body, state)
    }]);
    transaction.tell_children(&mut ended, now_ms, budget)
}

/// Take back what a dead worker held, and forget the worker.
fn rescue_all(
    transaction: &mut Transaction<'_>,
    worker: &DeadWorker,
    now_ms: i64,
) -> Outcome<usize> {
    let held = held_by(transaction.connection, worker.row)?;
    let started: Vec<bool> = held
        .iter()
        .map(|job| job.started || worker.started.contains(&job.token))
        .collect();
    let suspects = held
        .iter()
        .zip(&started)
        .filter(|(job, started)| **started && job.suspect)
        .count();
    for (job, started) in held.iter().zip(started) {
        let crash = Crash {
            worker: &worker.id,
            story: format!(
                "the worker process (pid {}) died while this attempt was running",
                worker.pid
            ),
            blame: Blame::of(job, suspects),
        };
        take_back(transaction, job, started.then_some(&crash), now_ms)?;
    }
    schedules::forget_worker(transaction, worker.row)?;
    transaction.ring();
    Ok(held.len())
}

/// Take back jobs whose lease ended although their worker was not seen to die.
fn rescue_expired(
    transaction: &mut Transaction<'_>,
    now_ms: i64,
    steady_ms: i64,
    budget: usize,
) -> Outcome<usize> {
    let over = {
        let mut statement = transaction.connection.prepare_cached(
            "SELECT seq, token, running.started_ms, suspect, worker, coalesce(id, ''), coalesce(pid, 0)
             FROM running LEFT JOIN worker ON worker.row = running.worker
             WHERE deadline_ms <= ?1 LIMIT ?2",
        )?;
        let limit = i64::try_from(budget).unwrap_or(i64::MAX);
        statement
            .query_map([steady_ms, limit], |row| {
                Ok((
                    read_held(row)?,
                    row.get::<_, String>(5)?,
                    row.get::<_, i64>(6)?,
                ))
            })?
            .collect::<Result<Vec<_>, _>>()?
    };
    let mut suspects: HashMap<i64, usize> = HashMap::new();
    for (job, _, _) in over.iter().filter(|(job, _, _)| job.started && job.suspect) {
        *suspects.entry(job.worker).or_default() += 1;
    }
    for (job, worker, pid) in &over {
        let crash = Crash {
            worker,
            story: format!("the lease ended: the worker (pid {pid}) did not renew it in time"),
            blame: Blame::of(job, suspects.get(&job.worker).copied().unwrap_or(0)),
        };
        take_back(transaction, job, job.started.then_some(&crash), now_ms)?;
    }
    Ok(over.len())
}

/// A running job that is going to be taken back.
struct HeldJob {
    seq: i64,
    token: i64,
    started_ms: Option<i64>,
    started: bool,
    suspect: bool,
    worker: i64,
}

struct Crash<'a> {
    worker: &'a str,
    story: String,
    blame: Blame,
}

/// What a crash does to one of the jobs that were running then.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// It was the only suspect: it did it.
    Charged,
    /// Nobody knows which of them did it.
    Suspected,
    /// Another one did it.
    Spared,
}

impl Blame {
    const fn of(job: &HeldJob, suspects: usize) -> Self {
        match (suspects, job.suspect) {
            (1, true) => Self::Charged,
            (1, false) => Self::Spared,
            _ => Self::Suspected,
        }
    }
}

fn held_by(connection: &Connection, worker: i64) -> Outcome<Vec<HeldJob>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, token, started_ms, suspect, worker FROM running WHERE worker = ?1",
    )?;
    let held = statement
        .query_map([worker], read_held)?
        .collect::<Result<_, _>>()?;
    Ok(held)
}

fn read_held(row: &rusqlite::Row<'_>) -> rusqlite::Result<HeldJob> {
    let started_ms: Option<i64> = row.get(2)?;
    Ok(HeldJob {
        seq: row.get(0)?,
        token: row.get(1)?,
        started_ms,
        started: started_ms.is_some(),
        suspect: row.get(3)?,
        worker: row.get(4)?,
    })
}

/// Put a job back where it can be claimed, or end it if it has been charged too often or somebody
/// asked for its cancellation. Without `crash` it never started, and nothing is held against it.
fn take_back(
    transaction: &mut Transaction<'_>,
    job: &HeldJob,
    crash: Option<&Crash<'_>>,
    now_ms: i64,
) -> Outcome<()> {
    let Some(body) = place::body(transaction.connection, job.seq)? else {
        return Ok(());
    };
    let asked: Option<String> = transaction
        .connection
        .prepare_cached("SELECT reason FROM cancel_request WHERE worker = ?1 AND seq = ?2")?
        .query_row([job.worker, job.seq], |row| row.get(0))
        .optional()?;
    let place = Place::Running {
        token: job.token,
        worker: job.worker,
        started_ms: job.started_ms,
    };
    transaction.take_from(&body, &place)?;
    if crash.is_none() && !job.started {
        limits::give_back(transaction, body.lane)?;
    }
    let before = body.carried();
    let mut carried = Detour {
        run: job.token,
        started_ms: job.started_ms.or(before.started_ms),
        ..before
    };
    if let Some(crash) = crash {
        note_crash(transaction, &body, job, crash, carried.attempt, now_ms)?;
        carried.crashes += i64::from(crash.blame == Blame::Charged);
        carried.suspect |= crash.blame != Blame::Spared;
        carried.started_ms.get_or_insert(now_ms);
    }
    if let Some(reason) = asked {
        let ending = ending(job, State::Cancelled, Some(&reason), now_ms);
        return transaction.finish(&body, carried, &ending);
    }
    let charged = crash.is_some_and(|crash| crash.blame == Blame::Charged);
    if charged && carried.crashes >= body.max_crashes {
        return transaction.finish(&body, carried, &ending(job, State::Dead, None, now_ms));
    }
    transaction.make_ready_again(&body, carried)
}

fn note_crash(
    transaction: &Transaction<'_>,
    body: &Body,
    job: &HeldJob,
    crash: &Crash<'_>,
    attempt: i64,
    now_ms: i64,
) -> Outcome<()> {
    // The leading zero tells plain text from an error that a worker encoded.
    let detail = [&[0], crash.story.as_bytes()].concat();
    let entry = Entry {
        run: job.token,
        attempt,
        kind: ErrorKind::Crash,
        at_ms: now_ms,
        worker: crash.worker,
        detail: &detail,
    };
    settle::add_history(transaction, body.seq, &entry)
}

fn note_interruption(
    transaction: &Transaction<'_>,
    job: &HeldJob,
    worker: &str,
    now_ms: i64,
) -> Outcome<()> {
    let carried = place::body(transaction.connection, job.seq)?.map(|body| body.carried());
    let entry = Entry {
        run: job.token,
        attempt: carried.unwrap_or_default().attempt,
        kind: ErrorKind::Interrupted,
        at_ms: now_ms,
        worker,
        detail: &[],
    };
    settle::add_history(transaction, job.seq, &entry)
}

const fn ending<'a>(
    job: &HeldJob,
    state: State,
    reason: Option<&'a str>,
    now_ms: i64,
) -> Ending<'a> {
    Ending {
        state,
        now_ms,
        started_ms: job.started_ms,
        token: job.token,
        worker: None,
        reason,
        result: None,
    }
}

/// Give back all that a worker holds, because it leaves in order.
pub(super) fn release_all(
    transaction: &mut Transaction<'_>,
    worker: i64,
    worker_id: &str,
    now_ms: i64,
) -> Outcome<()> {
    for job in held_by(transaction.connection, worker)? {
        if job.started {
            note_interruption(transaction, &job, worker_id, now_ms)?;
        }
        take_back(transaction, &job, None, now_ms)?;
    }
    schedules::forget_worker(transaction, worker)?;
    Ok(())
}

/// Every registered worker of the file.
pub(super) fn registered(connection: &Connection) -> Outcome<Vec<Registered>> {
    let mut statement =
        connection.prepare_cached("SELECT row, id, pid, namespace, tasks FROM worker")?;
    let workers = statement
        .query_map([], |row| {
            Ok(Registered {
                row: row.get(0)?,
                id: row.get(1)?,
                pid: row.get(2)?,
                namespace: row.get(3)?,
                tasks: session::split(&row.get::<_, String>(4)?),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(workers)
}

/// Tasks with ready jobs that no registered worker knows.
fn unknown_tasks(
    connection: &Connection,
    lanes: &Lanes,
    namespace: i64,
    workers: &[Registered],
) -> Outcome<Vec<String>> {
    let mut statement =
        connection.prepare_cached("SELECT lane FROM count WHERE state = ?1 AND n > 0")?;
    let mut rows = statement.query([code::READY])?;
    let mut unknown = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(lane) = lanes
            .name(row.get(0)?)
            .filter(|lane| lane.namespace == namespace)
        else {
            continue;
        };
        let known = workers
            .iter()
            .any(|worker| worker.namespace == namespace && worker.tasks.contains(&lane.task));
        if !known && !unknown.contains(&lane.task) {
            unknown.push(lane.task.clone());
        }
    }
    unknown.sort();
    Ok(unknown)
}

/// The due rows of one kind, oldest first.
fn take_due(
    connection: &Connection,
    kind: i64,
    now_ms: i64,
    budget: usize,
) -> Outcome<Vec<(i64, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT at_ms, seq FROM timer WHERE kind = ?1 AND at_ms <= ?2 ORDER BY at_ms, seq LIMIT ?3",
    )?;
    let limit = i64::try_from(budget).unwrap_or(i64::MAX);
    let due = statement
        .query_map([kind, now_ms, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(due)
}

fn drop_timer(connection: &Connection, kind: i64, at_ms: i64, seq: i64) -> Outcome<()> {
    connection
        .prepare_cached("DELETE FROM timer WHERE kind = ?1 AND at_ms = ?2 AND seq = ?3")?
        .execute([kind, at_ms, seq])?;
    Ok(())
}
