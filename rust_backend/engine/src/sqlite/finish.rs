//! The end of a job, and all that follows from it in the same atom.

use std::collections::VecDeque;

use rusqlite::params;

use super::dead_letters;
use super::failure::Outcome;
use super::place::{self, Body, Detour, Place, final_code};
use super::schema::{code, key, timer};
use super::transaction::Transaction;
use crate::model::{Bytes, Why};
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

impl Transaction<'_> {
    /// End a job that was already taken from where it stood.
    pub(super) fn finish(
        &mut self,
        body: &Body,
        carried: Detour,
        ending: &Ending<'_>,
    ) -> Outcome<()> {
        self.write_ending(body, carried, ending)?;
        if ending.state == State::Complete {
            self.release_children(body.seq, ending.now_ms)
        } else {
            let mut ended = VecDeque::from([(body.seq, blame(body, ending.state))]);
            self.cancel_children(&mut ended, ending.now_ms, CASCADE)
        }
    }

    fn write_ending(&mut self, body: &Body, carried: Detour, ending: &Ending<'_>) -> Outcome<()> {
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

    /// Tell the children of a complete job that one parent less is missing.
    fn release_children(&mut self, parent: i64, now_ms: i64) -> Outcome<()> {
        for child in self.children(parent)? {
            let Some(body) = place::body(self.connection, child)? else {
                continue;
            };
            let Some(mut carried) = body.detour.filter(|detour| detour.pending > 0) else {
                continue;
            };
            carried.pending -= 1;
            if carried.pending > 0 {
                self.set_detour(child, &carried)?;
                continue;
            }
            self.count(body.lane, code::BLOCKED, -1);
            let due_ms = body.given_due().max(now_ms.saturating_add(body.delay_ms));
            if due_ms > now_ms {
                self.set_detour(
                    child,
                    &Detour {
                        due_ms,
                        why: Some(Why::Delay),
                        ..carried
                    },
                )?;
                self.make_scheduled(child, body.lane, due_ms, Why::Delay)?;
            } else {
                self.drop_detour(child)?;
                self.make_ready(&body, body.due_ms)?;
            }
        }
        Ok(())
    }

    /// Cancel what depends on ended jobs, through any depth, at most `budget` of them.
    pub(super) fn cancel_children(
        &mut self,
        ended: &mut VecDeque<(i64, String)>,
        now_ms: i64,
        budget: usize,
    ) -> Outcome<()> {
        let mut left = budget;
        while let Some((parent, reason)) = ended.pop_front() {
            for child in self.children(parent)? {
                let Some(body) = place::body(self.connection, child)? else {
                    continue;
                };
                if !matches!(place::locate(self.connection, &body)?, Place::Blocked) {
                    continue;
                }
                if left == 0 {
                    self.put_off(parent)?;
                    break;
                }
                left -= 1;
                self.count(body.lane, code::BLOCKED, -1);
                let ending = Ending::cancelled(now_ms, &reason);
                self.write_ending(&body, body.carried(), &ending)?;
                ended.push_back((child, blame(&body, State::Cancelled)));
            }
        }
        Ok(())
    }

    /// Leave the children of an ended job to upkeep.
    fn put_off(&self, parent: i64) -> Outcome<()> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO cascade VALUES (?1)")?
            .execute([parent])?;
        Ok(())
    }

    fn children(&self, parent: i64) -> Outcome<Vec<i64>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT child FROM edge WHERE parent = ?1")?;
        let children = statement
            .query_map([parent], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        Ok(children)
    }
}

/// The reason that the dependents of an ended job are given.
pub(super) fn blame(body: &Body, state: State) -> String {
    let end = if state == State::Dead {
        "failed"
    } else {
        "was cancelled"
    };
    format!("it depended on job {}, which {end}", body.id)
}
