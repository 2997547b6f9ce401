//! The round trip: when it is due, what it asks, and what follows from the answer.

use std::cmp;
use std::collections::HashSet;
use std::sync::Arc;

use super::super::handover::Recall;
use super::super::notice::{Notice, NoticeKind};
use super::super::pool::Pool;
use super::super::run::RunHandle;
use super::leases::Stage;
use super::shutdown::Phase;
use super::{CONTROL_MS, Command, GROUP, GROUP_MS, Machine, Register, STARTS_MS};
use crate::error::{EngineError, Result};
use crate::id::JobId;
use crate::model::{
    ClaimedJob, ExchangeReply, ExchangeRequest, Lease, Outcome, Settlement, Verdict,
};

/// Settlements that one request carries at most; more wait for the next.
const MOST_SETTLEMENTS: usize = 1_000;
/// The longest pause between requests that a change caused and that brought nothing.
const LONGEST_FRUITLESS_MS: i64 = 5;
/// A worker that is about to end tries a failing store at least this often.
const HURRIED_RETRY_MS: i64 = 100;

/// An outcome that the store does not have yet.
#[derive(Debug)]
pub(super) struct Unstored {
    pub(super) lease: Lease,
    pub(super) outcome: Outcome,
    /// `None` if the attempt never started.
    pub(super) started_at: Option<i64>,
    pub(super) since: i64,
}

impl Machine {
    /// Jobs to ask for, for one pool.
    fn want(&self, pool: Pool) -> usize {
        if self.phase == Phase::Running {
            self.pools[pool].want()
        } else {
            0
        }
    }

    fn is_hungry(&self, pool: Pool) -> bool {
        self.phase == Phase::Running && self.pools[pool].is_hungry()
    }

    fn buffered(&self) -> usize {
        self.pools.iter().map(|pool| pool.levels.buffered).sum()
    }

    /// The pool to ask for: they take turns while both are hungry. One that is not may still be
    /// given what it has room for.
    fn next_pool(&self) -> Pool {
        let [first, second] = match self.asked {
            Pool::Functions => [Pool::Coroutines, Pool::Functions],
            Pool::Coroutines => [Pool::Functions, Pool::Coroutines],
        };
        let choose = |fits: &dyn Fn(Pool) -> bool| [first, second].into_iter().find(|p| fits(*p));
        choose(&|pool| self.is_hungry(pool))
            .or_else(|| choose(&|pool| self.want(pool) > 0))
            .unwrap_or_default()
    }

    /// When the next exchange is due.
    pub(super) fn exchange_at(&self) -> i64 {
        if let Some(at) = self.outage.retry_at() {
            let hurried = self.last_exchange_at + HURRIED_RETRY_MS;
            return if self.phase == Phase::Running {
                at
            } else {
                cmp::min(at, hurried)
            };
        }
        let mut at = self.leases.renewal_at();
        if let Some(first) = self.unstored.front() {
            let others_follow = self.phase == Phase::Running && self.buffered() > 0;
            let grouped = others_follow && self.unstored.len() < GROUP;
            at = cmp::min(
                at,
                if grouped {
                    first.since + GROUP_MS
                } else {
                    first.since
                },
            );
        }
        if !self.starts.is_empty() {
            at = cmp::min(at, self.first_start_at + self.starts_within_ms);
        }
        if Pool::ALL.into_iter().any(|pool| self.is_hungry(pool)) {
            let pause = match self.fruitless {
                0 => 0,
                times => cmp::min(1 << (times - 1).min(3), LONGEST_FRUITLESS_MS),
            };
            at = cmp::min(at, self.last_exchange_at + pause);
        } else if self.changed {
            at = cmp::min(at, self.last_exchange_at + CONTROL_MS);
        }
        at
    }

    pub(super) fn request(&mut self, now: i64) -> ExchangeRequest {
        let count = cmp::min(self.unstored.len(), MOST_SETTLEMENTS);
        let settlements: Vec<_> = self
            .unstored
            .drain(..count)
            .map(
                |Unstored {
                     lease,
                     outcome,
                     started_at,
                     ..
                 }| Settlement {
                    lease,
                    outcome,
                    started_ago_ms: started_at.map(|at| (now - at).max(0)),
                },
            )
            .collect();
        let renewals = if self.leases.renewal_at() <= now {
            let settled: HashSet<_> = settlements.iter().map(|settled| settled.lease).collect();
            self.leases.renewals(now, &settled)
        } else {
            Vec::new()
        };
        let leases = &self.leases;
        let starts = self
            .starts
            .drain(..)
            .filter_map(|lease| leases.start(lease, now))
            .collect();
        self.changed = false;
        self.last_exchange_at = now;
        let pool = self.next_pool();
        self.asked = pool;
        ExchangeRequest {
            worker: self.config.worker.clone(),
            settlements,
            renewals,
            starts,
            want: self.want(pool),
            idle: Some(self.pools[pool].idle()),
            tasks: self.config.tasks[pool].clone(),
        }
    }

