//! Where a job stands, and moving it out of there.

use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Outcome;
use super::keyed;
use super::lanes::Lane;
use super::schema::{code, timer};
use super::transaction::Transaction;
use crate::id::JobId;
use crate::model::{MAX_PRIORITY, Why};
use crate::transitions::State;

/// The order of a ready job within its lane: higher priority first, then by due time.
///
/// Eight bits of priority above 48 bits of milliseconds.
pub(super) const fn rank(priority: i64, due_ms: i64) -> i64 {
    ((MAX_PRIORITY - priority) << 48) | due_ms
}

/// What a job that has left the straight path carries along.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Detour {
    pub(super) due_ms: i64,
    pub(super) why: Option<Why>,
    /// Parents that have not completed.
    pub(super) pending: i64,
    pub(super) attempt: i64,
    pub(super) crashes: i64,
    pub(super) suspect: bool,
    /// Token of the last run.
    pub(super) run: i64,
    /// When the last run started, if it did.
    pub(super) started_ms: Option<i64>,
}

impl Detour {
    /// Whether the job may have been started before: then it can no longer expire.
    pub(super) const fn has_run(&self) -> bool {
        self.attempt > 0
            || self.crashes > 0
            || self.suspect
            || self.started_ms.is_some()
            || matches!(self.why, Some(Why::Retry | Why::Snooze))
    }
}

/// The part of a job's body that moving it needs.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) seq: i64,
    pub(super) id: JobId,
    pub(super) lane: i64,
    pub(super) priority: i64,
    pub(super) created_ms: i64,
    pub(super) due_ms: i64,
    pub(super) delay_ms: i64,
    pub(super) max_crashes: i64,
    pub(super) expires_ms: Option<i64>,
    pub(super) result_ttl_ms: Option<i64>,
    pub(super) unique_key: Option<String>,
    pub(super) unique_until_start: bool,
    pub(super) concurrency_key: Option<String>,
    /// How many of its edges hand it how the parent ended.
    pub(super) inputs: i64,
    /// It has edges on failure.
    pub(super) on_failure: bool,
    pub(super) detour: Option<Detour>,
}

impl Body {
    /// The due time that the caller gave, if any: a job that was due at its enqueue waits for no
    /// time, even if the wall clock is set back later.
    pub(super) fn given_due(&self) -> i64 {
        if self.due_ms > self.created_ms {
            self.due_ms
        } else {
            i64::MIN
        }
    }

    /// The unique key, if it is held only until an attempt is claimed.
    pub(super) fn unique_key_until_start(&self) -> Option<&str> {
        self.unique_key
            .as_deref()
            .filter(|_| self.unique_until_start)
    }

    /// When the job may start.
    pub(super) fn due(&self) -> i64 {
        self.detour.map_or(self.due_ms, |detour| detour.due_ms)
    }

    /// What the job carries, if anything.
    pub(super) fn carried(&self) -> Detour {
        self.detour.unwrap_or(Detour {
            due_ms: self.due_ms,
            ..Detour::default()
        })
    }
}

/// Where a job stands.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Blocked,
    Scheduled(Why),
    Ready,
    Running {
        token: i64,
        worker: i64,
        started_ms: Option<i64>,
    },
    Done(State),
}

impl Place {
    /// The state of a job that stands here.
    pub(super) const fn state(&self) -> State {
        match self {
            Self::Blocked => State::Blocked,
            Self::Scheduled(_) => State::Scheduled,
            Self::Ready => State::Ready,
            Self::Running { .. } => State::Running,
            Self::Done(state) => *state,
        }
    }

    /// The code under which a job that stands here is counted.
    pub(super) const fn code(&self) -> i64 {
        match self {
            Self::Blocked => code::BLOCKED,
            Self::Scheduled(Why::Retry) => code::RETRYING,
            Self::Scheduled(_) => code::SCHEDULED,
            Self::Ready => code::READY,
            Self::Running { .. } => code::RUNNING,
            Self::Done(state) => final_code(*state),
        }
    }
}

/// The code under which a finished job is counted.
pub(super) const fn final_code(state: State) -> i64 {
    match state {
        State::Complete => code::COMPLETE,
        State::Cancelled => code::CANCELLED,
        _ => code::DEAD,
    }
}

/// The finished state with this code.
pub(super) const fn final_state(code: i64) -> State {
    match code {
        code::COMPLETE => State::Complete,
        code::CANCELLED => State::Cancelled,
        _ => State::Dead,
    }
}

