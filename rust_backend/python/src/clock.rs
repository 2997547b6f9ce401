//! `VirtualClock`: the engine's own, set from Python, so that a store never calls Python for the time.

use pyo3::prelude::*;
use taskito_engine::clock::{Clock, VirtualClock as EngineClock};

/// A clock that a test moves by hand; copies share one time.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct VirtualClock {
    pub(crate) clock: EngineClock,
}

#[pymethods]
impl VirtualClock {
    /// The default is midnight, 1 January 2026, UTC.
    #[new]
    #[pyo3(signature = (wall_ms = 1_767_225_600_000))]
    fn new(wall_ms: i64) -> Self {
        Self {
            clock: EngineClock::new(wall_ms),
        }
    }

    /// Return milliseconds since the Unix epoch.
    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }

    /// Return milliseconds of a clock that nobody can set.
    fn steady_ms(&self) -> i64 {
        self.clock.steady_ms()
    }

    /// Let time pass: both times move.
    fn advance(&self, milliseconds: i64) {
        self.clock.advance(milliseconds);
    }

    /// Set the wall clock, forward or back; the steady time stays.
    fn set_wall(&self, wall_ms: i64) {
        self.clock.set_wall(wall_ms);
    }
}
