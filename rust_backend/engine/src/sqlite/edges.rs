//! What a job waits for: its edges, and what the end of a parent does to them.
//!
//! An edge is open until its parent has ended; `detour.pending` of the child counts the open ones.
//! An edge on success whose parent ended otherwise cancels the child at once. Edges on failure
//! count together: when nothing is open any more, at least one of them must have seen a failure.

use std::collections::VecDeque;

use rusqlite::{Connection, params};

use super::dead_letters;
use super::failure::Outcome;
use super::finish::{Ended, Ending, blame};
use super::place::{self, Body, Detour, final_code, final_state};
use super::schema::{code, condition, timer};
use super::transaction::Transaction;
use crate::id::JobId;
use crate::model::{Condition, Dependency, Input, Target, Why};
use crate::transitions::State;

/// Why a job was cancelled that was to run after a failure only.
pub(super) const SKIPPED: &str = "skipped: nothing has failed that it was to follow";

/// An edge as seen from the child.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) parent: i64,
    pub(super) condition: Condition,
    pub(super) input: bool,
}

/// What the states of its parents make of a new job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing to wait for.
    Free,
    /// For so many open edges.
    Waits(i64),
    /// The parent at this position has ended in a way that rules it out.
    Lost(usize),
    /// It was to follow a failure, and all went well.
    Skipped,
}

impl Fate {
    /// Decide from the conditions and the states of the parents.
    pub(super) fn of(edges: impl Iterator<Item = (Condition, State)>) -> Self {
        let (mut pending, mut on_failure, mut failed) = (0, false, false);
        for (position, (condition, state)) in edges.enumerate() {
            let has_failed = state.is_final() && state != State::Complete;
            if condition == Condition::Success && has_failed {
                return Self::Lost(position);
            }
            on_failure |= condition == Condition::Failure;
            failed |= condition == Condition::Failure && has_failed;
            pending += i64::from(!state.is_final());
        }
        match pending {
            0 if on_failure && !failed => Self::Skipped,
            0 => Self::Free,
            open => Self::Waits(open),
        }
    }

    /// Whether the job ends as soon as it is stored.
    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::Lost(_) | Self::Skipped)
    }
}

pub(super) const fn condition_code(of: Condition) -> i64 {
    match of {
        Condition::Success => condition::SUCCESS,
        Condition::Failure => condition::FAILURE,
        Condition::Always => condition::ALWAYS,
    }
}

pub(super) const fn condition_from(code: i64) -> Condition {
    match code {
        condition::FAILURE => Condition::Failure,
        condition::ALWAYS => Condition::Always,
        _ => Condition::Success,
    }
}

/// How many of these edges are inputs, and whether one is on failure.
pub(super) fn needs(edges: &[Edge]) -> (i64, bool) {
    let inputs = edges.iter().filter(|edge| edge.input).count();
    let on_failure = edges
        .iter()
        .any(|edge| edge.condition == Condition::Failure);
    (i64::try_from(inputs).unwrap_or(i64::MAX), on_failure)
}

/// The reason of a job that an ended parent rules out.
pub(super) fn blame_parent(connection: &Connection, parent: i64) -> Outcome<String> {
    let Some(body) = place::body(connection, parent)? else {
        return Ok(String::new());
    };
    let state = place::locate(connection, &body)?.state();
    Ok(blame(&Ended::new(&body, state)))
}

/// Write the edges of a new job.
pub(super) fn insert(connection: &Connection, child: i64, edges: &[Edge]) -> Outcome<()> {
    let mut statement =
        connection.prepare_cached("INSERT INTO edge VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (slot, edge) in edges.iter().enumerate() {
        statement.execute(params![
            edge.parent,
            child,
            i64::try_from(slot).unwrap_or(i64::MAX),
            condition_code(edge.condition),
            edge.input
        ])?;
    }
    Ok(())
}

