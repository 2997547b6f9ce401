//! Stored schedules: what code declares, when each fires next, and the jobs that its fires make.
//!
//! A schedule is *armed* while it is not paused and a registered worker declares it. Only then it has
//! a row in `timer`, so that one whose code is gone costs nothing and makes nothing. A fire and the
//! step to the next one are one transaction: whoever comes second finds the next fire.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::enqueue;
use super::failure::{Failure, Outcome};
use super::schema::timer;
use super::session;
use super::transaction::{self, Transaction};
use crate::error::EngineError;
use crate::id::JobId;
use crate::model::{CatchUp, Fire, NewJob, NewSchedule, Overlap, ScheduleRecord};
use crate::schedule::{self, MOST_MISSED, Schedule};

/// The most fires of one schedule that wait for the end of an earlier job.
const MOST_WAITING: usize = MOST_MISSED;

const fn catch_up_code(catch_up: CatchUp) -> i64 {
    match catch_up {
        CatchUp::Once => 0,
        CatchUp::All => 1,
        CatchUp::None => 2,
    }
}

const fn catch_up_from(code: i64) -> CatchUp {
    match code {
        0 => CatchUp::Once,
        1 => CatchUp::All,
        _ => CatchUp::None,
    }
}

const fn overlap_code(overlap: Overlap) -> i64 {
    match overlap {
        Overlap::Allow => 0,
        Overlap::Skip => 1,
        Overlap::Queue => 2,
    }
}

const fn overlap_from(code: i64) -> Overlap {
    match code {
        0 => Overlap::Allow,
        1 => Overlap::Skip,
        _ => Overlap::Queue,
    }
}

/// Refuse what no store could keep.
pub(super) fn validate(declared: &[NewSchedule]) -> Result<(), EngineError> {
    for (index, one) in declared.iter().enumerate() {
        let fail = |field: &str, problem: &str| {
            Err(EngineError::invalid(
                format!("schedule {index}: {field}"),
                problem.to_owned(),
            ))
        };
        if let Some(problem) = enqueue::name_problem(&one.name) {
            return fail("name", &problem);
        }
        if let Err(error) = Schedule::parse(&one.line, &one.timezone) {
            let text = error.to_string();
            let (field, problem) = text.split_once(": ").unwrap_or(("cron", &text));
            return fail(field, problem);
        }
        if let Err(EngineError::Invalid { field, problem }) =
            enqueue::validate(std::slice::from_ref(&one.job))
        {
            return fail(field.trim_start_matches("item 0: "), &problem);
        }
        let job = &one.job;
        let own = "each fire makes a job of its own; leave it out";
        for (field, is_given) in [
            ("id", job.id.is_some()),
            ("eta_ms", job.eta_ms.is_some()),
            ("expires_at_ms", job.expires_at_ms.is_some()),
            ("idempotency_key", job.idempotency_key.is_some()),
            ("depends_on", !job.depends_on.is_empty()),
            ("workflow", job.workflow.is_some()),
        ] {
            if is_given {
                return fail(field, own);
            }
        }
    }
    Ok(())
}

/// Take over what code declares. Fires count from now where the line is new.
pub(super) fn put(
    transaction: &mut Transaction<'_>,
    namespace: &str,
    declared: &[NewSchedule],
    now_ms: i64,
) -> Outcome<()> {
    let connection = transaction.connection;
    let namespace = transaction::ensure_namespace(connection, namespace)?;
    for one in declared {
        let known: Option<(i64, String, String)> = connection
            .prepare_cached(
                "SELECT id, line, timezone FROM schedule WHERE namespace = ?1 AND name = ?2",
            )?
            .query_row(params![namespace, one.name], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let id = if let Some((id, _, _)) = &known {
            *id
        } else {
            connection
                .prepare_cached(
                    "INSERT INTO schedule VALUES (NULL, ?1, ?2, '', '', 0, 0, 0, NULL, NULL, NULL,
                        NULL, 0, 0, '', '', 0, 0, 0, 0, 0, NULL, NULL, NULL, 0, NULL, '', NULL, x'')",
                )?
                .execute(params![namespace, one.name])?;
            connection.last_insert_rowid()
        };
        write_declared(connection, id, one)?;
        let keeps_time =
            known.is_some_and(|(_, line, timezone)| line == one.line && timezone == one.timezone);
        if !keeps_time {
            let next_ms = Schedule::parse(&one.line, &one.timezone)?.next_after(now_ms);
            set_next(connection, id, next_ms)?;
        }
        arrange(transaction, id)?;
    }
    transaction.ring();
    Ok(())
}

