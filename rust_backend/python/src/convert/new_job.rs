//! `NewJob` and `Enqueued`: what a producer hands in and gets back.

use pyo3::prelude::*;
use pyo3::types::PyString;
use taskito_engine::error::EngineError;
use taskito_engine::id::JobId;
use taskito_engine::model::{Condition, Dependency, Enqueued, NewJob};

use super::build::{Classes, ToPython};
use super::field::{self, Place, Value};
use crate::errors;

impl ToPython for Enqueued {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            enqueued {
                id: self.id.to_string(),
                duplicate: self.duplicate
            }
        )
    }
}

/// Read a batch.
pub(crate) fn read_batch(jobs: &Bound<'_, PyAny>) -> PyResult<Vec<NewJob>> {
    field::items(jobs)
        .map_err(|error| field::refused(jobs, "jobs", Place::Whole, "a sequence of NewJob", error))?
        .iter()
        .enumerate()
        .map(|(index, job)| read(job, Place::Item("item", index)))
        .collect()
}

/// Read one job.
pub(crate) fn read(job: &Bound<'_, PyAny>, place: Place) -> PyResult<NewJob> {
    Ok(NewJob {
        task: field!(job, task, place),
        queue: field!(job, queue, place),
        payload: field!(job, payload, place),
        serializer: field!(job, serializer, place),
        priority: field!(job, priority, place),
        delay_ms: field!(job, delay_ms, place),
        eta_ms: field!(job, eta_ms, place),
        expires_in_ms: field!(job, expires_in_ms, place),
        expires_at_ms: field!(job, expires_at_ms, place),
        max_retries: field!(job, max_retries, place),
        max_crashes: field!(job, max_crashes, place),
        timeout_ms: field!(job, timeout_ms, place),
        result_ttl_ms: field!(job, result_ttl_ms, place),
        unique_key: field!(job, unique_key, place),
        unique_until_start: field!(job, unique_until_start, place),
        idempotency_key: field!(job, idempotency_key, place),
        concurrency_key: field!(job, concurrency_key, place),
        id: field!(job, id, place),
        metadata: field!(job, metadata, place),
        fire: None,
        depends_on: field!(job, depends_on, place),
        workflow: field!(job, workflow, place),
    })
}

/// Text is the id of a stored job, a number counts items of the batch; a `Dependency` adds to one of
/// them the condition, and whether it is an input.
impl Value for Dependency {
    fn wanted() -> String {
        String::from("the id of a stored job, the index of an earlier item, or a Dependency")
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if Classes::get(value.py())?.is_dependency(value)? {
            let target = Self::read(&attribute!(value, job, Place::Whole))?;
            let condition: Condition = field!(value, condition, Place::Whole);
            let input: bool = field!(value, input, Place::Whole);
            return Ok(Self {
                condition,
                input,
                ..target
            });
        }
        if !value.is_instance_of::<PyString>() {
            return value.extract().map(Self::earlier);
        }
        let id: String = value.extract()?;
        JobId::parse(&id).map(Self::id).ok_or_else(|| {
            let unknown = EngineError::UnknownJob {
                field: "depends_on",
                id,
            };
            errors::to_python(value.py(), &unknown)
        })
    }
}
