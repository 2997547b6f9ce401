//! The place where executor threads and the dispatcher thread meet.
//!
//! One mutex protects the delivered jobs, the reports and what each slot runs. It is held for a few
//! instructions only: no call of a store, no wait and no Python happens under it, so an executor may
//! take it without giving up the interpreter.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::parker::Parker;
use super::run::{Finished, Refusal, Report, RunHandle, Started};
use super::slot::Taken;
use crate::clock::Clock;
use crate::model::Lease;

/// Jobs on their way to the executors and reports on their way back.
pub(super) struct Handover {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    buffer: VecDeque<Arc<RunHandle>>,
    finished: Vec<Finished>,
    refused: Vec<(Arc<RunHandle>, Refusal)>,
    slots: Vec<SlotState>,
    /// Indexes of dropped slots, to be used again.
    vacant: Vec<usize>,
    /// Slots without work, the latest last; it is the first to be woken.
    idle: Vec<usize>,
    /// Slots that have started something since the last collection.
    fresh: Vec<usize>,
    /// Retired slots whose thread has come back or ended since the last collection.
    returned: Vec<usize>,
    present: usize,
    running: usize,
    calls: u64,
    taken: u64,
    closing: bool,
    /// Set while the dispatcher sleeps: what has to happen for it to be woken.
    asleep: Option<SleepHints>,
}

struct SlotState {
    parker: Arc<Parker>,
    active: Option<Active>,
    presence: Presence,
    fresh: bool,
    idle: bool,
}

struct Active {
    run: Arc<RunHandle>,
    started_at: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Its thread has not asked for work yet.
    Expected,
    Present,
    /// Abandoned with the run that it cannot end; another slot replaces it.
    Retired,
    /// Dropped, or told to end after it was retired.
    Gone,
}

/// What wakes a sleeping dispatcher before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SleepHints {
    /// When it wakes by itself; a run whose timeout comes earlier wakes it.
    pub(super) wake_at: i64,
    /// This many reports.
    pub(super) group: usize,
    /// The first report, which begins a group.
    pub(super) first: bool,
    /// So few jobs left in the buffer.
    pub(super) low_water: Option<usize>,
    /// Any sign of life of an executor since it had asked for work so often.
    pub(super) calls: Option<u64>,
    /// Another number of slots in service than this.
    pub(super) present: usize,
    /// The store is away: reports can wait.
    pub(super) quiet: bool,
}

/// How full everything is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Levels {
    /// Delivered and not started.
    pub(super) buffered: usize,
    /// Slots in service.
    pub(super) present: usize,
    /// Slots in service that run something.
    pub(super) running: usize,
    /// Slots that sleep, or are about to.
    pub(super) parked: usize,
    /// How often executors have asked for work.
    pub(super) calls: u64,
    /// How many runs they have taken.
    pub(super) taken: u64,
}

/// What the executors have done since the last collection.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) started: Vec<Started>,
    pub(super) finished: Vec<Finished>,
    pub(super) refused: Vec<(Arc<RunHandle>, Refusal)>,
    pub(super) returned: Vec<usize>,
    pub(super) levels: Levels,
}

/// Which runs are to be taken back from the executors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recall {
    /// Everything that has not started.
    Unstarted,
    /// What has not started, of these queues.
    Queues(Vec<String>),
    /// Take back what has not started; ask the rest to stop.
    Cancelled(Vec<Lease>),
    /// Their leases are over: take back or abandon.
    Lost(Vec<Lease>),
    /// Abandon these runs and retire their slots, unless they have just ended.
    TimedOut(Vec<(usize, Lease)>),
    /// Abandon all that still runs.
    Interrupted,
}

/// What a recall has reached; whatever it has missed is on its way as a report.
#[derive(Debug, Default)]
pub(super) struct Recalled {
    /// Taken out of the buffer.
    pub(super) unstarted: Vec<Arc<RunHandle>>,
    /// Running, and marked.
    pub(super) running: Vec<(usize, Arc<RunHandle>)>,
}

impl Handover {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Mutex::default(),
            clock,
            wake: Notify::new(),
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.steady_ms()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // For executors

    /// Make a slot and return its index.
    pub(super) fn add_slot(&self, parker: Arc<Parker>) -> usize {
        let mut state = self.lock();
        let slot = SlotState {
            parker,
            active: None,
            presence: Presence::Expected,
            fresh: false,
            idle: false,
        };
        if let Some(index) = state.vacant.pop() {
            state.slots[index] = slot;
            index
        } else {
            state.slots.push(slot);
            state.slots.len() - 1
        }
    }

