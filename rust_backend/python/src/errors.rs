//! The one mapping between errors of the engine and the exceptions of `taskito.exceptions`.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use taskito_engine::error::EngineError;

/// The exception classes that the engine raises or recognises.
struct Exceptions {
    configuration: Py<PyType>,
    job_not_found: Py<PyType>,
    queue_closed: Py<PyType>,
    unknown_worker: Py<PyType>,
    storage: Py<PyType>,
    busy: Py<PyType>,
    full: Py<PyType>,
    read_only: Py<PyType>,
    corrupt: Py<PyType>,
    moved: Py<PyType>,
    schema: Py<PyType>,
}

static EXCEPTIONS: PyOnceLock<Exceptions> = PyOnceLock::new();

impl Exceptions {
    fn get(py: Python<'_>) -> PyResult<&'static Self> {
        EXCEPTIONS.get_or_try_init(py, || Self::load(py))
    }

    fn load(py: Python<'_>) -> PyResult<Self> {
        let module = py.import("taskito.exceptions")?;
        let class = |name: &str| -> PyResult<Py<PyType>> {
            Ok(module.getattr(name)?.cast_into::<PyType>()?.unbind())
        };
        Ok(Self {
            configuration: class("ConfigurationError")?,
            job_not_found: class("JobNotFoundError")?,
            queue_closed: class("QueueClosedError")?,
            unknown_worker: class("UnknownWorkerError")?,
            storage: class("StorageError")?,
            busy: class("StorageBusyError")?,
            full: class("StorageFullError")?,
            read_only: class("DatabaseReadOnlyError")?,
            corrupt: class("DatabaseCorruptError")?,
            moved: class("DatabaseMovedError")?,
            schema: class("SchemaVersionError")?,
        })
    }

    fn class(&self, error: &EngineError) -> &Py<PyType> {
        match error {
            EngineError::Invalid { .. } => &self.configuration,
            EngineError::UnknownJob { .. } => &self.job_not_found,
            EngineError::UnknownWorker(_) => &self.unknown_worker,
            EngineError::Busy { .. } => &self.busy,
            EngineError::Full { .. } => &self.full,
            EngineError::ReadOnly { .. } => &self.read_only,
            EngineError::Corrupt { .. } => &self.corrupt,
            EngineError::Schema { .. } => &self.schema,
            EngineError::Moved { .. } => &self.moved,
            EngineError::Forked | EngineError::Closed => &self.queue_closed,
            // Path, Storage, Backend without an exception of its own, and variants to come.
            _ => &self.storage,
        }
    }

    /// Whether the store cannot recover from this exception by itself.
    fn is_fatal(&self, py: Python<'_>, error: &PyErr) -> bool {
        [
            &self.moved,
            &self.read_only,
            &self.corrupt,
            &self.schema,
            &self.queue_closed,
        ]
        .into_iter()
        .any(|class| error.is_instance(py, class.bind(py)))
    }
}

/// The exception for an error of the engine.
///
/// What a Python backend raised comes back as that very exception.
pub(crate) fn to_python(py: Python<'_>, error: &EngineError) -> PyErr {
    if let Some(original) = raised_by_backend(error) {
        return original.clone_ref(py);
    }
    match Exceptions::get(py) {
        Ok(exceptions) => {
            let class = exceptions.class(error).bind(py).clone();
            PyErr::from_type(class, (error.to_string(),))
        }
        Err(import_error) => import_error,
    }
}

/// The engine's error for what a Python backend raised when it was called for `worker`.
///
/// Busy, full and plain storage errors pass, and so does whatever a bug in the backend raises: the
/// dispatcher reports it and tries again. A store that is moved, read-only, damaged, of another
/// schema or closed stays so.
pub(crate) fn from_python(py: Python<'_>, error: PyErr, worker: Option<&str>) -> EngineError {
    let exceptions = match Exceptions::get(py) {
        Ok(exceptions) => exceptions,
        Err(import_error) => return backend(py, import_error, true),
    };
    match worker {
        Some(worker) if error.is_instance(py, exceptions.unknown_worker.bind(py)) => {
            EngineError::UnknownWorker(worker.to_owned())
        }
        _ => {
            let fatal = exceptions.is_fatal(py, &error);
            backend(py, error, fatal)
        }
    }
}

/// A `ConfigurationError` with this message.
pub(crate) fn configuration(py: Python<'_>, message: impl Into<String>) -> PyErr {
    match Exceptions::get(py) {
        Ok(exceptions) => {
            PyErr::from_type(exceptions.configuration.bind(py).clone(), (message.into(),))
        }
        Err(import_error) => import_error,
    }
}

fn raised_by_backend(error: &EngineError) -> Option<&PyErr> {
    match error {
        EngineError::Backend {
            source: Some(source),
            ..
        } => source.downcast_ref::<PyErr>(),
        _ => None,
    }
}

fn backend(py: Python<'_>, error: PyErr, fatal: bool) -> EngineError {
    let is_storage = Exceptions::get(py)
        .is_ok_and(|exceptions| error.is_instance(py, exceptions.storage.bind(py)));
    let message = if is_storage {
        error.value(py).to_string()
    } else {
        // `PyErr` displays as "ValueError: text", which is what a reader of the log needs here.
        format!("the backend raised {error}")
    };
    EngineError::Backend {
        message,
        fatal,
        source: Some(Arc::new(error)),
    }
}
