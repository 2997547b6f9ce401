//! `Notice`: something that a worker's owner should log or act on.

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use taskito_engine::dispatcher::Notice as EngineNotice;

use crate::errors;

/// Something that a worker's owner should log or act on.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct Notice {
    notice: EngineNotice,
}

impl Notice {
    pub(crate) fn new(notice: EngineNotice) -> Self {
        Self { notice }
    }
}

#[pymethods]
impl Notice {
    #[getter]
    fn kind(&self) -> &'static str {
        self.notice.kind.name()
    }

    #[getter]
    fn message(&self) -> &str {
        &self.notice.message
    }

    #[getter]
    fn job_id(&self) -> Option<String> {
        self.notice.job_id.map(|id| id.to_string())
    }

    #[getter]
    fn task(&self) -> Option<&str> {
        self.notice.task.as_deref()
    }

    #[getter]
    fn slot(&self) -> Option<usize> {
        self.notice.slot
    }

    #[getter]
    fn fatal(&self, py: Python<'_>) -> Option<Py<PyBaseException>> {
        let error = self.notice.fatal.as_ref()?;
        Some(errors::to_python(py, error).into_value(py))
    }
}
