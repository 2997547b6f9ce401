//! What a worker's owner should log or act on.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::EngineError;
use crate::id::JobId;

/// So many notices are kept for an owner that does not read them; the oldest go first.
const KEPT: usize = 10_000;

/// The subject of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoticeKind {
    /// The worker is registered and claims jobs.
    Started,
    /// A report or a settlement was refused: the lease was over.
    Stale,
    /// A lease was lost; if its run had started, its report will be refused.
    Lost,
    /// A run passed its timeout and was abandoned; its slot needs a replacement.
    Timeout,
    /// Somebody asked for the cancellation of a run; its executor may be able to stop it.
    Cancelling,
    /// Jobs wait for a task that no worker knows; told once per name.
    UnknownTask,
    /// A schedule does not fire, since no worker declares it; told once per name.
    UndeclaredSchedule,
    /// The store failed in a way that passes, and is tried again.
    Storage,
    /// The store works again.
    StorageRecovered,
    /// The worker claims no more jobs and waits for those that run.
    Draining,
    /// The last notice; `fatal` is the reason if the worker had to stop.
    Stopped,
}

impl NoticeKind {
    /// The name used at the seam.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stale => "stale",
            Self::Lost => "lost",
            Self::Timeout => "timeout",
            Self::Cancelling => "cancelling",
            Self::UnknownTask => "unknown_task",
            Self::UndeclaredSchedule => "undeclared_schedule",
            Self::Storage => "storage",
            Self::StorageRecovered => "storage_recovered",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// Something that a worker's owner should log or act on.
#[derive(Debug, Clone)]
pub struct Notice {
    pub kind: NoticeKind,
    pub message: String,
    pub job_id: Option<JobId>,
    pub task: Option<String>,
    /// The executor slot concerned.
    pub slot: Option<usize>,
    /// Why the worker had to stop; only with [`NoticeKind::Stopped`].
    pub fatal: Option<EngineError>,
}

impl Notice {
    pub(super) fn new(kind: NoticeKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind,
            message,
            job_id: None,
            task: None,
            slot: None,
            fatal: None,
        }
    }

    /// A notice about one job.
    pub(super) fn of_job(kind: NoticeKind, message: String, id: JobId, task: &str) -> Self {
        Self {
            job_id: Some(id),
            task: Some(task.to_owned()),
            ..Self::new(kind, message)
        }
    }
}

/// The notices that nobody has read yet.
#[derive(Debug, Default)]
pub(super) struct Notices {
    waiting: Mutex<VecDeque<Notice>>,
    arrived: Condvar,
}

impl Notices {
    pub(super) fn push(&self, notice: Notice) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= KEPT {
            waiting.pop_front();
        }
        waiting.push_back(notice);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// The oldest notice, or `None` after `timeout`.
    pub(super) fn next(&self, timeout: Duration) -> Option<Notice> {
        let began = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(notice) = waiting.pop_front() {
                return Some(notice);
            }
            let left = timeout
                .checked_sub(began.elapsed())
                .filter(|left| !left.is_zero())?;
            waiting = self
                .arrived
                .wait_timeout(waiting, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_come_in_order_and_then_the_wait_ends() {
        let notices = Notices::default();
        notices.push(Notice::new(NoticeKind::Started, "a"));
        notices.push(Notice::new(NoticeKind::Stopped, "b"));
        let read = |wait| {
            notices
                .next(Duration::from_millis(wait))
                .map(|notice| notice.kind.name())
        };
        assert_eq!(
            [read(0), read(0), read(5)],
            [Some("started"), Some("stopped"), None]
        );
    }

    #[test]
    fn the_oldest_give_way_when_nobody_reads() {
        let notices = Notices::default();
        for number in 0..KEPT + 5 {
            notices.push(Notice::new(NoticeKind::Stale, number.to_string()));
        }
        assert_eq!(
            notices.next(Duration::ZERO).map(|notice| notice.message),
            Some("5".into())
        );
    }
}
