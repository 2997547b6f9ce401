//! The end of a job, and all that follows from it in the same atom.

use std::collections::VecDeque;

use rusqlite::params;

use super::dead_letters;
use super::failure::Outcome;
use super::place::{Body, Detour, final_code};
use super::schema::{key, timer};
use super::transaction::Transaction;
use crate::id::JobId;
use crate::model::Bytes;
use crate::transitions::State;

/// The most jobs that one atom cancels because a job they depend on ended without success. The
/// rest can never start, since their counter of unfinished parents never reaches zero, and follows
/// in bounded steps of upkeep.
const CASCADE: usize = 10_000;

/// How a job ended.
pub(super) struct Ending<'a> {
    pub(super) state: State,
    pub(super) now_ms: i64,
    pub(super) started_ms: Option<i64>,
    pub(super) token: i64,
    pub(super) worker: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    pub(super) result: Option<(&'a Bytes, &'a str)>,
}

impl<'a> Ending<'a> {
    /// Ended by a cancellation before it ever ran.
    pub(super) const fn cancelled(now_ms: i64, reason: &'a str) -> Self {
        Self {
            state: State::Cancelled,
            now_ms,
            started_ms: None,
            token: 0,
            worker: None,
            reason: Some(reason),
            result: None,
        }
    }
}

/// A job that has just ended, and whose dependents have to learn that.
pub(super) struct Ended {
    pub(super) seq: i64,
    pub(super) id: JobId,
    pub(super) state: State,
    /// Its dependents were told once, and only cancellations are left.
    pub(super) continued: bool,
}

impl Ended {
    pub(super) const fn new(body: &Body, state: State) -> Self {
        Self {
            seq: body.seq,
            id: body.id,
            state,
            continued: false,
        }
    }
}

impl Transaction<'_> {
    /// End a job that was already taken from where it stood.
    pub(super) fn finish(
        &mut self,
        body: &Body,
        carried: Detour,
        ending: &Ending<'_>,
    ) -> Outcome<()> {
        self.write_ending(body, carried, ending)?;
        let mut ended = VecDeque::from([Ended::new(body, ending.state)]);
        self.tell_children(&mut ended, ending.now_ms, CASCADE)
    }

    pub(super) fn write_ending(
        &mut self,
        body: &Body,
        carried: Detour,
        ending: &Ending<'_>,
    ) -> Outcome<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO done VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, ?10, ?11)",
            )?
            .execute(params![
                body.seq,
                final_code(ending.state),
                ending.now_ms,
                ending.started_ms.or(carried.started_ms),
                ending.token.max(carried.run),
                carried.attempt,
                carried.crashes,
                ending.worker,
                ending.reason,
                ending.result.map(|(_, serializer)| serializer),
                ending.result.map(|(result, _)| &result[..]),
            ])?;
        self.count(body.lane, final_code(ending.state), 1);
        if body.detour.is_some() {
            self.drop_detour(body.seq)?;
        }
        if let Some(unique_key) = &body.unique_key {
            self.free_key(body.lane, body.seq, unique_key)?;
        }
        if ending.state == State::Dead {
            dead_letters::note(self, body, ending.now_ms)?;
        }
        if let Some(ttl) = body.result_ttl_ms {
            self.set_timer(timer::PRUNE, ending.now_ms.saturating_add(ttl), body.seq)?;
        }
        if body.inputs > 0 || body.on_failure {
            self.release_parents(body.seq)?;
        }
        self.ring();
        Ok(())
    }

    /// Free the key only if this job still holds it.
    pub(super) fn free_key(&mut self, lane: i64, seq: i64, unique_key: &str) -> Outcome<()> {
        let namespace = self.lane_name(lane)?.namespace;
        self.connection
            .prepare_cached(
                "DELETE FROM held_key WHERE namespace = ?1 AND kind = ?2 AND key = ?3 AND seq = ?4",
            )?
            .execute(params![namespace, key::UNIQUE, unique_key, seq])?;
        Ok(())
    }

    /// Let a job that was given back unstarted have its key again, unless another one has it now.
    pub(super) fn take_key_again(&mut self, body: &Body, unique_key: &str) -> Outcome<()> {
        let namespace = self.lane_name(body.lane)?.namespace;
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO held_key VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![namespace, key::UNIQUE, unique_key, body.seq])?;
        Ok(())
    }
}

/// The reason that the dependents of an ended job are given.
pub(super) fn blame(ended: &Ended) -> String {
    let end = if ended.state == State::Dead {
        "failed"
    } else {
        "was cancelled"
    };
    format!("it depended on job {}, which {end}", ended.id)
}
