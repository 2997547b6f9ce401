//! `ExchangeReply`, in both directions.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use taskito_engine::model::{ExchangeReply, Verdict};

use super::build::{all, tuple};
use super::field::Place;
use super::ids::{self, AskedIds};
use super::{claimed_job, lease};

/// Build the answer to a request of which the engine has seen only what can concern a job.
///
/// `is_settled` and `lost` are those of [`super::exchange_request::AskedExchange`].
pub(crate) fn to_python<'py>(
    py: Python<'py>,
    reply: ExchangeReply,
    is_settled: &[bool],
    lost: Vec<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let verdicts = AskedIds::spread(is_settled, reply.verdicts, &Verdict::Gone);
    let mut all_lost = all(py, &reply.lost)?;
    all_lost.extend(lost.into_iter().map(|lease| lease.into_bound(py)));
    build!(
        py,
        exchange_reply {
            verdicts: tuple(py, &verdicts)?,
            jobs: tuple(py, &reply.jobs)?,
            lost: PyTuple::new(py, &all_lost)?,
            cancel_requests: PyTuple::new(py, ids::texts(&reply.cancel_requests))?,
            paused: PyTuple::new(py, &reply.paused)?,
            next_due_ms: reply.next_due_ms,
        }
    )
}

/// Read what a Python backend answered.
pub(crate) fn read(reply: &Bound<'_, PyAny>) -> PyResult<ExchangeReply> {
    Ok(ExchangeReply {
        verdicts: field!(reply, verdicts, Place::Whole),
        jobs: field_items!(reply, jobs, "job", claimed_job::read),
        lost: field_items!(reply, lost, "lost lease", lease::read_strict),
        cancel_requests: field!(reply, cancel_requests, Place::Whole),
        paused: field!(reply, paused, Place::Whole),
        next_due_ms: field!(reply, next_due_ms, Place::Whole),
    })
}
