//! What the mutex of the handover protects: the buffers, the reports, and every slot.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use super::handover::{Levels, Recalled, SleepHints};
use super::parker::Parker;
use super::pool::{PerPool, Pool};
use super::run::{Finished, Refusal, Report, RunHandle};
use super::slot::Taken;
use crate::model::Lease;

#[derive(Default)]
pub(super) struct State {
    pub(super) pools: PerPool<Line>,
    pub(super) finished: Vec<Finished>,
    pub(super) refused: Vec<(Arc<RunHandle>, Refusal)>,
    pub(super) slots: Vec<SlotState>,
    /// Indexes of dropped slots, to be used again.
    pub(super) vacant: Vec<usize>,
    /// Slots that have started something since the last collection.
    pub(super) fresh: Vec<usize>,
    /// Retired slots whose thread has come back or ended since the last collection.
    pub(super) returned: Vec<usize>,
    pub(super) closing: bool,
    /// Set while the dispatcher sleeps: what has to happen for it to be woken.
    pub(super) asleep: Option<SleepHints>,
}

/// The jobs and the slots of one pool.
#[derive(Default)]
pub(super) struct Line {
    pub(super) buffer: VecDeque<Arc<RunHandle>>,
    /// Slots without work, the latest last; it is the first to be woken.
    pub(super) idle: Vec<usize>,
    pub(super) present: usize,
    pub(super) running: usize,
    pub(super) calls: u64,
    pub(super) taken: u64,
}

impl Line {
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
}

pub(super) struct SlotState {
    pub(super) pool: Pool,
    pub(super) parker: Arc<Parker>,
    pub(super) active: Option<Active>,
    pub(super) presence: Presence,
    pub(super) fresh: bool,
    pub(super) idle: bool,
}

pub(super) struct Active {
    pub(super) run: Arc<RunHandle>,
    pub(super) started_at: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Its thread has not asked for work yet, or not since it paused.
    Expected,
    Present,
    /// Abandoned with the run that it cannot end; another slot replaces it.
    Retired,
    /// Dropped, or told to end after it was retired.
    Gone,
}

impl SlotState {
    /// Whether a timeout of its run comes before `at`.
    pub(super) fn ends_before(&self, at: i64) -> bool {
        self.active
            .as_ref()
            .is_some_and(|Active { run, started_at }| {
                let timeout = run.job().timeout_ms;
                timeout > 0 && started_at.saturating_add(timeout) < at
            })
    }
}

impl State {
    pub(super) fn levels(&self) -> PerPool<Levels> {
        PerPool::each(|pool| self.pools[pool].levels())
    }

    fn line(&mut self, index: usize) -> &mut Line {
        let pool = self.slots[index].pool;
        &mut self.pools[pool]
    }

    /// Move the slot's run, if it has one, to the finished ones.
    pub(super) fn finish(&mut self, index: usize, report: Option<Report>, now: i64) {
        let slot = &mut self.slots[index];
        let Some(Active { run, started_at }) = slot.active.take() else {
            return;
        };
        if slot.presence == Presence::Present {
            self.pools[slot.pool].running -= 1;
        }
        self.finished.push(Finished {
            run,
            slot: index,
            started_at,
            ended_at: now,
            report,
        });
    }

    pub(super) fn count_call(&mut self, index: usize) {
        self.line(index).calls += 1;
    }

    /// Note that the slot's thread asks for work.
    pub(super) fn arrive(&mut self, index: usize) {
        if self.slots[index].presence == Presence::Expected {
            self.slots[index].presence = Presence::Present;
            self.line(index).present += 1;
        }
    }

    /// The slot is out of service until its thread asks for work; false if it would get none.
    pub(super) fn pause(&mut self, index: usize) -> bool {
        if self.slots[index].presence == Presence::Present {
            self.slots[index].presence = Presence::Expected;
            self.line(index).present -= 1;
        }
        !self.closing && self.slots[index].presence == Presence::Expected
    }

