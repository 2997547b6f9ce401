//! `PyStore`: a backend written in Python, as the dispatcher sees it.
//!
//! One entry into the interpreter per operation, whatever the size of the batch. The calls come from
//! the dispatcher's thread, which has no Python of its own: the backend sees a fresh thread state
//! with every call, so what it keeps in `threading.local` does not last.

use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use taskito_engine::error::{EngineError, Result};
use taskito_engine::model::{
    ExchangeReply, ExchangeRequest, LockLease, MaintainReply, WorkerRegistration,
};
use taskito_engine::store::{LockStore, Store};

use crate::convert::build::{ToPython, tuple};
use crate::convert::field::Value;
use crate::convert::{exchange_reply, maintain_reply};
use crate::errors;

/// A store behind the interpreter.
pub(crate) struct PyStore {
    backend: Py<PyAny>,
}

impl PyStore {
    pub(crate) fn new(backend: Py<PyAny>) -> Self {
        Self { backend }
    }

    /// Call the backend; what it raises becomes an error that carries the exception.
    fn call<T>(
        &self,
        worker: Option<&str>,
        operation: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>,
    ) -> Result<T> {
        // An interpreter that is going away cannot be entered. With the stable ABI of Python 3.11 this
        // thread then sleeps for the rest of the process, which is harmless because nobody joins it;
        // with a newer one the attempt is refused.
        Python::try_attach(|py| {
            operation(self.backend.bind(py)).map_err(|error| errors::from_python(py, error, worker))
        })
        .unwrap_or_else(|| {
            Err(EngineError::Backend {
                message: String::from("the Python interpreter is shutting down"),
                fatal: true,
                source: None,
            })
        })
    }
}

impl LockStore for PyStore {
    fn extend_locks(&self, leases: &[LockLease]) -> Result<Vec<bool>> {
        self.call(None, |backend| {
            let py = backend.py();
            let leases = tuple(py, leases)?;
            Vec::read(&backend.call_method1(intern!(py, "extend_locks"), (leases,))?)
        })
    }
}

impl Store for PyStore {
    fn register(&self, worker: &WorkerRegistration) -> Result<()> {
        self.call(None, |backend| {
            let py = backend.py();
            backend
                .call_method1(intern!(py, "register"), (worker.to_python(py)?,))
                .map(drop)
        })
    }

    fn unregister(&self, worker: &str) -> Result<()> {
        self.call(Some(worker), |backend| {
            backend
                .call_method1(intern!(backend.py(), "unregister"), (worker,))
                .map(drop)
        })
    }

    fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeReply> {
        self.call(Some(&request.worker), |backend| {
            let py = backend.py();
            let reply = backend.call_method1(intern!(py, "exchange"), (request.to_python(py)?,))?;
            exchange_reply::read(&reply)
        })
    }

    fn maintain(&self, budget: usize) -> Result<MaintainReply> {
        self.call(None, |backend| {
            let reply = backend.call_method1(intern!(backend.py(), "maintain"), (budget,))?;
            maintain_reply::read(&reply)
        })
    }

    fn wait(&self, since: u64, timeout: Duration) -> Result<u64> {
        self.call(None, |backend| {
            let arguments = (since, timeout.as_secs_f64());
            u64::read(&backend.call_method1(intern!(backend.py(), "wait"), arguments)?)
        })
    }

    /// A backend in Python has no place that survives the death of the process: a worker that dies is
    /// taken to have started what it said it started.
    fn mark_started(&self, _worker: &str, _slot: usize, _token: Option<i64>) {}
}
