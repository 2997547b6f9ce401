//! Reading jobs, pages, counts and workers, each from one consistent snapshot.

use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Row};

use super::edges;
use super::failure::{Failure, Outcome};
use super::keyed;
use super::lanes::{Lane, Lanes};
use super::limits::Gates;
use super::place::{self, Body, Place, final_state, rank};
use super::schedules;
use super::schema::code;
use super::session;
use super::settle;
use super::transaction;
use super::workflows;
use crate::error::EngineError;
use crate::id::JobId;
use crate::model::{
    Count, ErrorRecord, JobRecord, LimitedBy, ListRequest, LogRecord, Page, Target, WorkerRecord,
};
use crate::transitions::State;

/// The most jobs that one page looks at.
const PAGE_SCAN: usize = 10_000;

/// How much of a job is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Without payload, result, errors and relatives.
    Summary,
    Whole,
}

/// The whole records of these jobs.
pub(super) fn get(
    connection: &Connection,
    lanes: &Lanes,
    namespace: &str,
    ids: &[JobId],
    steady_ms: i64,
) -> Outcome<Vec<Option<JobRecord>>> {
    let Some(number) = transaction::namespace(connection, namespace)? else {
        return Ok(vec![None; ids.len()]);
    };
    let mut gates = None;
    let mut records = Vec::with_capacity(ids.len());
    for id in ids {
        let seq = place::find(connection, number, *id)?;
        let found = seq.map(|seq| record(connection, lanes, namespace, seq, Depth::Whole));
        let mut found = found.transpose()?.flatten();
        if let Some(job) = found.as_mut().filter(|job| job.state == State::Ready) {
            let gates = match &mut gates {
                Some(gates) => gates,
                None => gates.insert(Gates::load(connection, lanes, number, steady_ms, |_| 0)?),
            };
            job.limited_by = limited_by(connection, gates, number, job)?;
        }
        records.push(found);
    }
    Ok(records)
}

/// The limit that a ready job waits for.
fn limited_by(
    connection: &Connection,
    gates: &Gates,
    namespace: i64,
    job: &JobRecord,
) -> Outcome<Option<LimitedBy>> {
    let lane = Lane {
        namespace,
        queue: job.queue.clone(),
        task: job.task.clone(),
        keyed: job.concurrency_key.is_some(),
    };
    if let Some(key) = &job.concurrency_key
        && !keyed::is_open(connection, &lane, key)?
    {
        return Ok(Some(LimitedBy::Concurrency));
    }
    Ok(gates.closed_by(gates.way(&lane)))
}

/// One page of jobs, newest first.
pub(super) fn list(
    connection: &Connection,
    lanes: &Lanes,
    namespace: &str,
    request: &ListRequest,
) -> Outcome<Page> {
    let Some(number) = transaction::namespace(connection, namespace)? else {
        return Ok(Page {
            jobs: Vec::new(),
            next: None,
        });
    };
    let after = request.after.unwrap_or(i64::MAX);
    let mut statement;
    let mut rows = if let Some(workflow) = &request.workflow {
        statement = connection.prepare_cached(
            "SELECT job.seq, lane FROM member JOIN job ON job.seq = member.seq
             WHERE member.workflow = ?1 AND member.seq < ?2 ORDER BY member.seq DESC",
        )?;
        let id = workflows::find(connection, number, workflow)?;
        statement.query([id.unwrap_or(-1), after])?
    } else {
        statement = connection
            .prepare_cached("SELECT seq, lane FROM job WHERE seq < ?1 ORDER BY seq DESC")?;
        statement.query([after])?
    };
    let mut jobs = Vec::new();
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let (seq, lane): (i64, i64) = (row.get(0)?, row.get(1)?);
        looked_at += 1;
        let wanted = lanes.name(lane).is_some_and(|name| {
            name.is_in(number, request.queue.as_deref(), request.task.as_deref())
        });
        if wanted
            && let Some(job) = record(connection, lanes, namespace, seq, Depth::Summary)?
            && is_wanted(request, &job)
        {
            jobs.push(job);
        }
        if jobs.len() >= request.limit || looked_at >= PAGE_SCAN {
            return Ok(Page {
                jobs,
                next: Some(seq),
            });
        }
    }
    Ok(Page { jobs, next: None })
}

