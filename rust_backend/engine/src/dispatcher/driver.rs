//! The thread of a dispatcher: performs what the machine decides, and sleeps in between.

use std::cmp;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::time::timeout;

use super::Shared;
use super::handover::Levels;
use super::machine::{Command, Event, Machine};
use super::notice::{Notice, NoticeKind};
use super::pool::Pool;
use crate::error::{EngineError, Result};

/// How often the executors are looked at while they have work and some of them sleep.
const NUDGE: Duration = Duration::from_millis(1);
/// An executor that takes fewer jobs per millisecond than this needs help.
const BRISK: u64 = 2;
/// A store whose `wait` does not return in time is left behind.
const WATCHER_PATIENCE: Duration = Duration::from_secs(1);
/// No sleep is longer: a thread that does not come round for much longer counts as stuck.
const LONGEST_SLEEP_MS: i64 = 10_000;

/// Start the thread.
///
/// # Errors
/// The system has no thread left.
pub(super) fn start(shared: Arc<Shared>, machine: Machine) -> Result<()> {
    super::spawn("taskito-dispatcher", move || {
        // A panic (a bug here or in a store) must not leave a worker that silently does nothing.
        let driver = Driver {
            shared: Arc::clone(&shared),
            machine,
            helper: Helper::default(),
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| driver.run())) {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            let message = format!("the dispatcher failed: {text}");
            shared.arm_watchdog(Duration::ZERO);
            let error = EngineError::Backend {
                message: message.clone(),
                fatal: true,
                source: None,
            };
            let notice = Notice::new(NoticeKind::Stopped, message);
            shared.notices.push(Notice {
                fatal: Some(error),
                ..notice
            });
        }
        shared.end();
    })
}

struct Driver {
    shared: Arc<Shared>,
    machine: Machine,
    helper: Helper,
}

impl Driver {
    fn run(mut self) {
        let runtime = Builder::new_current_thread().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.work()),
            Err(error) => panic!("no runtime: {error}"),
        }
    }

    /// Until the machine says that it is over.
    async fn work(&mut self) {
        let mut slept = true;
        loop {
            if let Some(deadline) = self.shared.stop_request() {
                self.perform_all(Event::Stop { deadline });
            }
            // Under load nobody asks: the next exchange sees every change, and the watcher sleeps.
            if (slept || self.machine.wants_changes()) && self.shared.changes.take() {
                self.perform_all(Event::Changed);
            }
            let collected = self.shared.handover.collect();
            self.perform_all(Event::Collected(collected));
            self.publish();
            if self.machine.is_over() {
                return;
            }
            slept = self.sleep().await;
        }
    }

    /// Hand in an event and do what follows from it.
    fn perform_all(&mut self, event: Event) {
        let now = self.shared.handover.now();
        let mut commands: VecDeque<_> = self.machine.handle(now, event).into();
        while let Some(command) = commands.pop_front() {
            if let Some(event) = self.perform(command) {
                let now = self.shared.handover.now();
                commands.extend(self.machine.handle(now, event));
            }
        }
    }

    fn perform(&mut self, command: Command) -> Option<Event> {
        let Shared {
            store,
            handover,
            notices,
            registration,
            ..
        } = &*self.shared;
        match command {
            Command::Exchange(request) => {
                let result = store.exchange(&request);
                if result.is_ok() {
                    store.mark_settled(&registration.id, &request.settlements);
                }
                return Some(Event::Exchanged(request, result));
            }
            Command::Maintain { budget } => return Some(Event::Maintained(store.maintain(budget))),
            Command::Register => return Some(Event::Registered(store.register(registration))),
            Command::Unregister => {
                return Some(Event::Unregistered(store.unregister(&registration.id)));
            }
            Command::Recall(recall) => {
                let recalled = handover.recall(&recall);
                return Some(Event::Recalled(recall, recalled));
            }
            Command::Deliver(runs) => {
                handover.deliver(runs);
                self.helper.delivered(handover.levels()[Pool::Functions]);
            }
            Command::Close { deadline } => {
                handover.close();
                let left = deadline
                    .saturating_sub(handover.now())
                    .max(0)
                    .unsigned_abs();
                self.shared.arm_watchdog(Duration::from_millis(left));
            }
            Command::Notify(notice) => {
                if notice.kind == NoticeKind::Stopped {
                    self.shared.changes.end_and_join(WATCHER_PATIENCE);
                }
                notices.push(notice);
            }
        }
        None
    }

    fn publish(&self) {
        let now = self.shared.handover.now();
        self.shared.seen_at.store(now, Ordering::Relaxed);
        let mut counters = self
            .shared
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *counters = self.machine.counters();
    }

    /// Sleep until there is something to do; false if there is already.
    async fn sleep(&mut self) -> bool {
        let handover = &self.shared.handover;
        let hints = self.machine.sleep_hints();
        let left = cmp::min(
            hints.wake_at.saturating_sub(handover.now()),
            LONGEST_SLEEP_MS,
        );
        let left = u64::try_from(left).unwrap_or(0);
        if left == 0 || !handover.fall_asleep(hints) {
            handover.wake_up();
            return false;
        }
        let end = Instant::now() + Duration::from_millis(left);
        loop {
            let levels = handover.levels()[Pool::Functions];
            let nudge = self.helper.look(levels, Instant::now());
            if nudge.unpark > 0 {
                handover.unpark(Pool::Functions, nudge.unpark);
            }
            let left = end.saturating_duration_since(Instant::now());
            let nap = if nudge.look_again {
                cmp::min(left, NUDGE)
            } else {
                left
            };
            let woken = timeout(nap, handover.wake().notified()).await.is_ok();
            if woken || Instant::now() >= end {
                break;
            }
        }
        handover.wake_up();
        true
    }
}

