//! Every claim that the worker holds: buffered, running, or ended and not yet stored.

use std::cmp;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::super::run::{RunHandle, Started};
use crate::id::JobId;
use crate::model::{Lease, Start};

/// The claims, with the timers that hang on them.
#[derive(Debug)]
pub(super) struct Leases {
    lease_ms: i64,
    held: HashMap<Lease, Held>,
    /// No lease was granted or renewed before this.
    oldest: i64,
    /// Observed runs by the end of their time: (end, token, id), with their slot.
    timeouts: BTreeMap<(i64, i64, JobId), usize>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) run: Arc<RunHandle>,
    pub(super) stage: Stage,
    renewed_at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// In the buffer, or started a moment ago.
    Delivered,
    Running {
        slot: usize,
        started_at: i64,
    },
    /// Waits for the store.
    Ended,
}

impl Leases {
    pub(super) fn new(lease_ms: i64) -> Self {
        Self {
            lease_ms,
            held: HashMap::new(),
            oldest: i64::MAX,
            timeouts: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn get(&self, lease: Lease) -> Option<&Held> {
        self.held.get(&lease)
    }

    /// The lease of this job, if it is held.
    pub(super) fn of_job(&self, id: JobId) -> Option<&Held> {
        self.held
            .values()
            .find(|held| held.run.lease().id == id && held.stage != Stage::Ended)
    }

    /// Hold a claim that was granted no earlier than `granted_at`; false if it is held already.
    pub(super) fn add(&mut self, run: Arc<RunHandle>, granted_at: i64) -> bool {
        let lease = run.lease();
        if self.held.contains_key(&lease) {
            return false;
        }
        self.oldest = cmp::min(self.oldest, granted_at);
        self.held.insert(
            lease,
            Held {
                run,
                stage: Stage::Delivered,
                renewed_at: granted_at,
            },
        );
        true
    }

    /// Note a start and watch its timeout; false if the lease is not held any more.
    pub(super) fn started(&mut self, start: Started) -> bool {
        let Some(held) = self.held.get_mut(&start.lease) else {
            return false;
        };
        held.stage = Stage::Running {
            slot: start.slot,
            started_at: start.at,
        };
        let timeout = held.run.job().timeout_ms;
        if timeout > 0 {
            let key = (
                start.at.saturating_add(timeout),
                start.lease.token,
                start.lease.id,
            );
            self.timeouts.insert(key, start.slot);
        }
        true
    }

    /// The run is over; false if the lease is not held, or its end is known already.
    pub(super) fn end(&mut self, lease: Lease) -> bool {
        let Some(held) = self
            .held
            .get_mut(&lease)
            .filter(|held| held.stage != Stage::Ended)
        else {
            return false;
        };
        let watched = watched(held);
        held.stage = Stage::Ended;
        if let Some(key) = watched {
            self.timeouts.remove(&key);
        }
        true
    }

    /// The lease is over, or settled.
    pub(super) fn remove(&mut self, lease: Lease) -> Option<Held> {
        let held = self.held.remove(&lease)?;
        if let Some(key) = watched(&held) {
            self.timeouts.remove(&key);
        }
        Some(held)
    }

    // Timeouts

    pub(super) fn next_timeout(&self) -> Option<i64> {
        self.timeouts.first_key_value().map(|((at, _, _), _)| *at)
    }

    /// Stop watching, and return, the runs whose time is over.
    pub(super) fn timed_out(&mut self, now: i64) -> Vec<(usize, Lease)> {
        let mut over = Vec::new();
        while let Some(entry) = self.timeouts.first_entry() {
            let (at, token, id) = *entry.key();
            if at > now {
                break;
            }
            over.push((entry.remove(), Lease { id, token }));
        }
        over
    }

    // Renewals

    /// When the first lease should be renewed: after a third of its time.
    pub(super) fn renewal_at(&self) -> i64 {
        if self.held.is_empty() {
            return i64::MAX;
        }
        self.oldest.saturating_add(self.lease_ms / 3)
    }

    /// The leases to renew now, but for those about to be settled.
    ///
    /// Those that would be due soon are taken along, so that renewals come in batches.
    pub(super) fn renewals(&self, now: i64, settled: &HashSet<Lease>) -> Vec<Lease> {
        if self.renewal_at() > now {
            return Vec::new();
        }
        let due_before = now - self.lease_ms / 4;
        let due = self
            .held
            .iter()
            .filter(|(_, held)| held.renewed_at <= due_before);
        due.map(|(lease, _)| *lease)
            .filter(|lease| !settled.contains(lease))
            .collect()
    }

    /// The store has extended these leases at `sent_at` or later.
    pub(super) fn renewed(&mut self, leases: &[Lease], sent_at: i64) {
        for lease in leases {
            if let Some(held) = self.held.get_mut(lease) {
                held.renewed_at = sent_at;
            }
        }
    }

    /// Find out which lease is the oldest, if the bound that is kept says that one is due.
    pub(super) fn refresh(&mut self, now: i64) {
        if self.renewal_at() <= now {
            self.oldest = self
                .held
                .values()
                .map(|held| held.renewed_at)
                .min()
                .unwrap_or(i64::MAX);
        }
    }

    // Starts

    /// The report of a start, if that run still runs.
    pub(super) fn start(&self, lease: Lease, now: i64) -> Option<Start> {
        match self.held.get(&lease)?.stage {
            Stage::Running { started_at, .. } => Some(Start {
                lease,
                ago_ms: (now - started_at).max(0),
            }),
            Stage::Delivered | Stage::Ended => None,
        }
    }
}

/// The key under which the timeout of a run is watched.
fn watched(held: &Held) -> Option<(i64, i64, JobId)> {
    let Stage::Running { started_at, .. } = held.stage else {
        return None;
    };
    let (lease, timeout) = (held.run.lease(), held.run.job().timeout_ms);
    (timeout > 0).then(|| (started_at.saturating_add(timeout), lease.token, lease.id))
}