fn is_wanted(request: &ListRequest, job: &JobRecord) -> bool {
    (request.states.is_empty() || request.states.contains(&job.state))
        && (request.whys.is_empty() || job.why.is_none_or(|why| request.whys.contains(&why)))
        && !(request.skip_replayed && job.replayed_as.is_some())
}

/// How many jobs are in each state.
pub(super) fn counts(
    connection: &Connection,
    lanes: &Lanes,
    namespace: &str,
) -> Outcome<Vec<Count>> {
    let Some(number) = transaction::namespace(connection, namespace)? else {
        return Ok(Vec::new());
    };
    let mut statement =
        connection.prepare_cached("SELECT lane, state, n FROM count WHERE n <> 0")?;
    let mut rows = statement.query([])?;
    // Jobs with a concurrency key have lanes of their own.
    let mut sums: HashMap<(&str, &str, i64), i64> = HashMap::new();
    while let Some(row) = rows.next()? {
        let Some(lane) = lanes
            .name(row.get(0)?)
            .filter(|lane| lane.namespace == number)
        else {
            continue;
        };
        let key = (lane.queue.as_str(), lane.task.as_str(), row.get(1)?);
        *sums.entry(key).or_default() += row.get::<_, i64>(2)?;
    }
    let counts = sums.into_iter().map(|((queue, task, state), count)| Count {
        queue: queue.to_owned(),
        task: task.to_owned(),
        state: counted_state(state),
        retrying: state == code::RETRYING,
        count,
    });
    Ok(counts.collect())
}

const fn counted_state(state: i64) -> State {
    match state {
        code::BLOCKED => State::Blocked,
        code::SCHEDULED | code::RETRYING => State::Scheduled,
        code::READY => State::Ready,
        code::RUNNING => State::Running,
        other => final_state(other),
    }
}

