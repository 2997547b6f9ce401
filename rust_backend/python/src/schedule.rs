//! `CronSchedule`: when a line fires, for the Python API and for backends written in Python.

use pyo3::prelude::*;
use taskito_engine::schedule::Schedule;

use crate::errors;

/// A cron line in a time zone.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct CronSchedule {
    schedule: Schedule,
}

#[pymethods]
impl CronSchedule {
    #[new]
    #[pyo3(signature = (line, timezone = "UTC"))]
    fn new(py: Python<'_>, line: &str, timezone: &str) -> PyResult<Self> {
        Schedule::parse(line, timezone)
            .map(|schedule| Self { schedule })
            .map_err(|error| errors::to_python(py, &error))
    }

    /// Return the first fire after an instant; None if there is none before the year 2100.
    fn next_after(&self, after_ms: i64) -> Option<i64> {
        self.schedule.next_after(after_ms)
    }
}
