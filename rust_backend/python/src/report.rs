//! How an executor reports the end of a run: `Success`, `Failure`, `Snoozed`, `Aborted`.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use taskito_engine::dispatcher::Report;
use taskito_engine::model::ErrorKind;

use crate::convert::field::{self, Place};
use crate::errors;

/// The attempt ended well.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct Success {
    report: Report,
}

#[pymethods]
impl Success {
    #[new]
    fn new(result: &Bound<'_, PyBytes>, serializer: &str) -> Self {
        let result = Arc::from(result.as_bytes());
        Self {
            report: Report::Success {
                result,
                serializer: Arc::from(serializer),
            },
        }
    }
}

/// An attempt that did not succeed, as the executor reports it.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct Failure {
    report: Report,
}

#[pymethods]
impl Failure {
    #[new]
    #[pyo3(signature = (error, kind = "failure", retry = true, delay_ms = None))]
    fn new(
        error: &Bound<'_, PyBytes>,
        kind: &str,
        retry: bool,
        delay_ms: Option<i64>,
    ) -> PyResult<Self> {
        let kind = match kind {
            "failure" => ErrorKind::Failure,
            "rejected" => ErrorKind::Rejected,
            "timeout" => ErrorKind::Timeout,
            "crash" => ErrorKind::Crash,
            other => {
                let message =
                    format!("kind: '{other}' must be 'failure', 'timeout', 'rejected' or 'crash'");
                return Err(errors::configuration(error.py(), message));
            }
        };
        let error = Arc::from(error.as_bytes());
        Ok(Self {
            report: Report::Failure {
                error,
                kind,
                retry,
                delay_ms,
            },
        })
    }
}

/// The task asked to run again later.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct Snoozed {
    report: Report,
}

#[pymethods]
impl Snoozed {
    #[new]
    fn new(delay_ms: i64) -> Self {
        Self {
            report: Report::Snoozed { delay_ms },
        }
    }
}

/// The task stopped because its cancellation was asked for.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct Aborted {
    report: Report,
}

#[pymethods]
impl Aborted {
    #[new]
    fn new(reason: String) -> Self {
        Self {
            report: Report::Aborted { reason },
        }
    }
}

/// The report inside one of the four classes, most frequent first.
pub(crate) fn read(outcome: &Bound<'_, PyAny>) -> PyResult<Report> {
    if let Ok(success) = outcome.cast::<Success>() {
        return Ok(success.get().report.clone());
    }
    if let Ok(failure) = outcome.cast::<Failure>() {
        return Ok(failure.get().report.clone());
    }
    if let Ok(snoozed) = outcome.cast::<Snoozed>() {
        return Ok(snoozed.get().report.clone());
    }
    if let Ok(aborted) = outcome.cast::<Aborted>() {
        return Ok(aborted.get().report.clone());
    }
    let wanted = "Success, Failure, Snoozed, Aborted or None";
    let error = PyTypeError::new_err("not an outcome");
    Err(field::refused(
        outcome,
        "outcome",
        Place::Whole,
        wanted,
        error,
    ))
}