pub(super) const fn why_code(why: Option<Why>) -> i64 {
    match why {
        None => 0,
        Some(Why::Delay) => 1,
        Some(Why::Retry) => 2,
        Some(Why::Snooze) => 3,
    }
}

pub(super) const fn why_from(code: i64) -> Option<Why> {
    match code {
        1 => Some(Why::Delay),
        2 => Some(Why::Retry),
        3 => Some(Why::Snooze),
        _ => None,
    }
}

/// Read the moving parts of a job.
pub(super) fn body(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Body>> {
    connection
        .prepare_cached(
            "SELECT job.id, lane, priority, job.due_ms, delay_ms, max_crashes, result_ttl_ms,
                    unique_key, expires_ms, created_ms, concurrency_key, unique_until_start,
                    inputs, on_failure, detour.due_ms, why, pending, attempt, crashes, suspect, run, started_ms
             FROM job LEFT JOIN detour ON detour.seq = job.seq WHERE job.seq = ?1",
        )?
        .query_row([seq], |row| {
            Ok(Body {
                seq,
                id: JobId(row.get(0)?),
                lane: row.get(1)?,
                priority: row.get(2)?,
                due_ms: row.get(3)?,
                delay_ms: row.get(4)?,
                max_crashes: row.get(5)?,
                result_ttl_ms: row.get(6)?,
                unique_key: row.get(7)?,
                expires_ms: row.get(8)?,
                created_ms: row.get(9)?,
                concurrency_key: row.get(10)?,
                unique_until_start: row.get(11)?,
                inputs: row.get(12)?,
                on_failure: row.get(13)?,
                detour: detour(row, 14)?,
            })
        })
        .optional()
}

/// Read the eight columns of a left-joined `detour` row.
pub(super) fn detour(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Option<Detour>> {
    let Some(due_ms) = row.get::<_, Option<i64>>(first)? else {
        return Ok(None);
    };
    Ok(Some(Detour {
        due_ms,
        why: why_from(row.get(first + 1)?),
        pending: row.get(first + 2)?,
        attempt: row.get(first + 3)?,
        crashes: row.get(first + 4)?,
        suspect: row.get(first + 5)?,
        run: row.get(first + 6)?,
        started_ms: row.get(first + 7)?,
    }))
}

/// Find out where a job stands.
pub(super) fn locate(connection: &Connection, body: &Body) -> rusqlite::Result<Place> {
    let finished: Option<i64> = connection
        .prepare_cached("SELECT state FROM done WHERE seq = ?1")?
        .query_row([body.seq], |row| row.get(0))
        .optional()?;
    if let Some(code) = finished {
        return Ok(Place::Done(final_state(code)));
    }
    let running = connection
        .prepare_cached("SELECT token, worker, started_ms FROM running WHERE seq = ?1")?
        .query_row([body.seq], |row| {
            Ok(Place::Running {
                token: row.get(0)?,
                worker: row.get(1)?,
                started_ms: row.get(2)?,
            })
        })
        .optional()?;
    if let Some(place) = running {
        return Ok(place);
    }
    if body.detour.is_some_and(|detour| detour.pending > 0) {
        return Ok(Place::Blocked);
    }
    let waits: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM timer WHERE kind = ?1 AND at_ms = ?2 AND seq = ?3)",
        )?
        .query_row([timer::PROMOTE, body.due(), body.seq], |row| row.get(0))?;
    if waits {
        let why = body
            .detour
            .and_then(|detour| detour.why)
            .unwrap_or(Why::Delay);
        return Ok(Place::Scheduled(why));
    }
    Ok(Place::Ready)
}

/// The row number of a job, if the id belongs to this namespace.
pub(super) fn find(
    connection: &Connection,
    namespace: i64,
    id: JobId,
) -> rusqlite::Result<Option<i64>> {
    let seq = id.sequence();
    let found: Option<([u8; 16], i64)> = connection
        .prepare_cached(
            "SELECT job.id, namespace FROM job JOIN lane ON lane.id = job.lane WHERE seq = ?1",
        )?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if found == Some((id.0, namespace)) {
        return Ok(Some(seq));
    }
    connection
        .prepare_cached("SELECT seq FROM given_id WHERE namespace = ?1 AND id = ?2")?
        .query_row(params![namespace, id.0], |row| row.get(0))
        .optional()
}

