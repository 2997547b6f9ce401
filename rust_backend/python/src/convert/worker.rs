//! `WorkerRegistration` in both directions, and `WorkerRecord`.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use taskito_engine::model::{WorkerRecord, WorkerRegistration};

use super::build::{ToPython, tuple};
use super::field::Place;
use super::limits;

impl ToPython for WorkerRegistration {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            worker_registration {
                id: &self.id,
                pid: self.pid,
                host: &self.host,
                queues: self
                    .queues
                    .as_ref()
                    .map(|queues| PyTuple::new(py, queues))
                    .transpose()?,
                tasks: PyTuple::new(py, &self.tasks)?,
                lease_ms: self.lease_ms,
                concurrency: self.concurrency,
                schedules: PyTuple::new(py, &self.schedules)?,
                limits: tuple(py, &self.limits)?,
                dead_letters: self.dead_letters.to_python(py)?,
            }
        )
    }
}

impl ToPython for WorkerRecord {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            worker_record {
                id: &self.id,
                pid: self.pid,
                host: &self.host,
                queues: self
                    .queues
                    .as_ref()
                    .map(|queues| PyTuple::new(py, queues))
                    .transpose()?,
                tasks: PyTuple::new(py, &self.tasks)?,
                started_ms: self.started_ms,
                running: self.running,
            }
        )
    }
}

/// Read a registration.
pub(crate) fn read(worker: &Bound<'_, PyAny>) -> PyResult<WorkerRegistration> {
    Ok(WorkerRegistration {
        id: field!(worker, id, Place::Whole),
        pid: field!(worker, pid, Place::Whole),
        host: field!(worker, host, Place::Whole),
        queues: field!(worker, queues, Place::Whole),
        tasks: field!(worker, tasks, Place::Whole),
        lease_ms: field!(worker, lease_ms, Place::Whole),
        concurrency: field!(worker, concurrency, Place::Whole),
        schedules: field!(worker, schedules, Place::Whole),
        limits: field_items!(worker, limits, "limit", limits::read_task),
        dead_letters: field!(worker, dead_letters, Place::Whole),
    })
}
