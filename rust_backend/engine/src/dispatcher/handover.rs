//! The place where executor threads and the dispatcher thread meet.
//!
//! One mutex protects the delivered jobs, the reports and what each slot runs. It is held for a few
//! instructions only: no call of a store, no wait and no Python happens under it, so an executor may
//! take it without giving up the interpreter.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::board::{Presence, SlotState, State};
use super::parker::Parker;
use super::pool::{PerPool, Pool};
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

/// What wakes a sleeping dispatcher before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SleepHints {
    /// When it wakes by itself; a run whose timeout comes earlier wakes it.
    pub(super) wake_at: i64,
    /// This many reports.
    pub(super) group: usize,
    /// The first report, which begins a group.
    pub(super) first: bool,
    /// The store is away: reports can wait.
    pub(super) quiet: bool,
    pub(super) pools: PerPool<PoolHints>,
}

/// What of one pool wakes the dispatcher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PoolHints {
    /// So few jobs left in the buffer.
    pub(super) low_water: Option<usize>,
    /// Any sign of life of an executor since it had asked for work so often.
    pub(super) calls: Option<u64>,
    /// Another number of slots in service than this.
    pub(super) present: usize,
}

/// How full one pool is.
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
    pub(super) levels: PerPool<Levels>,
}

/// Which runs are to be taken back from the executors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recall {
    /// Everything that has not started.
    Unstarted,
    /// What has not started, of one pool.
    Pool(Pool),
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
    pub(super) fn add_slot(&self, pool: Pool, parker: Arc<Parker>) -> usize {
        let mut state = self.lock();
        let slot = SlotState {
            pool,
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
        state.count_call(index);
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

    /// Report how the slot's run ended, and take no other until its thread asks for one; false if
    /// it would get none.
    pub(super) fn pause(&self, index: usize, report: Option<Report>) -> bool {
        let now = self.now();
        let mut state = self.lock();
        state.finish(index, report, now);
        let goes_on = state.pause(index);
        drop(state);
        self.wake.notify_one();
        goes_on
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
        let parkers = Pool::ALL.map(|pool| state.wake_idle(pool, usize::MAX));
        drop(state);
        for parker in parkers.iter().flatten() {
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

    /// Add claimed jobs to the buffers and wake one executor of each pool that has work.
    pub(super) fn deliver(&self, runs: impl IntoIterator<Item = Arc<RunHandle>>) {
        let mut state = self.lock();
        for run in runs {
            state.pools[run.pool()].buffer.push_back(run);
        }
        let parkers = Pool::ALL.map(|pool| {
            let waits = usize::from(!state.pools[pool].buffer.is_empty());
            state.wake_idle(pool, waits)
        });
        drop(state);
        for parker in parkers.iter().flatten() {
            parker.unpark();
        }
    }

    pub(super) fn levels(&self) -> PerPool<Levels> {
        self.lock().levels()
    }

    /// Wake this many idle executors of a pool.
    pub(super) fn unpark(&self, pool: Pool, count: usize) {
        let parkers = self.lock().wake_idle(pool, count);
        for parker in parkers {
            parker.unpark();
        }
    }

    pub(super) fn recall(&self, recall: &Recall) -> Recalled {
        let mut state = self.lock();
        match recall {
            Recall::Unstarted => state.withdraw(|_| true),
            Recall::Pool(pool) => state.withdraw(|run| run.pool() == *pool),
            Recall::Queues(queues) => state.withdraw(|run| queues.contains(&run.job().queue)),
            Recall::Cancelled(leases) => {
                let recalled = state.reach(leases);
                for (_, run) in &recalled.running {
                    run.request_cancel();
                }
                recalled
            }
            Recall::Lost(leases) => {
                let recalled = state.reach(leases);
                for (_, run) in &recalled.running {
                    run.abandon();
                }
                recalled
            }
            Recall::TimedOut(leases) => state.retire(leases),
            Recall::Interrupted => {
                let running = state.active_runs(|_| true);
                for (_, run) in &running {
                    run.abandon();
                }
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

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
