//! `Slot`: the place of one executor thread.

use pyo3::prelude::*;
use taskito_engine::dispatcher::{Slot as EngineSlot, Taken};

use crate::gil::SLICE;
use crate::report;
use crate::run::Run;

/// The place of one executor thread. Not shared between threads.
///
/// A second thread that uses it at the same time gets a `RuntimeError`.
#[pyclass(module = "taskito._core")]
pub(crate) struct Slot {
    slot: EngineSlot,
}

impl Slot {
    pub(crate) fn new(slot: EngineSlot) -> Self {
        Self { slot }
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
                Taken::Stopped => return Ok(None),
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
}