    /// Take in the answer; `self.last_exchange_at` is when the request was made.
    pub(super) fn exchanged(
        &mut self,
        now: i64,
        request: ExchangeRequest,
        result: Result<ExchangeReply>,
    ) {
        self.counters.exchanges += 1;
        let reply = match result {
            Ok(reply) if reply.verdicts.len() == request.settlements.len() => reply,
            Ok(reply) => {
                let (answered, sent) = (reply.verdicts.len(), request.settlements.len());
                let message = format!("the store answered {answered} of {sent} settlements");
                return self.give_up(EngineError::Backend {
                    message,
                    fatal: true,
                    source: None,
                });
            }
            Err(error) => return self.not_exchanged(now, request, &error),
        };
        self.register = Register::Known;
        self.recovered(|machine| machine.outage.succeeded());
        let sent_at = self.last_exchange_at;
        self.note_success(&request, &reply);
        for (settlement, verdict) in request.settlements.iter().zip(&reply.verdicts) {
            self.answered(settlement, *verdict);
        }
        self.leases.renewed(&request.renewals, sent_at);
        self.lost(reply.lost);
        self.upkeep.due_in(now, reply.next_due_ms);
        self.claimed(now, sent_at, reply.jobs);
        self.cancel(&reply.cancel_requests);
        self.starts_within_ms = if reply.paused.is_empty() {
            STARTS_MS
        } else {
            CONTROL_MS
        };
        if !reply.paused.is_empty() && self.buffered() > 0 {
            self.commands
                .push(Command::Recall(Recall::Queues(reply.paused)));
        }
    }

    /// Nothing of the request is stored: keep everything for the next one.
    fn not_exchanged(&mut self, now: i64, request: ExchangeRequest, error: &EngineError) {
        let sent_at = self.last_exchange_at;
        for settlement in request.settlements.into_iter().rev() {
            let started_at = settlement.started_ago_ms.map(|ago| sent_at - ago);
            let Settlement { lease, outcome, .. } = settlement;
            self.unstored.push_front(Unstored {
                lease,
                outcome,
                started_at,
                since: sent_at,
            });
        }
        self.starts
            .extend(request.starts.iter().map(|start| start.lease));
        self.expect_jobs();
        if matches!(error, EngineError::UnknownWorker(_)) && self.register == Register::Known {
            self.register = Register::Wanted;
            return self.recovered(|machine| machine.outage.succeeded());
        }
        self.failed(error, |machine| machine.outage.failed(now));
    }

    fn note_success(&mut self, request: &ExchangeRequest, reply: &ExchangeReply) {
        if request.want > 0 {
            self.pools[self.asked].backlog = reply.jobs.len() >= request.want;
        }
        let useful = !request.settlements.is_empty()
            || !request.renewals.is_empty()
            || !reply.jobs.is_empty();
        self.fruitless = if useful {
            0
        } else {
            self.fruitless.saturating_add(1)
        };
    }

    fn answered(&mut self, settlement: &Settlement, verdict: Verdict) {
        let Some(held) = self.leases.remove(settlement.lease) else {
            return;
        };
        if verdict == Verdict::Ok {
            self.counters.settled += 1;
            return;
        }
        self.counters.stale += 1;
        let id = settlement.lease.id;
        let reason = match verdict {
            Verdict::Gone => "does not exist any more",
            Verdict::Stale | Verdict::Ok => "is not leased to this run any more",
        };
        let message = format!("the outcome of job {id} was refused: the job {reason}");
        self.notify(Notice::of_job(
            NoticeKind::Stale,
            message,
            id,
            &held.run.job().task,
        ));
    }

    fn lost(&mut self, lost: Vec<Lease>) {
        let mut reached = Vec::new();
        for lease in lost {
            // An outcome on its way is answered by itself.
            if self
                .leases
                .get(lease)
                .is_none_or(|held| held.stage == Stage::Ended)
            {
                continue;
            }
            let Some(held) = self.leases.remove(lease) else {
                continue;
            };
            let job = held.run.job();
            let message = format!(
                "the lease of job {} is over: it was taken back, finished or deleted elsewhere",
                lease.id
            );
            let mut notice = Notice::of_job(NoticeKind::Lost, message, lease.id, &job.task);
            if let Stage::Running { slot, .. } = held.stage {
                notice.slot = Some(slot);
            }
            self.notify(notice);
            reached.push(lease);
        }
        if !reached.is_empty() {
            self.commands.push(Command::Recall(Recall::Lost(reached)));
        }
    }

    fn claimed(&mut self, now: i64, granted_at: i64, jobs: Vec<ClaimedJob>) {
        let mut runs = Vec::with_capacity(jobs.len());
        for job in jobs {
            let pool = self.pool_of(&job.task);
            let run = Arc::new(RunHandle::new(job, pool, granted_at, self.config.lease_ms));
            if self.leases.add(Arc::clone(&run), granted_at) {
                self.counters.claimed += 1;
                runs.push(run);
            }
        }
        if runs.is_empty() {
            return;
        }
        if self.phase == Phase::Running {
            for pool in Pool::ALL {
                let jobs = runs.iter().filter(|run| run.pool() == pool).count();
                if jobs > 0 {
                    self.pools[pool].delivered(now, jobs);
                }
            }
            self.commands.push(Command::Deliver(runs));
        } else {
            for run in runs {
                self.settle(now, &run, Outcome::Release { interrupted: false }, None);
            }
        }
    }

    fn pool_of(&self, task: &str) -> Pool {
        if self.config.coroutines.contains(task) {
            Pool::Coroutines
        } else {
            Pool::Functions
        }
    }

    fn cancel(&mut self, requests: &[JobId]) {
        let leases: Vec<_> = requests
            .iter()
            .filter_map(|id| self.leases.of_job(*id))
            .filter(|held| !held.run.cancel_requested())
            .map(|held| held.run.lease())
            .collect();
        if !leases.is_empty() {
            self.commands
                .push(Command::Recall(Recall::Cancelled(leases)));
        }
    }
}
