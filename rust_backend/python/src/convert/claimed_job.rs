//! `ClaimedJob`: a job that a worker may run.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use taskito_engine::model::ClaimedJob;

use super::build::{ToPython, tuple};
use super::field::Place;
use super::{lease, schedule, workflow};

impl ToPython for ClaimedJob {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            claimed_job {
                lease: self.lease.to_python(py)?,
                task: &self.task,
                queue: &self.queue,
                payload: PyBytes::new(py, &self.payload),
                serializer: &self.serializer,
                metadata: self
                    .metadata
                    .as_deref()
                    .map(|bytes| PyBytes::new(py, bytes)),
                priority: self.priority,
                attempt: self.attempt,
                max_retries: self.max_retries,
                timeout_ms: self.timeout_ms,
                expires_in_ms: self.expires_in_ms,
                schedule: self.fire.as_ref().map(|fire| &fire.schedule),
                fire_ms: self.fire.as_ref().map(|fire| fire.at_ms),
                suspect: self.suspect,
                inputs: tuple(py, &self.inputs)?,
            }
        )
    }
}

/// Read what a Python backend hands out.
pub(crate) fn read(job: &Bound<'_, PyAny>, place: Place) -> PyResult<ClaimedJob> {
    Ok(ClaimedJob {
        lease: lease::read_strict(&attribute!(job, lease, place), place)?,
        task: field!(job, task, place),
        queue: field!(job, queue, place),
        payload: field!(job, payload, place),
        serializer: field!(job, serializer, place),
        metadata: field!(job, metadata, place),
        priority: field!(job, priority, place),
        attempt: field!(job, attempt, place),
        max_retries: field!(job, max_retries, place),
        timeout_ms: field!(job, timeout_ms, place),
        expires_in_ms: field!(job, expires_in_ms, place),
        fire: schedule::read_fire(job, place)?,
        suspect: field!(job, suspect, place),
        inputs: field_items!(job, inputs, "input", workflow::read_input),
    })
}
