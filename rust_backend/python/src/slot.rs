//! `Slot`: the place of one executor.

use pyo3::prelude::*;
use taskito_engine::dispatcher::{Slot as EngineSlot, Taken};

use crate::gil::SLICE;
use crate::report;
use crate::run::Run;

/// The place of one executor thread, or of one job on an event loop. Not shared between threads.
///
/// A second thread that uses it at the same time gets a `RuntimeError`.
#[pyclass(module = "taskito._core")]
pub(crate) struct Slot {
    slot: EngineSlot,
    stopped: bool,
}

impl Slot {
    pub(crate) fn new(slot: EngineSlot) -> Self {
        Self {
            slot,
            stopped: false,
        }
    }
}

#[pymethods]
impl Slot {
    /// Report how the last run ended (None at first) and take the next one.
    ///
    /// Blocks without the interpreter while there is nothing to run. None means: end this thread.
    /// ``idle`` is called about ten times a second meanwhile.
    #[pyo3(signature = (outcome, idle = None))]
    fn next(
        &mut self,
        py: Python<'_>,
        outcome: Option<&Bound<'_, PyAny>>,
        idle: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Run>> {
        let mut report = outcome.map(report::read).transpose()?;
        loop {
            // The hand-over keeps the interpreter: giving it up and taking it again would cost more
            // than everything else here. It is given up only to sleep.
            match self.slot.try_next(report.take()) {
                Taken::Run(handle) => return Ok(Some(Run::new(handle))),
                Taken::Stopped => {
                    self.stopped = true;
                    return Ok(None);
                }
                Taken::Empty => {
                    let slot = &self.slot;
                    py.detach(|| slot.park(SLICE));
                    py.check_signals()?;
                    if let Some(idle) = idle {
                        idle.call0()?;
                    }
                }
            }
        }
    }

    /// Report how the last run ended without taking another one.
    ///
    /// Until the call of ``next`` that follows this executor counts as out of service. False: that
    /// would return None.
    #[pyo3(signature = (outcome))]
    fn report(&mut self, outcome: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        Ok(self.slot.report(outcome.map(report::read).transpose()?))
    }

    /// Report how the last run ended (None at first) and take the next one, without blocking.
    ///
    /// None means that there is nothing to run now, or no more at all: ``stopped`` tells.
    fn try_next(&mut self, outcome: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Run>> {
        let report = outcome.map(report::read).transpose()?;
        match self.slot.try_next(report) {
            Taken::Run(handle) => Ok(Some(Run::new(handle))),
            Taken::Empty => Ok(None),
            Taken::Stopped => {
                self.stopped = true;
                Ok(None)
            }
        }
    }

    /// The number by which notices name it; used again after it is gone.
    #[getter]
    fn index(&self) -> usize {
        self.slot.index()
    }

    /// Whether it will get no more work.
    #[getter]
    fn stopped(&self) -> bool {
        self.stopped
    }
}
