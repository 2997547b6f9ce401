//! How a worker ends: by request, because too many of its threads are stuck, or because its store
//! can never work again.

use std::cmp;

use super::super::handover::Recall;
use super::super::notice::{Notice, NoticeKind};
use super::super::pool::Pool;
use super::{Command, Machine};
use crate::error::{EngineError, Result};

/// How long outcomes are still tried after the drain time.
const LAST_TRIES_MS: i64 = 1_000;

/// Where a dispatcher stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// Nothing starts; what runs may end until the deadline.
    Draining {
        deadline: i64,
    },
    /// Everything was given back; outcomes are tried until then.
    Closing {
        until: i64,
    },
    /// The store is being told that the worker leaves.
    Unregistering,
    Ended,
}

impl Phase {
    /// When the next phase begins at the latest.
    pub(super) fn deadline(self) -> i64 {
        match self {
            Self::Running | Self::Ended => i64::MAX,
            Self::Draining { deadline } => deadline,
            Self::Closing { until } => until,
            Self::Unregistering => i64::MIN,
        }
    }

    pub(super) fn keeps_upkeep(self) -> bool {
        matches!(self, Self::Running | Self::Draining { .. })
    }
}

impl Machine {
    /// Stop claiming, give back what has not started, let the rest end until `deadline`.
    ///
    /// Another call can only bring the deadline forward.
    pub(super) fn drain(&mut self, deadline: i64, reason: Option<EngineError>) {
        match &mut self.phase {
            Phase::Running => {
                let message = match &reason {
                    Some(reason) => format!("the worker stops: {reason}"),
                    None => "the worker stops: it claims no more jobs".to_owned(),
                };
                self.phase = Phase::Draining { deadline };
                self.fatal = reason;
                self.commands.push(Command::Close { deadline });
                self.commands.push(Command::Recall(Recall::Unstarted));
                self.notify(Notice::new(NoticeKind::Draining, message));
            }
            Phase::Draining { deadline: present } => {
                *present = cmp::min(*present, deadline);
                let deadline = *present;
                self.commands.push(Command::Close { deadline });
            }
            Phase::Closing { .. } | Phase::Unregistering | Phase::Ended => {}
        }
    }

    /// Drain when as many runs are stuck as a pool may have at a time.
    pub(super) fn check_zombies(&mut self, now: i64) {
        if self.zombies.at() > now || self.phase != Phase::Running {
            return;
        }
        self.zombies.looked_at(now);
        let full = Pool::ALL.into_iter().find_map(|pool| {
            let names = self.zombies.names(now, pool);
            (names.len() >= cmp::max(self.config.concurrency[pool], 1)).then_some(names)
        });
        let Some(mut names) = full else {
            return;
        };
        names.sort();
        let message = format!(
            "{} attempts ran past their timeout and do not end: {}; call \
             current_job.check_timeout() in these tasks, or raise their timeout",
            names.len(),
            names.join(", ")
        );
        let reason = EngineError::Backend {
            message,
            fatal: true,
            source: None,
        };
        self.drain(now + self.config.drain_ms, Some(reason));
    }

    /// Go on to the next phase when this one is over.
    pub(super) fn advance_phase(&mut self, now: i64) {
        if let Phase::Draining { deadline } = self.phase
            && !self.leases.is_empty()
            && deadline <= now
        {
            self.phase = Phase::Closing {
                until: now + LAST_TRIES_MS,
            };
            self.commands.push(Command::Recall(Recall::Unstarted));
            self.commands.push(Command::Recall(Recall::Interrupted));
        }
        let over = match self.phase {
            Phase::Draining { .. } => self.leases.is_empty(),
            Phase::Closing { until } => self.leases.is_empty() || until <= now,
            Phase::Running | Phase::Unregistering | Phase::Ended => false,
        };
        if over {
            self.phase = Phase::Unregistering;
            self.commands.push(Command::Unregister);
        }
    }

    pub(super) fn unregistered(&mut self, result: Result<()>) {
        if let Err(error) = result
            && !error.is_passing()
            && !matches!(error, EngineError::UnknownWorker(_))
        {
            return self.give_up(error);
        }
        let mut message = match &self.fatal {
            Some(reason) => format!("the worker has stopped: {reason}"),
            None => "the worker has stopped".to_owned(),
        };
        if !self.unstored.is_empty() {
            let lost = format!(
                "; the store could not take {} outcomes, their jobs will run again",
                self.unstored.len()
            );
            message.push_str(&lost);
        }
        self.end(Notice {
            fatal: self.fatal.clone(),
            ..Notice::new(NoticeKind::Stopped, message)
        });
    }

    /// The store can never work again: end at once.
    pub(super) fn give_up(&mut self, error: EngineError) {
        self.commands.push(Command::Close { deadline: i64::MIN });
        self.commands.push(Command::Recall(Recall::Unstarted));
        self.commands.push(Command::Recall(Recall::Interrupted));
        let message = format!("the worker has to stop: {error}");
        self.end(Notice {
            fatal: Some(error),
            ..Notice::new(NoticeKind::Stopped, message)
        });
    }

    fn end(&mut self, notice: Notice) {
        self.phase = Phase::Ended;
        self.notify(notice);
    }
}
