//! `Outcome` and `Settlement`: how an attempt ended.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use taskito_engine::model::{Lease, Outcome, Settlement};

use super::build::{Classes, ToPython};
use super::field::{self, Place};
use super::lease;

impl ToPython for Outcome {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Success { result, serializer } => build!(
                py,
                outcome_success {
                    result: PyBytes::new(py, result),
                    serializer: &**serializer,
                }
            ),
            Self::Retry {
                error,
                kind,
                delay_ms,
            } => build!(
                py,
                outcome_retry {
                    error: PyBytes::new(py, error),
                    kind: kind.to_python(py)?,
                    delay_ms: delay_ms,
                }
            ),
            Self::Dead { error, kind } => build!(
                py,
                outcome_dead {
                    error: PyBytes::new(py, error),
                    kind: kind.to_python(py)?,
                }
            ),
            Self::Cancelled { reason } => build!(py, outcome_cancelled { reason: reason }),
            Self::Snooze { delay_ms } => build!(py, outcome_snooze { delay_ms: delay_ms }),
            Self::Release { interrupted } => {
                build!(
                    py,
                    outcome_release {
                        interrupted: interrupted
                    }
                )
            }
        }
    }
}

impl ToPython for Settlement {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            settlement {
                lease: self.lease.to_python(py)?,
                outcome: self.outcome.to_python(py)?,
                started_ago_ms: self.started_ago_ms,
            }
        )
    }
}

/// Read a settlement; `None` if its id cannot belong to a job.
pub(crate) fn read_settlement(
    settlement: &Bound<'_, PyAny>,
    place: Place,
) -> PyResult<Option<Settlement>> {
    let started_ago_ms = field!(settlement, started_ago_ms, place);
    let outcome = read(&attribute!(settlement, outcome, place), place)?;
    let lease: Option<Lease> = lease::read(&attribute!(settlement, lease, place), place)?;
    Ok(lease.map(|lease| Settlement {
        lease,
        outcome,
        started_ago_ms,
    }))
}

fn read(outcome: &Bound<'_, PyAny>, place: Place) -> PyResult<Outcome> {
    let py = outcome.py();
    let classes = Classes::get(py)?;
    let is = |class: &Py<PyAny>| outcome.is_instance(class.bind(py));
    if is(&classes.outcome_success)? {
        return Ok(Outcome::Success {
            result: field!(outcome, result, place),
            serializer: field!(outcome, serializer, place),
        });
    }
    if is(&classes.outcome_retry)? {
        return Ok(Outcome::Retry {
            error: field!(outcome, error, place),
            kind: field!(outcome, kind, place),
            delay_ms: field!(outcome, delay_ms, place),
        });
    }
    if is(&classes.outcome_dead)? {
        return Ok(Outcome::Dead {
            error: field!(outcome, error, place),
            kind: field!(outcome, kind, place),
        });
    }
    if is(&classes.outcome_cancelled)? {
        return Ok(Outcome::Cancelled {
            reason: field!(outcome, reason, place),
        });
    }
    if is(&classes.outcome_snooze)? {
        return Ok(Outcome::Snooze {
            delay_ms: field!(outcome, delay_ms, place),
        });
    }
    if is(&classes.outcome_release)? {
        return Ok(Outcome::Release {
            interrupted: field!(outcome, interrupted, place),
        });
    }
    let error = PyTypeError::new_err("not an outcome");
    Err(field::refused(
        outcome,
        "outcome",
        place,
        "one of the Outcome dataclasses",
        error,
    ))
}
