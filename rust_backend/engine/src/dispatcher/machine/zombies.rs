//! Slots that are stuck in a run that was abandoned.

use std::collections::HashMap;

use super::super::pool::Pool;

/// An abandoned run gets so long to end before its slot counts as stuck: a coroutine is cancelled and
/// a child process killed meanwhile.
const GRACE_MS: i64 = 1_000;

#[derive(Debug)]
struct Zombie {
    pool: Pool,
    name: String,
    stuck_at: i64,
}

#[derive(Debug, Default)]
pub(super) struct Zombies {
    of_slots: HashMap<usize, Zombie>,
    looked_at: i64,
}

impl Zombies {
    pub(super) fn add(&mut self, now: i64, slot: usize, pool: Pool, name: String) {
        let stuck_at = now.saturating_add(GRACE_MS);
        self.of_slots.insert(
            slot,
            Zombie {
                pool,
                name,
                stuck_at,
            },
        );
    }

    /// The run has ended after all.
    pub(super) fn remove(&mut self, slot: usize) {
        self.of_slots.remove(&slot);
    }

    /// When the next one will count as stuck.
    pub(super) fn at(&self) -> i64 {
        let zombies = self.of_slots.values();
        zombies
            .map(|zombie| zombie.stuck_at)
            .filter(|at| *at > self.looked_at)
            .min()
            .unwrap_or(i64::MAX)
    }

    pub(super) fn looked_at(&mut self, now: i64) {
        self.looked_at = now;
    }

    /// What the stuck slots of a pool run.
    pub(super) fn names(&self, now: i64, pool: Pool) -> Vec<String> {
        self.of_slots
            .values()
            .filter(|zombie| zombie.pool == pool && zombie.stuck_at <= now)
            .map(|zombie| zombie.name.clone())
            .collect()
    }
}
