//! Time, as the store sees it.
//!
//! Wall time decides due times, expiry and retention. Steady time decides leases: nobody can set it,
//! and all processes of a host share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::platform;

/// A source of both times, in milliseconds.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn wall_ms(&self) -> i64;
    /// Milliseconds since the host started, suspended time included.
    fn steady_ms(&self) -> i64;
    /// Whether this is the time of the host: only then does what the host is late with, such as a
    /// lock that was away, say anything about a lease.
    fn is_of_host(&self) -> bool;
}

/// The clocks of the host.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ms(&self) -> i64 {
        platform::wall_ms()
    }

    fn steady_ms(&self) -> i64 {
        platform::boottime_ms()
    }

    fn is_of_host(&self) -> bool {
        true
    }
}

/// A clock that a test moves by hand; clones share one time.
#[derive(Debug, Clone)]
pub struct VirtualClock {
    wall: Arc<AtomicI64>,
    steady: Arc<AtomicI64>,
}

impl VirtualClock {
    /// A clock that shows `wall_ms` and a steady time of one second.
    #[must_use]
    pub fn new(wall_ms: i64) -> Self {
        Self {
            wall: Arc::new(AtomicI64::new(wall_ms)),
            steady: Arc::new(AtomicI64::new(1_000)),
        }
    }

    /// Let time pass: both times move.
    pub fn advance(&self, by_ms: i64) {
        self.wall.fetch_add(by_ms, Ordering::SeqCst);
        self.steady.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Set the wall clock, forward or back; the steady time stays.
    pub fn set_wall(&self, wall_ms: i64) {
        self.wall.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn wall_ms(&self) -> i64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn steady_ms(&self) -> i64 {
        self.steady.load(Ordering::SeqCst)
    }

    fn is_of_host(&self) -> bool {
        false
    }
}