/// Wakes more threads when those awake do not get on with the work. An event loop needs no help: it
/// takes all that it can once it is awake.
///
/// No-op work stays on few threads, which saves switches; blocking work soon has all of them.
#[derive(Debug, Default)]
struct Helper {
    taken: u64,
    since: Option<Instant>,
    step: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Nudge {
    unpark: usize,
    look_again: bool,
}

impl Helper {
    /// One executor was woken for new jobs.
    fn delivered(&mut self, levels: Levels) {
        if self.since.is_none() {
            *self = Self {
                taken: levels.taken,
                since: Some(Instant::now()),
                step: 1,
            };
        }
    }

    fn look(&mut self, levels: Levels, now: Instant) -> Nudge {
        if levels.buffered == 0 || levels.parked == 0 {
            *self = Self::default();
            return Nudge {
                unpark: 0,
                look_again: false,
            };
        }
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed < NUDGE {
            return Nudge {
                unpark: 0,
                look_again: true,
            };
        }
        let awake = levels.present.saturating_sub(levels.parked).max(1) as u64;
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let enough = BRISK.saturating_mul(awake).saturating_mul(passed_ms);
        let slow = levels.taken - self.taken < enough;
        let unpark = if slow { self.step.max(1) } else { 0 };
        let step = if slow { unpark * 2 } else { 1 };
        *self = Self {
            taken: levels.taken,
            since: Some(now),
            step,
        };
        Nudge {
            unpark,
            look_again: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(parked: usize, taken: u64) -> Levels {
        Levels {
            buffered: 100,
            present: 16,
            running: 0,
            parked,
            calls: 0,
            taken,
        }
    }

    /// What is unparked in each millisecond when every awake executor takes so many jobs in it.
    fn unparked(per_executor: u64) -> Vec<usize> {
        let (mut helper, mut parked, mut taken) = (Helper::default(), 15, 0);
        let began = Instant::now();
        helper.look(levels(parked, taken), began);
        let mut steps = Vec::new();
        for millisecond in 1..=6 {
            taken += per_executor * (16 - parked as u64);
            let nudge = helper.look(levels(parked, taken), began + NUDGE * millisecond);
            parked -= nudge.unpark.min(parked);
            steps.push(nudge.unpark);
        }
        steps
    }

    #[test]
    fn blocked_executors_get_help_that_doubles() {
        assert_eq!(unparked(0)[..4], [1, 2, 4, 8]);
        assert_eq!(unparked(1)[..4], [1, 2, 4, 8]);
    }

    #[test]
    fn a_brisk_executor_is_left_alone() {
        assert_eq!(unparked(50), [0; 6]);
    }

    #[test]
    fn nothing_is_watched_without_work_or_sleepers() {
        let mut helper = Helper::default();
        let now = Instant::now();
        assert!(!helper.look(levels(0, 0), now).look_again);
        assert!(
            !helper
                .look(
                    Levels {
                        buffered: 0,
                        ..levels(3, 0)
                    },
                    now
                )
                .look_again
        );
    }
}
