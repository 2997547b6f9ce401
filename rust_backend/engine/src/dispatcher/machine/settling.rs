//! From the end of a run to its settlement.

use std::sync::Arc;

use super::super::handover::{Recall, Recalled};
use super::super::notice::{Notice, NoticeKind};
use super::super::pool::Pool;
use super::super::run::{Finished, Refusal, Report, RunHandle};
use super::super::stored_error;
use super::exchanges::Unstored;
use super::leases::Stage;
use super::{Command, Machine};
use crate::model::{Bytes, ClaimedJob, ErrorKind, Outcome, TaskPolicy};
use crate::retry::retry_delay_ms;

impl Machine {
    /// An executor has ended a run.
    pub(super) fn report(&mut self, now: i64, finished: Finished) {
        let Finished {
            run,
            slot,
            started_at,
            report,
            ..
        } = finished;
        let held = self.leases.get(run.lease());
        if held.is_none_or(|held| held.stage == Stage::Ended) {
            if report.is_none() && self.ends_overdue(run.pool()) {
                return; // It was ended because it was over: there is nothing to drop.
            }
            self.counters.stale += 1;
            let id = run.lease().id;
            let message =
                format!("the report on job {id} was dropped: the attempt was over already");
            let notice = Notice::of_job(NoticeKind::Stale, message, id, &run.job().task);
            return self.notify(Notice {
                slot: Some(slot),
                ..notice
            });
        }
        let outcome = self.outcome(run.job(), report);
        self.settle(now, &run, outcome, Some(started_at));
    }

    /// A run was not started when its turn came.
    pub(super) fn refuse(&mut self, now: i64, run: &Arc<RunHandle>, refusal: Refusal) {
        let outcome = match refusal {
            Refusal::Expired => Outcome::Cancelled {
                reason: "expired".to_owned(),
            },
            Refusal::Lapsed => Outcome::Release { interrupted: false },
        };
        self.settle(now, run, outcome, None);
    }

    /// Runs were taken back from the executors.
    pub(super) fn recalled(&mut self, now: i64, recall: &Recall, recalled: &Recalled) {
        if matches!(recall, Recall::Lost(_)) {
            return;
        }
        for run in &recalled.unstarted {
            let outcome = match recall {
                Recall::Cancelled(_) => Outcome::Cancelled {
                    reason: "cancelled by request".to_owned(),
                },
                _ => Outcome::Release { interrupted: false },
            };
            self.settle(now, run, outcome, None);
        }
        for (slot, run) in &recalled.running {
            match recall {
                Recall::TimedOut(_) => self.time_out(now, *slot, run),
                Recall::Cancelled(_) => self.tell_of_cancellation(*slot, run),
                Recall::Interrupted => {
                    let outcome = Outcome::Release { interrupted: true };
                    let started_at = self.started_at(run).or(Some(now));
                    self.settle(now, run, outcome, started_at);
                }
                _ => {}
            }
        }
    }

    /// Keep an outcome until the store has answered it. Does nothing if the run has one already.
    pub(super) fn settle(
        &mut self,
        now: i64,
        run: &RunHandle,
        outcome: Outcome,
        started_at: Option<i64>,
    ) {
        let lease = run.lease();
        if self.leases.end(lease) {
            self.unstored.push_back(Unstored {
                lease,
                outcome,
                started_at,
                since: now,
            });
        }
    }

    /// Ask back the runs whose time is over; those that have just ended will report.
    pub(super) fn expel_overdue(&mut self, now: i64) {
        let overdue = self.leases.timed_out(now);
        if !overdue.is_empty() {
            self.commands
                .push(Command::Recall(Recall::TimedOut(overdue)));
        }
    }

    fn tell_of_cancellation(&mut self, slot: usize, run: &RunHandle) {
        let job = run.job();
        let id = job.lease.id;
        let message = format!("job {id} ({}) is asked to stop", job.task);
        let notice = Notice::of_job(NoticeKind::Cancelling, message, id, &job.task);
        self.notify(Notice {
            slot: Some(slot),
            ..notice
        });
    }