fn write_declared(connection: &Connection, id: i64, one: &NewSchedule) -> Outcome<()> {
    let job = &one.job;
    connection
        .prepare_cached(
            "UPDATE schedule SET line = ?2, timezone = ?3, catch_up = ?4, overlap = ?5, queue = ?6,
                task = ?7, priority = ?8, delay_ms = ?9, max_retries = ?10, max_crashes = ?11,
                timeout_ms = ?12, expires_in_ms = ?13, result_ttl_ms = ?14, unique_key = ?15,
                unique_until_start = ?16, concurrency_key = ?17, serializer = ?18, metadata = ?19,
                payload = ?20
             WHERE id = ?1",
        )?
        .execute(params![
            id,
            one.line,
            one.timezone,
            catch_up_code(one.catch_up),
            overlap_code(one.overlap),
            job.queue,
            job.task,
            job.priority,
            job.delay_ms,
            job.max_retries,
            job.max_crashes,
            job.timeout_ms,
            job.expires_in_ms,
            job.result_ttl_ms,
            job.unique_key,
            job.unique_until_start,
            job.concurrency_key,
            job.serializer,
            job.metadata.as_deref(),
            &job.payload[..],
        ])?;
    Ok(())
}

fn set_next(connection: &Connection, id: i64, next_ms: Option<i64>) -> Outcome<()> {
    connection
        .prepare_cached("UPDATE schedule SET next_ms = ?2 WHERE id = ?1")?
        .execute(params![id, next_ms])?;
    Ok(())
}

/// The number of a schedule.
pub(super) fn find(connection: &Connection, namespace: &str, name: &str) -> Outcome<Option<i64>> {
    let Some(namespace) = transaction::namespace(connection, namespace)? else {
        return Ok(None);
    };
    Ok(numbered(connection, namespace, name)?)
}

fn numbered(connection: &Connection, namespace: i64, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM schedule WHERE namespace = ?1 AND name = ?2")?
        .query_row(params![namespace, name], |row| row.get(0))
        .optional()
}

/// A schedule that is resumed goes on with the next fire; those of the pause are not made good.
pub(super) fn set_paused(
    transaction: &mut Transaction<'_>,
    id: i64,
    paused: bool,
    now_ms: i64,
) -> Outcome<()> {
    let connection = transaction.connection;
    let stored = stored(connection, id)?;
    if stored.paused == paused {
        return Ok(());
    }
    let next_ms = if paused {
        stored.next_ms
    } else {
        Schedule::parse(&stored.line, &stored.timezone)?.next_after(now_ms)
    };
    connection
        .prepare_cached("UPDATE schedule SET paused = ?2 WHERE id = ?1")?
        .execute(params![id, paused])?;
    set_next(connection, id, next_ms)?;
    arrange(transaction, id)?;
    transaction.ring();
    Ok(())
}

/// Forget a schedule; the jobs that it made stay.
pub(super) fn delete(transaction: &mut Transaction<'_>, id: i64) -> Outcome<()> {
    let connection = transaction.connection;
    arm(connection, id, None)?;
    for statement in [
        "DELETE FROM schedule_job WHERE schedule = ?1",
        "DELETE FROM waiting_fire WHERE schedule = ?1",
        "DELETE FROM schedule WHERE id = ?1",
    ] {
        connection.prepare_cached(statement)?.execute([id])?;
    }
    Ok(())
}