    /// Report how the slot's run ended, and take the next one.
    pub(super) fn next(&self, index: usize, report: Option<Report>) -> Taken {
        let now = self.now();
        let mut state = self.lock();
        state.calls += 1;
        state.finish(index, report, now);
        state.arrive(index);
        let taken = state.take(index, now);
        let timeout = match &taken {
            Taken::Run(run) => run.job().timeout_ms,
            Taken::Empty | Taken::Stopped => 0,
        };
        let wakes = state.wakes_dispatcher(now, timeout);
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
        taken
    }

    /// The slot's thread is gone.
    pub(super) fn drop_slot(&self, index: usize) {
        let now = self.now();
        let mut state = self.lock();
        state.finish(index, None, now);
        state.leave(index);
        state.vacant.push(index);
        drop(state);
        self.wake.notify_one();
    }

    // For the dispatcher

    /// Let nothing start any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        let count = state.idle.len();
        let parkers = state.wake_idle(count);
        drop(state);
        for parker in parkers {
            parker.unpark();
        }
        self.wake.notify_one();
    }

    pub(super) fn collect(&self) -> Collected {
        let mut state = self.lock();
        let state = &mut *state;
        let mut started = Vec::new();
        for index in state.fresh.drain(..) {
            let slot = &mut state.slots[index];
            slot.fresh = false;
            if let Some(active) = slot
                .active
                .as_ref()
                .filter(|active| !active.run.abandoned())
            {
                let lease = active.run.lease();
                started.push(Started {
                    lease,
                    slot: index,
                    at: active.started_at,
                });
            }
        }
        Collected {
            started,
            finished: mem::take(&mut state.finished),
            refused: mem::take(&mut state.refused),
            returned: mem::take(&mut state.returned),
            levels: state.levels(),
        }
    }

    /// Add claimed jobs to the buffer and wake one executor for them.
    pub(super) fn deliver(&self, runs: impl IntoIterator<Item = Arc<RunHandle>>) {
        let mut state = self.lock();
        state.buffer.extend(runs);
        let parkers = if state.buffer.is_empty() {
            Vec::new()
        } else {
            state.wake_idle(1)
        };
        drop(state);
        for parker in parkers {
            parker.unpark();
        }
    }

    pub(super) fn levels(&self) -> Levels {
        self.lock().levels()
    }

    /// Wake this many idle executors.
    pub(super) fn unpark(&self, count: usize) {
        let parkers = self.lock().wake_idle(count);
        for parker in parkers {
            parker.unpark();
        }
    }

    pub(super) fn recall(&self, recall: &Recall) -> Recalled {
        let mut state = self.lock();
        match recall {
            Recall::Unstarted => state.withdraw(|_| true),
            Recall::Queues(queues) => state.withdraw(|run| queues.contains(&run.job().queue)),
            Recall::Cancelled(leases) => {
                let recalled = state.reach(leases);
                recalled
                    .running
                    .iter()
                    .for_each(|(_, run)| run.request_cancel());
                recalled
            }
            Recall::Lost(leases) => {
                let recalled = state.reach(leases);
                recalled.running.iter().for_each(|(_, run)| run.abandon());
                recalled
            }
            Recall::TimedOut(leases) => state.retire(leases),
            Recall::Interrupted => {
                let running = state.active_runs(|_| true);
                running.iter().for_each(|(_, run)| run.abandon());
                Recalled {
                    unstarted: Vec::new(),
                    running,
                }
            }
        }
    }

    /// Note that the dispatcher goes to sleep, unless there is something for it to do already.
    pub(super) fn fall_asleep(&self, hints: SleepHints) -> bool {
        let now = self.now();
        let mut state = self.lock();
        state.asleep = Some(hints);
        let soon = state
            .fresh
            .iter()
            .any(|index| state.slots[*index].ends_before(hints.wake_at));
        !soon && !state.wakes_dispatcher(now, 0)
    }

    pub(super) fn wake_up(&self) {
        self.lock().asleep = None;
    }

    /// What the sleeping dispatcher listens to.
    pub(super) fn wake(&self) -> &Notify {
        &self.wake
    }
}

impl SlotState {
    /// Whether a timeout of its run comes before `at`.
    fn ends_before(&self, at: i64) -> bool {
        self.active
            .as_ref()
            .is_some_and(|Active { run, started_at }| {
                let timeout = run.job().timeout_ms;
                timeout > 0 && started_at.saturating_add(timeout) < at
            })
    }
}

impl State {
    fn levels(&self) -> Levels {
        Levels {
            buffered: self.buffer.len(),
            present: self.present,
            running: self.running,
            parked: self.idle.len(),
            calls: self.calls,
            taken: self.taken,
        }
    }