    fn time_out(&mut self, now: i64, slot: usize, run: &RunHandle) {
        let job = run.job();
        let id = job.lease.id;
        let started_at = self.started_at(run).or(Some(now - job.timeout_ms));
        let error = stored_error::timeout(job.timeout_ms);
        let outcome = self.failure(job, error, ErrorKind::Timeout, true, None);
        self.settle(now, run, outcome, started_at);
        let follows = match run.pool() {
            Pool::Coroutines => "is cancelled".to_owned(),
            Pool::Functions if self.config.kills_overdue => "is killed".to_owned(),
            Pool::Functions => format!("was abandoned; slot {slot} is stuck in it"),
        };
        let message = format!(
            "job {id} ({}) ran longer than {} ms and {follows}",
            job.task, job.timeout_ms
        );
        let notice = Notice::of_job(NoticeKind::Timeout, message, id, &job.task);
        self.notify(Notice {
            slot: Some(slot),
            ..notice
        });
        if run.pool() == Pool::Functions && self.config.kills_overdue {
            return;
        }
        let name = format!("{} (job {id})", job.task);
        self.zombies.add(now, slot, run.pool(), name);
    }

    /// Whether the executors of a pool end a run that is over, and so have nothing to tell of it.
    fn ends_overdue(&self, pool: Pool) -> bool {
        match pool {
            Pool::Functions => self.config.kills_overdue,
            Pool::Coroutines => true,
        }
    }

    fn started_at(&self, run: &RunHandle) -> Option<i64> {
        match self.leases.get(run.lease())?.stage {
            Stage::Running { started_at, .. } => Some(started_at),
            Stage::Delivered | Stage::Ended => None,
        }
    }

    /// What to tell the store about a run that its executor has ended.
    fn outcome(&mut self, job: &ClaimedJob, report: Option<Report>) -> Outcome {
        match report {
            Some(Report::Success { result, serializer }) => Outcome::Success { result, serializer },
            Some(Report::Failure {
                error,
                kind,
                retry,
                delay_ms,
            }) => self.failure(job, error, kind, retry, delay_ms),
            Some(Report::Snoozed { delay_ms }) => Outcome::Snooze {
                delay_ms: delay_ms.max(0),
            },
            Some(Report::Aborted { reason }) => Outcome::Cancelled { reason },
            None => {
                let error = stored_error::executor_ended();
                self.failure(job, error, ErrorKind::Failure, true, None)
            }
        }
    }

    /// Retry while attempts are left and repetition can help, otherwise bury.
    ///
    /// A crash uses no attempt and is run again at once. The store counts it, and buries the job
    /// when there were too many.
    fn failure(
        &mut self,
        job: &ClaimedJob,
        error: Bytes,
        kind: ErrorKind,
        retry: bool,
        delay_ms: Option<i64>,
    ) -> Outcome {
        if kind == ErrorKind::Crash {
            let delay_ms = 0;
            return Outcome::Retry {
                error,
                kind,
                delay_ms,
            };
        }
        if !retry || kind == ErrorKind::Rejected || job.attempt >= job.max_retries {
            return Outcome::Dead { error, kind };
        }
        let delay_ms = delay_ms.unwrap_or_else(|| self.retry_delay(job)).max(0);
        Outcome::Retry {
            error,
            kind,
            delay_ms,
        }
    }

    fn retry_delay(&mut self, job: &ClaimedJob) -> i64 {
        let random = self.draw();
        if let Some(policy) = self.config.policies.get(&job.task) {
            return retry_delay_ms(policy, job.attempt, random);
        }
        let policy = TaskPolicy {
            task: job.task.clone(),
            retry_backoff_ms: 1_000,
            retry_delays_ms: None,
            max_retry_delay_ms: 300_000,
            retry_jitter_ms: 500,
        };
        retry_delay_ms(&policy, job.attempt, random)
    }

    /// A number in `0.0..1.0` (`SplitMix64`).
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