/// Make a job now, whatever the schedule would do; `fire_ms` is now.
pub(super) fn trigger(
    transaction: &mut Transaction<'_>,
    id: i64,
    now_ms: i64,
    random: &mut dyn FnMut() -> u64,
) -> Outcome<JobId> {
    let stored = stored(transaction.connection, id)?;
    let made = make(transaction, &stored, now_ms, now_ms, random)?;
    Ok(made.id)
}

/// Every schedule of a namespace, by name.
pub(super) fn list(connection: &Connection, namespace: i64) -> Outcome<Vec<ScheduleRecord>> {
    let declared = declared(connection, namespace)?;
    let mut statement = connection.prepare_cached(
        "SELECT name, line, timezone, catch_up, overlap, task, queue, paused, next_ms, last_ms,
                last_job, fired, skipped,
                (SELECT count(*) FROM waiting_fire WHERE waiting_fire.schedule = schedule.id)
         FROM schedule WHERE namespace = ?1 ORDER BY name",
    )?;
    let records = statement
        .query_map([namespace], |row| {
            let name: String = row.get(0)?;
            Ok(ScheduleRecord {
                declared: declared.contains(&name),
                name,
                line: row.get(1)?,
                timezone: row.get(2)?,
                catch_up: catch_up_from(row.get(3)?),
                overlap: overlap_from(row.get(4)?),
                task: row.get(5)?,
                queue: row.get(6)?,
                paused: row.get(7)?,
                next_ms: row.get(8)?,
                last_ms: row.get(9)?,
                last_job: row.get::<_, Option<[u8; 16]>>(10)?.map(JobId),
                fired: row.get(11)?,
                skipped: row.get(12)?,
                waiting: row.get(13)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(records)
}

/// The fire of which a job's row tells in two columns.
pub(super) fn read_fire(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Fire>> {
    let schedule: Option<String> = row.get(first)?;
    Ok(match schedule {
        Some(schedule) => Some(Fire {
            schedule,
            at_ms: row.get(first + 1)?,
        }),
        None => None,
    })
}

// Arming -----------------------------------------------------------------------------------------

/// The names that registered workers declare.
fn declared(connection: &Connection, namespace: i64) -> Outcome<std::collections::HashSet<String>> {
    let mut statement =
        connection.prepare_cached("SELECT schedules FROM worker WHERE namespace = ?1")?;
    let mut rows = statement.query([namespace])?;
    let mut names = std::collections::HashSet::new();
    while let Some(row) = rows.next()? {
        names.extend(session::split(&row.get::<_, String>(0)?));
    }
    Ok(names)
}

/// The schedules that would fire, if only a registered worker declared them.
pub(super) fn undeclared(connection: &Connection, namespace: i64) -> Outcome<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, paused = 0 AND next_ms IS NOT NULL FROM schedule
         WHERE namespace = ?1 AND armed_ms IS NULL ORDER BY name",
    )?;
    let mut rows = statement.query([namespace])?;
    let mut names = Vec::new();
    while let Some(row) = rows.next()? {
        if row.get(1)? {
            names.push(row.get(0)?);
        }
    }
    Ok(names)
}

/// Forget a worker, and disarm what only it declared.
pub(super) fn forget_worker(transaction: &mut Transaction<'_>, worker: i64) -> Outcome<()> {
    let found: Option<(i64, String)> = transaction
        .connection
        .prepare_cached("SELECT namespace, schedules FROM worker WHERE row = ?1")?
        .query_row([worker], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    transaction
        .connection
        .prepare_cached("DELETE FROM worker WHERE row = ?1")?
        .execute([worker])?;
    let Some((namespace, names)) = found else {
        return Ok(());
    };
    arrange_named(transaction, namespace, &session::split(&names))
}

/// Arm or disarm these schedules, as workers come and go.
pub(super) fn arrange_named(
    transaction: &mut Transaction<'_>,
    namespace: i64,
    names: &[String],
) -> Outcome<()> {
    if names.is_empty() {
        return Ok(());
    }
    let declared = declared(transaction.connection, namespace)?;
    for name in names {
        if let Some(id) = numbered(transaction.connection, namespace, name)? {
            arrange_one(transaction.connection, id, declared.contains(name))?;
        }
    }
    Ok(())
}

fn arrange(transaction: &Transaction<'_>, id: i64) -> Outcome<()> {
    let connection = transaction.connection;
    let (namespace, name): (i64, String) = connection
        .prepare_cached("SELECT namespace, name FROM schedule WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let declared = declared(connection, namespace)?.contains(&name);
    arrange_one(connection, id, declared)
}

fn arrange_one(connection: &Connection, id: i64, declared: bool) -> Outcome<()> {
    let (paused, next_ms): (bool, Option<i64>) = connection
        .prepare_cached("SELECT paused, next_ms FROM schedule WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    arm(connection, id, next_ms.filter(|_| declared && !paused))
}

/// Let a schedule fire at a time, or not at all.
fn arm(connection: &Connection, id: i64, at_ms: Option<i64>) -> Outcome<()> {
    let armed_ms: Option<i64> = connection
        .prepare_cached("SELECT armed_ms FROM schedule WHERE id = ?1")?
        .query_row([id], |row| row.get(0))?;
    if armed_ms == at_ms {
        return Ok(());
    }
    if let Some(armed_ms) = armed_ms {
        connection
            .prepare_cached("DELETE FROM timer WHERE kind = ?1 AND at_ms = ?2 AND seq = ?3")?
            .execute([timer::FIRE, armed_ms, id])?;
    }
    if let Some(at_ms) = at_ms {
        connection
            .prepare_cached("INSERT INTO timer VALUES (?1, ?2, ?3)")?
            .execute([timer::FIRE, at_ms, id])?;
    }
    connection
        .prepare_cached("UPDATE schedule SET armed_ms = ?2 WHERE id = ?1")?
        .execute(params![id, at_ms])?;
    Ok(())
}

// Firing -----------------------------------------------------------------------------------------

/// What firing needs to know of a schedule.
struct Stored {
    id: i64,
    namespace: i64,
    name: String,
    line: String,
    timezone: String,
    catch_up: CatchUp,
    overlap: Overlap,
    paused: bool,
    next_ms: Option<i64>,
    job: NewJob,
}

fn stored(connection: &Connection, id: i64) -> Outcome<Stored> {
    let found = connection
        .prepare_cached(
            "SELECT namespace, name, line, timezone, catch_up, overlap, paused, next_ms, queue, task,
                    priority, delay_ms, max_retries, max_crashes, timeout_ms, expires_in_ms,
                    result_ttl_ms, unique_key, unique_until_start, concurrency_key, serializer,
                    metadata, payload
             FROM schedule WHERE id = ?1",
        )?
        .query_row([id], |row| {
            Ok(Stored {
                id,
                namespace: row.get(0)?,
                name: row.get(1)?,
                line: row.get(2)?,
                timezone: row.get(3)?,
                catch_up: catch_up_from(row.get(4)?),
                overlap: overlap_from(row.get(5)?),
                paused: row.get(6)?,
                next_ms: row.get(7)?,
                job: NewJob {
                    queue: row.get(8)?,
                    task: row.get(9)?,
                    priority: row.get(10)?,
                    delay_ms: row.get(11)?,
                    max_retries: row.get(12)?,
                    max_crashes: row.get(13)?,
                    timeout_ms: row.get(14)?,
                    expires_in_ms: row.get(15)?,
                    result_ttl_ms: row.get(16)?,
                    unique_key: row.get(17)?,
                    unique_until_start: row.get(18)?,
                    concurrency_key: row.get(19)?,
                    serializer: row.get(20)?,
                    metadata: row.get_ref(21)?.as_blob_or_null()?.map(Into::into),
                    payload: row.get_ref(22)?.as_blob()?.into(),
                    eta_ms: None,
                    expires_at_ms: None,
                    idempotency_key: None,
                    id: None,
                    fire: None,
                    depends_on: Vec::new(),
                    workflow: None,
                },
            })
        })?;
    Ok(found)
}

/// Make the jobs of fires whose time has come, at most `budget`; returns how many were made.
pub(super) fn fire(
    transaction: &mut Transaction<'_>,
    now_ms: i64,
    budget: usize,
    random: &mut dyn FnMut() -> u64,
) -> Outcome<usize> {
    let mut left = budget;
    let mut made = 0;
    for id in ready_to_go_on(transaction.connection)? {
        if left == 0 {
            return Ok(made);
        }
        left -= 1;
        made += usize::from(go_on(transaction, id, now_ms, random)?);
    }
    while left > 0 {
        let Some(id) = first_due(transaction.connection, now_ms)? else {
            break;
        };
        let stored = stored(transaction.connection, id)?;
        let Ok(line) = Schedule::parse(&stored.line, &stored.timezone) else {
            // A line or zone of another version must not stop the upkeep of everybody else.
            arm(transaction.connection, id, None)?;
            continue;
        };
        let next_ms = stored.next_ms.unwrap_or(now_ms);
        let due = schedule::due(&line, next_ms, now_ms, stored.catch_up, left);
        left -= due.fires.len().max(1);
        for at_ms in due.fires {
            made += usize::from(fire_one(transaction, &stored, at_ms, now_ms, random)?);
        }
        set_next(transaction.connection, id, due.next_ms)?;
        arm(transaction.connection, id, due.next_ms)?;
    }
    Ok(made)
}

fn first_due(connection: &Connection, now_ms: i64) -> Outcome<Option<i64>> {
    Ok(connection
        .prepare_cached(
            "SELECT seq FROM timer WHERE kind = ?1 AND at_ms <= ?2 ORDER BY at_ms, seq LIMIT 1",
        )?
        .query_row([timer::FIRE, now_ms], |row| row.get(0))
        .optional()?)
}

/// Make the job of a fire, unless an earlier one is in its way; returns whether it was made.
fn fire_one(
    transaction: &mut Transaction<'_>,
    stored: &Stored,
    at_ms: i64,
    now_ms: i64,
    random: &mut dyn FnMut() -> u64,
) -> Outcome<bool> {
    let connection = transaction.connection;
    let in_the_way = match stored.overlap {
        Overlap::Allow => false,
        Overlap::Skip => has_open_job(connection, stored.id)?,
        Overlap::Queue => {
            has_open_job(connection, stored.id)? || waiting(connection, stored.id)? > 0
        }
    };
    if !in_the_way {
        let made = make(transaction, stored, at_ms, now_ms, random)?;
        return Ok(!made.duplicate);
    }
    if stored.overlap == Overlap::Queue && waiting(connection, stored.id)? < MOST_WAITING {
        connection
            .prepare_cached("INSERT OR IGNORE INTO waiting_fire VALUES (?1, ?2)")?
            .execute([stored.id, at_ms])?;
    } else {
        skip(connection, stored.id)?;
    }
    Ok(false)
}

fn skip(connection: &Connection, id: i64) -> Outcome<()> {
    connection
        .prepare_cached("UPDATE schedule SET skipped = skipped + 1 WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

fn make(
    transaction: &mut Transaction<'_>,
    stored: &Stored,
    at_ms: i64,
    now_ms: i64,
    random: &mut dyn FnMut() -> u64,
) -> Outcome<crate::model::Enqueued> {
    let job = NewJob {
        fire: Some(Fire {
            schedule: stored.name.clone(),
            at_ms,
        }),
        ..stored.job.clone()
    };
    let namespace: String = transaction
        .connection
        .prepare_cached("SELECT name FROM namespace WHERE id = ?1")?
        .query_row([stored.namespace], |row| row.get(0))?;
    let answers = enqueue::run(transaction, &namespace, now_ms, random, &[job])?;
    let Some(made) = answers.into_iter().next() else {
        return Err(Failure::Refused(EngineError::invalid(
            "job",
            "it was not stored",
        )));
    };
    let connection = transaction.connection;
    if made.duplicate {
        skip(connection, stored.id)?;
        return Ok(made);
    }
    connection
        .prepare_cached(
            "UPDATE schedule SET last_ms = ?2, last_job = ?3, fired = fired + 1 WHERE id = ?1",
        )?
        .execute(params![stored.id, at_ms, made.id.0])?;
    forget_jobs(connection, stored.id, stored.overlap == Overlap::Allow)?;
    connection
        .prepare_cached("INSERT INTO schedule_job VALUES (?1, ?2)")?
        .execute([stored.id, made.id.sequence()])?;
    transaction.ring();
    Ok(made)
}

/// Forget the jobs of a schedule that have ended, or all of them.
fn forget_jobs(connection: &Connection, id: i64, all: bool) -> Outcome<()> {
    let statement = if all {
        "DELETE FROM schedule_job WHERE schedule = ?1"
    } else {
        "DELETE FROM schedule_job WHERE schedule = ?1
           AND (EXISTS (SELECT 1 FROM done WHERE done.seq = schedule_job.seq)
                OR NOT EXISTS (SELECT 1 FROM job WHERE job.seq = schedule_job.seq))"
    };
    connection.prepare_cached(statement)?.execute([id])?;
    Ok(())
}

/// Whether a job of a schedule has not ended.
fn has_open_job(connection: &Connection, id: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (
                SELECT 1 FROM schedule_job JOIN job ON job.seq = schedule_job.seq
                WHERE schedule_job.schedule = ?1
                  AND NOT EXISTS (SELECT 1 FROM done WHERE done.seq = schedule_job.seq))",
        )?
        .query_row([id], |row| row.get(0))
}

fn waiting(connection: &Connection, id: i64) -> Outcome<usize> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM waiting_fire WHERE schedule = ?1")?
        .query_row([id], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The next time at which a job becomes due or a schedule fires; long ago if a fire has waited for the
/// end of a job and need not any more. One statement, since every exchange asks.
pub(super) fn next_promotion_or_fire(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT min(at_ms) FROM (
                SELECT min(at_ms) AS at_ms FROM timer WHERE kind = ?1
                UNION ALL SELECT min(at_ms) FROM timer WHERE kind = ?2
                UNION ALL SELECT 0 FROM (SELECT DISTINCT schedule AS id FROM waiting_fire) AS waiting
                    JOIN schedule ON schedule.id = waiting.id
                    WHERE armed_ms IS NOT NULL AND NOT EXISTS (
                        SELECT 1 FROM schedule_job JOIN job ON job.seq = schedule_job.seq
                        WHERE schedule_job.schedule = waiting.id AND NOT EXISTS (
                            SELECT 1 FROM done WHERE done.seq = schedule_job.seq)))",
        )?
        .query_row([timer::PROMOTE, timer::FIRE], |row| row.get(0))
}

/// The armed schedules with waiting fires that nothing is in the way of.
fn ready_to_go_on(connection: &Connection) -> Outcome<Vec<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT schedule.id FROM (SELECT DISTINCT schedule AS id FROM waiting_fire) AS waiting
         JOIN schedule ON schedule.id = waiting.id WHERE armed_ms IS NOT NULL ORDER BY schedule.id",
    )?;
    let ids: Vec<i64> = statement
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut ready = Vec::new();
    for id in ids {
        if !has_open_job(connection, id)? {
            ready.push(id);
        }
    }
    Ok(ready)
}

/// Make the job of the fire that has waited longest.
fn go_on(
    transaction: &mut Transaction<'_>,
    id: i64,
    now_ms: i64,
    random: &mut dyn FnMut() -> u64,
) -> Outcome<bool> {
    let connection = transaction.connection;
    let at_ms: i64 = connection
        .prepare_cached("SELECT min(at_ms) FROM waiting_fire WHERE schedule = ?1")?
        .query_row([id], |row| row.get(0))?;
    connection
        .prepare_cached("DELETE FROM waiting_fire WHERE schedule = ?1 AND at_ms = ?2")?
        .execute([id, at_ms])?;
    let stored = stored(connection, id)?;
    Ok(!make(transaction, &stored, at_ms, now_ms, random)?.duplicate)
}