/// The edges of a job whose parents are still stored, in their order.
pub(super) fn of_child(connection: &Connection, child: i64) -> Outcome<Vec<Edge>> {
    let mut statement = connection.prepare_cached(
        "SELECT parent, condition, input FROM edge WHERE child = ?1 ORDER BY slot",
    )?;
    let edges = statement
        .query_map([child], |row| {
            Ok(Edge {
                parent: row.get(0)?,
                condition: condition_from(row.get(1)?),
                input: row.get(2)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(edges)
}

/// The same for readers, by id.
pub(super) fn described(connection: &Connection, child: i64) -> Outcome<Vec<Dependency>> {
    let mut statement = connection.prepare_cached(
        "SELECT job.id, condition, input FROM edge JOIN job ON job.seq = edge.parent
         WHERE edge.child = ?1 ORDER BY slot",
    )?;
    let edges = statement
        .query_map([child], |row| {
            Ok(Dependency {
                on: Target::Id(JobId(row.get(0)?)),
                condition: condition_from(row.get(1)?),
                input: row.get(2)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(edges)
}

/// How the parents ended whose results a job takes.
pub(super) fn inputs(connection: &Connection, child: i64) -> Outcome<Vec<Input>> {
    let mut statement = connection.prepare_cached(
        "SELECT job.id, state, done.serializer, result, reason,
                CASE WHEN state = ?2 THEN
                    (SELECT detail FROM error WHERE seq = edge.parent ORDER BY run DESC LIMIT 1) END
         FROM edge JOIN job ON job.seq = edge.parent JOIN done ON done.seq = edge.parent
         WHERE edge.child = ?1 AND edge.input = 1 ORDER BY slot",
    )?;
    let inputs = statement
        .query_map([child, code::DEAD], |row| {
            Ok(Input {
                id: JobId(row.get(0)?),
                state: final_state(row.get(1)?),
                serializer: row.get(2)?,
                result: row.get_ref(3)?.as_blob_or_null()?.map(Into::into),
                reason: row.get(4)?,
                error: row.get_ref(5)?.as_blob_or_null()?.map(Into::into),
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(inputs)
}

/// Whether a job that has not ended needs to know how this one ended.
pub(super) fn is_needed(connection: &Connection, parent: i64) -> Outcome<bool> {
    Ok(connection
        .prepare_cached(
            "SELECT EXISTS (
                SELECT 1 FROM edge WHERE parent = ?1 AND (input = 1 OR condition = ?2)
                AND NOT EXISTS (SELECT 1 FROM done WHERE done.seq = edge.child))",
        )?
        .query_row([parent, condition::FAILURE], |row| row.get(0))?)
}

impl Transaction<'_> {
    /// Put a job that was just stored where its parents allow; `reason` is for one that is lost.
    pub(super) fn settle_in(
        &mut self,
        body: &Body,
        fate: Fate,
        due_ms: i64,
        now_ms: i64,
        reason: &str,
    ) -> Outcome<()> {
        if fate.is_over() {
            let reason = if fate == Fate::Skipped {
                SKIPPED
            } else {
                reason
            };
            return self.finish(body, body.carried(), &Ending::cancelled(now_ms, reason));
        }
        if let Some(expires_ms) = body.expires_ms {
            self.set_timer(timer::EXPIRE, expires_ms, body.seq)?;
        }
        if let Fate::Waits(pending) = fate {
            let detour = Detour {
                due_ms,
                pending,
                ..Detour::default()
            };
            self.set_detour(body.seq, &detour)?;
            self.count(body.lane, code::BLOCKED, 1);
            Ok(())
        } else if due_ms > now_ms {
            self.make_scheduled(body.seq, body.lane, due_ms, Why::Delay)
        } else {
            self.make_ready(body, due_ms)
        }
    }

    /// Tell the children of ended jobs, through any depth. At most `budget` of them are cancelled;
    /// the rest can never start, since an edge of theirs stays open, and follows in upkeep.
    pub(super) fn tell_children(
        &mut self,
        ended: &mut VecDeque<Ended>,
        now_ms: i64,
        budget: usize,
    ) -> Outcome<()> {
        let mut left = budget;
        while let Some(parent) = ended.pop_front() {
            let mut is_put_off = false;
            for (child, condition) in self.children(parent.seq)? {
                let is_lost = condition == Condition::Success && parent.state != State::Complete;
                if is_lost && left == 0 {
                    is_put_off = true;
                    continue;
                }
                if !is_lost && parent.continued {
                    // Its open edges were counted down when the parent ended.
                    continue;
                }
                let Some(body) = place::body(self.connection, child)? else {
                    continue;
                };
                let Some(mut carried) = body.detour.filter(|detour| detour.pending > 0) else {
                    continue;
                };
                if is_lost {
                    left -= 1;
                    ended.push_back(self.cancel_blocked(&body, &blame(&parent), now_ms)?);
                    continue;
                }
                carried.pending -= 1;
                if carried.pending > 0 {
                    self.set_detour(child, &carried)?;
                } else if body.on_failure && !self.has_seen_failure(child)? {
                    left = left.saturating_sub(1);
                    ended.push_back(self.cancel_blocked(&body, SKIPPED, now_ms)?);
                } else {
                    self.unblock(&body, carried, now_ms)?;
                }
            }
            if is_put_off {
                self.put_off(parent.seq)?;
            }
        }
        Ok(())
    }

    /// Let parents go at the end of a job that needed them: what was kept for it alone may be
    /// deleted once its time is over, or at once if it is over already.
    pub(super) fn release_parents(&self, child: i64) -> Outcome<()> {
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO timer
                 SELECT ?2, finished_ms + result_ttl_ms, job.seq
                 FROM edge JOIN job ON job.seq = edge.parent JOIN done ON done.seq = edge.parent
                 WHERE edge.child = ?1 AND result_ttl_ms IS NOT NULL",
            )?
            .execute([child, timer::PRUNE])?;
        dead_letters::note_parents(self.connection, child)
    }

    fn cancel_blocked(&mut self, body: &Body, reason: &str, now_ms: i64) -> Outcome<Ended> {
        self.count(body.lane, code::BLOCKED, -1);
        let ending = Ending::cancelled(now_ms, reason);
        self.write_ending(body, body.carried(), &ending)?;
        Ok(Ended::new(body, State::Cancelled))
    }

    fn has_seen_failure(&self, child: i64) -> Outcome<bool> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT EXISTS (
                    SELECT 1 FROM edge JOIN done ON done.seq = edge.parent
                    WHERE edge.child = ?1 AND condition = ?2 AND state <> ?3)",
            )?
            .query_row(
                [child, condition::FAILURE, final_code(State::Complete)],
                |row| row.get(0),
            )?)
    }

    /// The last open edge of a blocked job is closed; a delay counts from now.
    fn unblock(&mut self, body: &Body, carried: Detour, now_ms: i64) -> Outcome<()> {
        self.count(body.lane, code::BLOCKED, -1);
        let due_ms = body.given_due().max(now_ms.saturating_add(body.delay_ms));
        if due_ms > now_ms {
            let detour = Detour {
                due_ms,
                why: Some(Why::Delay),
                ..carried
            };
            self.set_detour(body.seq, &detour)?;
            self.make_scheduled(body.seq, body.lane, due_ms, Why::Delay)
        } else {
            self.drop_detour(body.seq)?;
            self.make_ready(body, body.due_ms)
        }
    }

    /// Leave the children of an ended job to upkeep.
    fn put_off(&self, parent: i64) -> Outcome<()> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO cascade VALUES (?1)")?
            .execute([parent])?;
        Ok(())
    }

    fn children(&self, parent: i64) -> Outcome<Vec<(i64, Condition)>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT child, condition FROM edge WHERE parent = ?1")?;
        let children = statement
            .query_map([parent], |row| {
                Ok((row.get(0)?, condition_from(row.get(1)?)))
            })?
            .collect::<Result<_, _>>()?;
        Ok(children)
    }
}