    /// Move the slot's run, if it has one, to the finished ones.
    fn finish(&mut self, index: usize, report: Option<Report>, now: i64) {
        let slot = &mut self.slots[index];
        let Some(Active { run, started_at }) = slot.active.take() else {
            return;
        };
        if slot.presence == Presence::Present {
            self.running -= 1;
        }
        self.finished.push(Finished {
            run,
            slot: index,
            started_at,
            ended_at: now,
            report,
        });
    }

    /// Note that the slot's thread asks for work.
    fn arrive(&mut self, index: usize) {
        if self.slots[index].presence == Presence::Expected {
            self.slots[index].presence = Presence::Present;
            self.present += 1;
        }
    }

    fn take(&mut self, index: usize, now: i64) -> Taken {
        if self.closing || self.slots[index].presence != Presence::Present {
            self.leave(index);
            return Taken::Stopped;
        }
        while let Some(run) = self.buffer.pop_front() {
            if let Some(refusal) = run.refusal(now) {
                self.refused.push((run, refusal));
                continue;
            }
            self.unlist(index);
            self.taken += 1;
            self.running += 1;
            let slot = &mut self.slots[index];
            slot.active = Some(Active {
                run: Arc::clone(&run),
                started_at: now,
            });
            if !mem::replace(&mut slot.fresh, true) {
                self.fresh.push(index);
            }
            return Taken::Run(run);
        }
        if !mem::replace(&mut self.slots[index].idle, true) {
            self.idle.push(index);
        }
        Taken::Empty
    }

    /// The slot takes no more work.
    fn leave(&mut self, index: usize) {
        self.unlist(index);
        match mem::replace(&mut self.slots[index].presence, Presence::Gone) {
            Presence::Present => self.present -= 1,
            Presence::Retired => self.returned.push(index),
            Presence::Expected | Presence::Gone => {}
        }
    }

    /// Take the slot off the stack of idle ones.
    fn unlist(&mut self, index: usize) {
        if mem::replace(&mut self.slots[index].idle, false)
            && let Some(position) = self.idle.iter().rposition(|other| *other == index)
        {
            self.idle.remove(position);
        }
    }

    fn wake_idle(&mut self, count: usize) -> Vec<Arc<Parker>> {
        let kept = self.idle.len().saturating_sub(count);
        let woken = self.idle.split_off(kept);
        woken
            .into_iter()
            .rev()
            .map(|index| {
                let slot = &mut self.slots[index];
                slot.idle = false;
                Arc::clone(&slot.parker)
            })
            .collect()
    }

    /// Whether what has just happened is worth waking the dispatcher. True once per sleep.
    fn wakes_dispatcher(&mut self, now: i64, timeout_ms: i64) -> bool {
        let Some(hints) = self.asleep else {
            return false;
        };
        let reports = self.finished.len() + self.refused.len();
        let times_out = timeout_ms > 0 && now.saturating_add(timeout_ms) < hints.wake_at;
        let grouped = reports >= hints.group
            || (reports > 0 && (hints.first || self.buffer.is_empty()))
            || hints.low_water.is_some_and(|low| self.buffer.len() <= low);
        let wakes = times_out
            || self.present != hints.present
            || hints.calls.is_some_and(|calls| self.calls != calls)
            || !self.returned.is_empty()
            || (grouped && !hints.quiet);
        if wakes {
            self.asleep = None;
        }
        wakes
    }

    fn withdraw(&mut self, chosen: impl Fn(&RunHandle) -> bool) -> Recalled {
        let (unstarted, kept): (Vec<_>, Vec<_>) =
            self.buffer.drain(..).partition(|run| chosen(run));
        self.buffer = kept.into();
        Recalled {
            unstarted,
            running: Vec::new(),
        }
    }

    fn reach(&mut self, leases: &[Lease]) -> Recalled {
        let mut recalled = self.withdraw(|run| leases.contains(&run.lease()));
        recalled.running = self.active_runs(|run| leases.contains(&run.lease()));
        recalled
    }

    fn active_runs(&self, chosen: impl Fn(&RunHandle) -> bool) -> Vec<(usize, Arc<RunHandle>)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| {
                let run = &slot.active.as_ref()?.run;
                (!run.abandoned() && chosen(run)).then(|| (index, Arc::clone(run)))
            })
            .collect()
    }

    fn retire(&mut self, leases: &[(usize, Lease)]) -> Recalled {
        let mut recalled = Recalled::default();
        for (index, lease) in leases {
            let slot = &mut self.slots[*index];
            let Some(active) = slot
                .active
                .as_ref()
                .filter(|active| active.run.lease() == *lease)
            else {
                continue;
            };
            active.run.abandon();
            recalled.running.push((*index, Arc::clone(&active.run)));
            if slot.presence == Presence::Present {
                slot.presence = Presence::Retired;
                self.present -= 1;
                self.running -= 1;
            }
        }
        recalled
    }
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
