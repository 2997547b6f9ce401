//! What inspection returns: `JobRecord` with its history, `Page`, `Count`, `LogRecord`.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use taskito_engine::id::JobId;
use taskito_engine::model::{Count, ErrorRecord, JobRecord, LogRecord, Page};

use super::build::{ToPython, tuple};
use super::ids;

impl ToPython for JobRecord {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            job_record {
                id: self.id.to_string(),
                task: &self.task,
                queue: &self.queue,
                namespace: &self.namespace,
                state: self.state.to_python(py)?,
                why: self.why.map(|why| why.to_python(py)).transpose()?,
                priority: self.priority,
                attempt: self.attempt,
                crashes: self.crashes,
                max_retries: self.max_retries,
                max_crashes: self.max_crashes,
                timeout_ms: self.timeout_ms,
                created_ms: self.created_ms,
                due_ms: self.due_ms,
                expires_ms: self.expires_ms,
                started_ms: self.started_ms,
                finished_ms: self.finished_ms,
                progress: self.progress,
                run: self.run,
                worker: self.worker.as_deref(),
                unique_key: self.unique_key.as_deref(),
                concurrency_key: self.concurrency_key.as_deref(),
                limited_by: self.limited_by.map(|by| by.to_python(py)).transpose()?,
                metadata: self
                    .metadata
                    .as_deref()
                    .map(|bytes| PyBytes::new(py, bytes)),
                serializer: &self.serializer,
                payload: PyBytes::new(py, &self.payload),
                result: self.result.as_deref().map(|bytes| PyBytes::new(py, bytes)),
                result_serializer: self.result_serializer.as_deref(),
                reason: self.reason.as_deref(),
                cancel_requested: self.cancel_requested,
                original_id: self.original_id.as_ref().map(JobId::to_string),
                replayed_as: self.replayed_as.as_ref().map(JobId::to_string),
                schedule: self.fire.as_ref().map(|fire| &fire.schedule),
                fire_ms: self.fire.as_ref().map(|fire| fire.at_ms),
                dependencies: PyTuple::new(py, ids::texts(&self.dependencies))?,
                dependents: PyTuple::new(py, ids::texts(&self.dependents))?,
                waits_for: tuple(py, &self.waits_for)?,
                workflow: self.workflow.as_deref(),
                errors: tuple(py, &self.errors)?,
            }
        )
    }
}

impl ToPython for ErrorRecord {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            error_record {
                run: self.run,
                attempt: self.attempt,
                kind: self.kind.to_python(py)?,
                at_ms: self.at_ms,
                worker: &self.worker,
                detail: PyBytes::new(py, &self.detail),
            }
        )
    }
}

impl ToPython for Page {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            page {
                jobs: tuple(py, &self.jobs)?,
                next: self.next
            }
        )
    }
}

impl ToPython for Count {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            count {
                queue: &self.queue,
                task: &self.task,
                state: self.state.to_python(py)?,
                retrying: self.retrying,
                count: self.count,
            }
        )
    }
}

impl ToPython for LogRecord {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            log_record {
                run: self.run,
                at_ms: self.at_ms,
                level: &self.level,
                message: &self.message,
            }
        )
    }
}
