//! What the machine knows about the executors of one pool, and how many jobs it wants for them.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::handover::{Levels, PoolHints};
use super::super::pool::{PerPool, Pool};
use super::pace::Pace;

/// Delivered jobs go back to the store when nobody could take them for so long.
pub(super) const STALL_MS: i64 = 200;

/// The tasks to ask the store for, for each pool: `coroutines`, and the others. `None` means all that
/// the worker knows.
pub(in super::super) fn divide(
    tasks: &[String],
    coroutines: &HashSet<String>,
) -> PerPool<Option<Arc<[String]>>> {
    PerPool::each(|pool| {
        if pool == Pool::Functions && coroutines.is_empty() {
            return None;
        }
        let of_pool = |task: &&String| coroutines.contains(*task) == (pool == Pool::Coroutines);
        Some(tasks.iter().filter(of_pool).cloned().collect())
    })
}

#[derive(Debug)]
pub(super) struct PoolState {
    pub(super) levels: Levels,
    pace: Pace,
    /// The store may have more jobs for this pool.
    pub(super) backlog: bool,
    /// When an executor last asked for work while some was there, and its count of calls then.
    last_call: (u64, i64),
    last_delivery_at: i64,
    /// No executor has shown life since it had asked so often.
    stalled: Option<u64>,
}

impl Default for PoolState {
    fn default() -> Self {
        Self {
            levels: Levels::default(),
            pace: Pace::default(),
            backlog: true,
            last_call: (0, 0),
            last_delivery_at: 0,
            stalled: None,
        }
    }
}

impl PoolState {
    /// Take in how full the pool is now, and how long the runs took that have ended.
    pub(super) fn observe(
        &mut self,
        now: i64,
        levels: Levels,
        run_times: impl Iterator<Item = i64>,
    ) {
        let busy = self.levels.running > 0 || self.levels.buffered > 0;
        self.pace.observe(now, busy, run_times);
        self.levels = levels;
        if levels.buffered == 0 || levels.calls != self.last_call.0 {
            self.last_call = (levels.calls, now);
        }
        if self.stalled.is_some_and(|calls| calls != levels.calls) {
            self.stalled = None;
            self.backlog = true;
        }
    }

    /// Note that so many jobs were put in front of the executors.
    pub(super) fn delivered(&mut self, now: i64, jobs: usize) {
        if self.levels.buffered == 0 {
            self.last_call.1 = now;
        }
        self.last_delivery_at = now;
        self.levels.buffered += jobs;
    }

    /// Jobs to ask for: what free slots can start, and a little ahead of them.
    pub(super) fn want(&self) -> usize {
        if self.stalled.is_some() {
            return 0;
        }
        (self.free() + self.pace.prefetch()).saturating_sub(self.levels.buffered)
    }

    /// Executors that will ask for work before anything else can give it to them.
    pub(super) fn idle(&self) -> usize {
        self.free().saturating_sub(self.levels.buffered)
    }

    fn free(&self) -> usize {
        self.levels.present.saturating_sub(self.levels.running)
    }

    /// Whether the store may have jobs for executors that will soon have none.
    pub(super) fn is_hungry(&self) -> bool {
        self.backlog && self.want() > 0 && self.levels.buffered <= self.low_water()
    }

    /// The buffer is filled again when so few jobs are left in it.
    fn low_water(&self) -> usize {
        self.pace.prefetch() / 2
    }

    pub(super) fn hints(&self, claims: bool) -> PoolHints {
        let low = self.low_water();
        let drains = claims && self.backlog && self.levels.buffered > low;
        PoolHints {
            low_water: drains.then_some(low),
            calls: self.stalled,
            present: self.levels.present,
        }
    }

    /// When delivered jobs that nobody takes go back, so that another worker can have them.
    pub(super) fn gives_back_at(&self) -> Option<i64> {
        if self.levels.buffered == 0 || self.stalled.is_some() {
            return None;
        }
        let silent = self.last_call.1 + STALL_MS;
        Some(if self.pace.prefetch() == 0 {
            silent.min(self.last_delivery_at + STALL_MS)
        } else {
            silent
        })
    }

    /// Whether it is time to take the delivered jobs back; they count as taken back then.
    pub(super) fn gives_back(&mut self, now: i64) -> bool {
        if self.gives_back_at().is_none_or(|at| at > now) {
            return false;
        }
        if self.last_call.1 + STALL_MS <= now {
            self.stalled = Some(self.levels.calls);
        }
        self.pace.forget();
        self.levels.buffered = 0;
        true
    }
}