impl Transaction<'_> {
    /// Put a job among those that may be claimed.
    pub(super) fn make_ready(&mut self, body: &Body, due_ms: i64) -> Outcome<()> {
        if let Some(key) = &body.concurrency_key {
            keyed::line_up(self, body, key, due_ms)?;
        } else {
            self.connection
                .prepare_cached("INSERT INTO ready VALUES (?1, ?2, ?3)")?
                .execute([body.lane, rank(body.priority, due_ms), body.seq])?;
        }
        self.count(body.lane, code::READY, 1);
        self.ring();
        Ok(())
    }

    /// Put a job that was claimed back among those that may be claimed, where it was before.
    pub(super) fn make_ready_again(&mut self, body: &Body, carried: Detour) -> Outcome<()> {
        self.set_detour(body.seq, &carried)?;
        if let Some(unique_key) = body.unique_key_until_start().filter(|_| !carried.has_run()) {
            self.take_key_again(body, unique_key)?;
        }
        if let Some(expires_ms) = body.expires_ms.filter(|_| !carried.has_run()) {
            // Its time may have come and gone while it was claimed.
            self.set_timer(timer::EXPIRE, expires_ms, body.seq)?;
        }
        self.make_ready(body, carried.due_ms)
    }

    /// Let a job wait until `due_ms`.
    pub(super) fn make_scheduled(
        &mut self,
        seq: i64,
        lane: i64,
        due_ms: i64,
        why: Why,
    ) -> Outcome<()> {
        self.set_timer(timer::PROMOTE, due_ms, seq)?;
        self.count(lane, Place::Scheduled(why).code(), 1);
        // Who sleeps until the next due time must learn that there may be an earlier one.
        self.ring();
        Ok(())
    }

    /// Add a time at which something has to happen to a job.
    pub(super) fn set_timer(&self, kind: i64, at_ms: i64, seq: i64) -> Outcome<()> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO timer VALUES (?1, ?2, ?3)")?
            .execute([kind, at_ms, seq])?;
        Ok(())
    }

    /// Write what the job carries from now on.
    pub(super) fn set_detour(&self, seq: i64, detour: &Detour) -> Outcome<()> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO detour VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                seq,
                detour.due_ms,
                why_code(detour.why),
                detour.pending,
                detour.attempt,
                detour.crashes,
                detour.suspect,
                detour.run,
                detour.started_ms
            ])?;
        Ok(())
    }

    pub(super) fn drop_detour(&self, seq: i64) -> Outcome<()> {
        self.connection
            .prepare_cached("DELETE FROM detour WHERE seq = ?1")?
            .execute([seq])?;
        Ok(())
    }

    /// Take a job that has not started from where it waits; it is nowhere afterwards.
    pub(super) fn take_from(&mut self, body: &Body, place: &Place) -> Outcome<()> {
        match place {
            Place::Scheduled(_) => {
                self.connection
                    .prepare_cached(
                        "DELETE FROM timer WHERE kind = ?1 AND at_ms = ?2 AND seq = ?3",
                    )?
                    .execute([timer::PROMOTE, body.due(), body.seq])?;
            }
            Place::Ready => {
                if let Some(key) = &body.concurrency_key {
                    keyed::leave_line(self.connection, body, key)?;
                } else {
                    self.connection
                        .prepare_cached(
                            "DELETE FROM ready WHERE lane = ?1 AND rank = ?2 AND seq = ?3",
                        )?
                        .execute([body.lane, rank(body.priority, body.due()), body.seq])?;
                }
            }
            Place::Running { worker, .. } => {
                self.connection
                    .prepare_cached("DELETE FROM running WHERE seq = ?1")?
                    .execute([body.seq])?;
                self.connection
                    .prepare_cached("DELETE FROM cancel_request WHERE worker = ?1 AND seq = ?2")?
                    .execute([*worker, body.seq])?;
                if let Some(key) = &body.concurrency_key {
                    keyed::end(self, body, key)?;
                }
            }
            Place::Blocked | Place::Done(_) => {}
        }
        self.count(body.lane, place.code(), -1);
        Ok(())
    }

    /// The name of a lane.
    pub(super) fn lane_name(&mut self, lane: i64) -> Outcome<Lane> {
        if self.lanes.name(lane).is_none() {
            self.lanes.refresh(self.connection)?;
        }
        self.lanes
            .name(lane)
            .cloned()
            .ok_or_else(|| rusqlite::Error::QueryReturnedNoRows.into())
    }
}
