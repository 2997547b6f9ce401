//! `Bell`: wakes an event loop when there is work for it.

use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::prelude::*;
use taskito_engine::dispatcher::Bell as EngineBell;

/// A descriptor that becomes readable when there may be work for the slots of an event loop.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct Bell {
    bell: Arc<EngineBell>,
}

impl Bell {
    pub(crate) fn inside(&self) -> &Arc<EngineBell> {
        &self.bell
    }
}

#[pymethods]
impl Bell {
    #[new]
    fn new() -> PyResult<Self> {
        let bell = Arc::new(EngineBell::new()?);
        Ok(Self { bell })
    }

    /// The descriptor, for ``loop.add_reader``.
    fn fileno(&self) -> RawFd {
        self.bell.descriptor()
    }

    /// Take note of the rings so far; ask the slots for work after this.
    fn clear(&self) {
        self.bell.clear();
    }
}