    pub(super) fn take(&mut self, index: usize, now: i64) -> Taken {
        if self.closing || self.slots[index].presence != Presence::Present {
            self.leave(index);
            return Taken::Stopped;
        }
        while let Some(run) = self.line(index).buffer.pop_front() {
            if let Some(refusal) = run.refusal(now) {
                self.refused.push((run, refusal));
                continue;
            }
            self.unlist(index);
            let line = self.line(index);
            line.taken += 1;
            line.running += 1;
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
            self.line(index).idle.push(index);
        }
        Taken::Empty
    }

    /// The slot takes no more work.
    pub(super) fn leave(&mut self, index: usize) {
        self.unlist(index);
        match mem::replace(&mut self.slots[index].presence, Presence::Gone) {
            Presence::Present => self.line(index).present -= 1,
            Presence::Retired => self.returned.push(index),
            Presence::Expected | Presence::Gone => {}
        }
    }

    /// Take the slot off the stack of idle ones.
    pub(super) fn unlist(&mut self, index: usize) {
        if mem::replace(&mut self.slots[index].idle, false) {
            let idle = &mut self.line(index).idle;
            if let Some(position) = idle.iter().rposition(|other| *other == index) {
                idle.remove(position);
            }
        }
    }

    pub(super) fn wake_idle(&mut self, pool: Pool, count: usize) -> Vec<Arc<Parker>> {
        let idle = &mut self.pools[pool].idle;
        let kept = idle.len().saturating_sub(count);
        let woken = idle.split_off(kept);
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
    pub(super) fn wakes_dispatcher(&mut self, now: i64, timeout_ms: i64) -> bool {
        let Some(hints) = self.asleep else {
            return false;
        };
        let reports = self.finished.len() + self.refused.len();
        let times_out = timeout_ms > 0 && now.saturating_add(timeout_ms) < hints.wake_at;
        let mut lines = Pool::ALL
            .map(|pool| (&self.pools[pool], &hints.pools[pool]))
            .into_iter();
        let drained = self.pools.iter().all(|line| line.buffer.is_empty());
        let grouped = reports >= hints.group
            || (reports > 0 && (hints.first || drained))
            || lines
                .clone()
                .any(|(line, hints)| hints.low_water.is_some_and(|low| line.buffer.len() <= low));
        let wakes = times_out
            || lines.any(|(line, hints)| {
                line.present != hints.present
                    || hints.calls.is_some_and(|calls| line.calls != calls)
            })
            || !self.returned.is_empty()
            || (grouped && !hints.quiet);
        if wakes {
            self.asleep = None;
        }
        wakes
    }

    pub(super) fn withdraw(&mut self, chosen: impl Fn(&RunHandle) -> bool) -> Recalled {
        let mut recalled = Recalled::default();
        for line in self.pools.iter_mut() {
            let (unstarted, kept): (Vec<_>, Vec<_>) =
                line.buffer.drain(..).partition(|run| chosen(run));
            line.buffer = kept.into();
            recalled.unstarted.extend(unstarted);
        }
        recalled
    }

    pub(super) fn reach(&mut self, leases: &[Lease]) -> Recalled {
        let mut recalled = self.withdraw(|run| leases.contains(&run.lease()));
        recalled.running = self.active_runs(|run| leases.contains(&run.lease()));
        recalled
    }

    pub(super) fn active_runs(
        &self,
        chosen: impl Fn(&RunHandle) -> bool,
    ) -> Vec<(usize, Arc<RunHandle>)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| {
                let run = &slot.active.as_ref()?.run;
                (!run.abandoned() && chosen(run)).then(|| (index, Arc::clone(run)))
            })
            .collect()
    }

    pub(super) fn retire(&mut self, leases: &[(usize, Lease)]) -> Recalled {
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
                let line = &mut self.pools[slot.pool];
                line.present -= 1;
                line.running -= 1;
            }
        }
        recalled
    }
}