/// The registered workers of a namespace, oldest first.
pub(super) fn workers(connection: &Connection, namespace: &str) -> Outcome<Vec<WorkerRecord>> {
    let Some(number) = transaction::namespace(connection, namespace)? else {
        return Ok(Vec::new());
    };
    let mut statement = connection.prepare_cached(
        "SELECT id, pid, host, queues, tasks, started_ms,
                (SELECT count(*) FROM running WHERE running.worker = worker.row)
         FROM worker WHERE namespace = ?1 ORDER BY row",
    )?;
    let workers = statement
        .query_map([number], |row| {
            Ok(WorkerRecord {
                id: row.get(0)?,
                pid: row.get(1)?,
                host: row.get(2)?,
                queues: row
                    .get::<_, Option<String>>(3)?
                    .map(|text| session::split(&text)),
                tasks: session::split(&row.get::<_, String>(4)?),
                started_ms: row.get(5)?,
                running: row.get(6)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(workers)
}

/// The workers that hold claimed jobs of a queue whose start they have not reported, sorted.
pub(super) fn unstarted(
    connection: &Connection,
    lanes: &Lanes,
    namespace: &str,
    queue: &str,
) -> Outcome<Vec<String>> {
    let Some(number) = transaction::namespace(connection, namespace)? else {
        return Ok(Vec::new());
    };
    let mut statement = connection.prepare_cached(
        "SELECT lane, worker.id FROM running
         JOIN job ON job.seq = running.seq JOIN worker ON worker.row = running.worker
         WHERE running.started_ms IS NULL",
    )?;
    let mut rows = statement.query([])?;
    let mut workers = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let lane = lanes.name(row.get(0)?);
        if lane.is_some_and(|lane| lane.is_in(number, Some(queue), None)) {
            workers.insert(row.get(1)?);
        }
    }
    Ok(workers.into_iter().collect())
}

/// The log lines of a job, oldest first.
pub(super) fn logs(connection: &Connection, namespace: &str, id: JobId) -> Outcome<Vec<LogRecord>> {
    let Some(number) = transaction::namespace(connection, namespace)? else {
        return Ok(Vec::new());
    };
    let Some(seq) = place::find(connection, number, id)? else {
        return Ok(Vec::new());
    };
    let mut statement = connection.prepare_cached(
        "SELECT run, at_ms, level, message FROM log WHERE seq = ?1 ORDER BY line",
    )?;
    let lines = statement
        .query_map([seq], |row| {
            Ok(LogRecord {
                run: row.get(0)?,
                at_ms: row.get(1)?,
                level: row.get(2)?,
                message: row.get(3)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(lines)
}

/// Verify the file: its pages, its counts, that each job is in one place, and that what waits for
/// a concurrency key is where a claim looks for it.
pub(super) fn check(connection: &Connection, lanes: &Lanes) -> Outcome<Vec<(String, String)>> {
    let damage: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if damage != "ok" {
        return Err(corrupt(damage));
    }
    let mut counted: HashMap<(i64, i64), i64> = HashMap::new();
    let mut statement = connection.prepare("SELECT seq FROM job")?;
    let mut rows = statement.query([])?;
    let mut jobs = 0;
    while let Some(row) = rows.next()? {
        let Some(body) = place::body(connection, row.get(0)?)? else {
            continue;
        };
        let place = place::locate(connection, &body)?;
        *counted.entry((place.code(), body.lane)).or_default() += 1;
        if let Some(key) = &body.concurrency_key {
            check_keyed(connection, lanes, &body, key, &place)?;
        }
        jobs += 1;
    }
    let mut statement = connection.prepare("SELECT state, lane, n FROM count")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (state, lane, stored): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let found = counted.remove(&(state, lane)).unwrap_or(0);
        if found != stored {
            return Err(corrupt(format!(
                "lane {lane} counts {stored} jobs in state {state}, there are {found}"
            )));
        }
    }
    let journal: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    Ok(vec![
        ("sqlite".to_owned(), rusqlite::version().to_owned()),
        ("schema".to_owned(), super::schema::SCHEMA.to_string()),
        ("journal".to_owned(), journal),
        ("jobs".to_owned(), jobs.to_string()),
        ("integrity".to_owned(), "ok".to_owned()),
    ])
}

fn check_keyed(
    connection: &Connection,
    lanes: &Lanes,
    body: &Body,
    key: &str,
    place: &Place,
) -> Outcome<()> {
    let Some(lane) = lanes.name(body.lane) else {
        return Ok(());
    };
    let wrong = |what: &str| Err(corrupt(format!("job {} {what}", body.id)));
    let running = matches!(place, Place::Running { .. });
    if running != keyed::has_slot(connection, lane, key, body.seq)? {
        return wrong("has a slot without running, or runs without a slot");
    }
    let spot = (rank(body.priority, body.due()), body.seq);
    let leads = keyed::first(connection, body.lane, key)? == Some(spot);
    let wanted = matches!(place, Place::Ready) && leads && keyed::is_open(connection, lane, key)?;
    if wanted != keyed::is_offered(connection, body.lane, spot)? {
        return wrong("is not where a claim finds it, or is there too early");
    }
    Ok(())
}

fn corrupt(detail: String) -> Failure {
    Failure::Refused(EngineError::Corrupt {
        path: "database".into(),
        detail,
    })
}

fn record(
    connection: &Connection,
    lanes: &Lanes,
    namespace: &str,
    seq: i64,
    depth: Depth,
) -> Outcome<Option<JobRecord>> {
    let Some(body) = place::body(connection, seq)? else {
        return Ok(None);
    };
    let Some(lane) = lanes.name(body.lane) else {
        return Ok(None);
    };
    let place = place::locate(connection, &body)?;
    let carried = body.carried();
    let mut has_workflow = false;
    let mut job = connection
        .prepare_cached(
            "SELECT created_ms, max_retries, timeout_ms, expires_ms, original, serializer, metadata,
                    schedule, fire_ms, workflow IS NOT NULL
             FROM job WHERE seq = ?1",
        )?
        .query_row([seq], |row| {
            has_workflow = row.get(9)?;
            Ok(JobRecord {
                id: body.id,
                task: lane.task.clone(),
                queue: lane.queue.clone(),
                namespace: namespace.to_owned(),
                state: place.state(),
                why: if let Place::Scheduled(why) = place {
                    Some(why)
                } else {
                    None
                },
                priority: body.priority,
                attempt: carried.attempt,
                crashes: carried.crashes,
                max_retries: row.get(1)?,
                max_crashes: body.max_crashes,
                timeout_ms: row.get(2)?,
                created_ms: row.get(0)?,
                due_ms: body.due(),
                expires_ms: row.get(3)?,
                started_ms: carried.started_ms,
                finished_ms: None,
                progress: None,
                run: carried.run,
                worker: None,
                unique_key: body.unique_key.clone(),
                concurrency_key: body.concurrency_key.clone(),
                limited_by: None,
                metadata: row.get_ref(6)?.as_blob_or_null()?.map(Into::into),
                serializer: row.get(5)?,
                payload: [].into(),
                result: None,
                result_serializer: None,
                reason: None,
                cancel_requested: false,
                original_id: row.get::<_, Option<[u8; 16]>>(4)?.map(JobId),
                replayed_as: None,
                fire: schedules::read_fire(row, 7)?,
                dependencies: Vec::new(),
                dependents: Vec::new(),
                waits_for: Vec::new(),
                workflow: None,
                errors: Vec::new(),
            })
        })?;
    job.progress = connection
        .prepare_cached("SELECT percent FROM progress WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()?;
    match place {
        Place::Running {
            token,
            worker,
            started_ms,
        } => {
            job.run = token;
            job.started_ms = started_ms.or(job.started_ms);
            read_holder(connection, &mut job, seq, worker)?;
        }
        Place::Done(_) => read_ending(connection, &mut job, seq, depth)?,
        _ => {}
    }
    if has_workflow {
        job.workflow = workflows::name(connection, seq)?;
    }
    if depth == Depth::Whole {
        read_whole(connection, &mut job, seq)?;
    }
    Ok(Some(job))
}

fn read_holder(connection: &Connection, job: &mut JobRecord, seq: i64, worker: i64) -> Outcome<()> {
    job.worker = connection
        .prepare_cached("SELECT id FROM worker WHERE row = ?1")?
        .query_row([worker], |row| row.get(0))
        .optional()?;
    job.cancel_requested = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM cancel_request WHERE worker = ?1 AND seq = ?2)",
        )?
        .query_row([worker, seq], |row| row.get(0))?;
    Ok(())
}

fn read_ending(
    connection: &Connection,
    job: &mut JobRecord,
    seq: i64,
    depth: Depth,
) -> Outcome<()> {
    let mut statement = connection.prepare_cached(
        "SELECT finished_ms, started_ms, token, attempt, crashes, worker, reason, replayed, serializer,
                result
         FROM done WHERE seq = ?1",
    )?;
    let mut rows = statement.query([seq])?;
    if let Some(row) = rows.next()? {
        job.finished_ms = row.get(0)?;
        job.started_ms = row.get(1)?;
        job.run = row.get(2)?;
        job.attempt = row.get(3)?;
        job.crashes = row.get(4)?;
        job.worker = row.get(5)?;
        job.reason = row.get(6)?;
        job.replayed_as = row.get::<_, Option<[u8; 16]>>(7)?.map(JobId);
        job.result_serializer = row.get(8)?;
        if depth == Depth::Whole {
            job.result = row.get::<_, Option<Vec<u8>>>(9)?.map(Into::into);
        }
    }
    Ok(())
}

fn read_whole(connection: &Connection, job: &mut JobRecord, seq: i64) -> Outcome<()> {
    job.payload = connection
        .prepare_cached("SELECT payload FROM job WHERE seq = ?1")?
        .query_row([seq], |row| Ok(row.get_ref(0)?.as_blob()?.into()))?;
    job.waits_for = edges::described(connection, seq)?;
    for dependency in &job.waits_for {
        if let Target::Id(id) = dependency.on {
            job.dependencies.push(id);
        }
    }
    let mut known = HashSet::new();
    job.dependencies.retain(|id| known.insert(*id));
    job.dependents = relatives(
        connection,
        "SELECT job.id FROM edge JOIN job ON job.seq = edge.child WHERE edge.parent = ?1",
        seq,
    )?;
    // The edges of a parent are in the order of the children.
    job.dependents.dedup();
    let mut statement = connection.prepare_cached(
        "SELECT run, attempt, kind, at_ms, worker, detail FROM error WHERE seq = ?1 ORDER BY run",
    )?;
    job.errors = statement
        .query_map([seq], read_error)?
        .collect::<Result<_, _>>()?;
    Ok(())
}

fn relatives(connection: &Connection, sql: &str, seq: i64) -> Outcome<Vec<JobId>> {
    let mut statement = connection.prepare_cached(sql)?;
    let ids = statement
        .query_map([seq], |row| row.get(0).map(JobId))?
        .collect::<Result<_, _>>()?;
    Ok(ids)
}

fn read_error(row: &Row<'_>) -> rusqlite::Result<ErrorRecord> {
    Ok(ErrorRecord {
        run: row.get(0)?,
        attempt: row.get(1)?,
        kind: settle::kind_from(row.get(2)?),
        at_ms: row.get(3)?,
        worker: row.get(4)?,
        detail: row.get_ref(5)?.as_blob()?.into(),
    })
}
