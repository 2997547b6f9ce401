//! `Run`: one attempt in the hands of an executor thread.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyTuple};
use taskito_engine::dispatcher::RunHandle;

use crate::convert::build::tuple;

/// One attempt that an executor slot has taken and must report on.
///
/// Its attributes become Python objects when they are read; a task that looks at none of them pays
/// for its payload only.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct Run {
    handle: Arc<RunHandle>,
    id: PyOnceLock<Py<PyString>>,
}

impl Run {
    pub(crate) fn new(handle: Arc<RunHandle>) -> Self {
        Self {
            handle,
            id: PyOnceLock::new(),
        }
    }
}

#[pymethods]
impl Run {
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let text = || PyString::new(py, &self.handle.job().lease.id.to_string()).unbind();
        self.id.get_or_init(py, text).bind(py).clone()
    }

    #[getter]
    fn token(&self) -> i64 {
        self.handle.job().lease.token
    }

    #[getter]
    fn task(&self) -> &str {
        &self.handle.job().task
    }

    #[getter]
    fn queue(&self) -> &str {
        &self.handle.job().queue
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.handle.job().payload)
    }

    #[getter]
    fn serializer(&self) -> &str {
        &self.handle.job().serializer
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.handle
            .job()
            .metadata
            .as_deref()
            .map(|bytes| PyBytes::new(py, bytes))
    }

    #[getter]
    fn attempt(&self) -> i64 {
        self.handle.job().attempt
    }

    #[getter]
    fn max_retries(&self) -> i64 {
        self.handle.job().max_retries
    }

    #[getter]
    fn priority(&self) -> i64 {
        self.handle.job().priority
    }

    #[getter]
    fn timeout_ms(&self) -> i64 {
        self.handle.job().timeout_ms
    }

    /// The schedule whose fire made the job.
    #[getter]
    fn schedule(&self) -> Option<&str> {
        let fire = self.handle.job().fire.as_ref();
        fire.map(|fire| fire.schedule.as_str())
    }

    #[getter]
    fn fire_ms(&self) -> Option<i64> {
        self.handle.job().fire.as_ref().map(|fire| fire.at_ms)
    }

    /// How the jobs ended whose results it takes.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        tuple(py, &self.handle.job().inputs)
    }

    /// Whether somebody asked for the cancellation of this job.
    fn cancel_requested(&self) -> bool {
        self.handle.cancel_requested()
    }

    /// Whether the attempt is over (timeout, lost lease): its outcome will be refused.
    fn abandoned(&self) -> bool {
        self.handle.abandoned()
    }
}
