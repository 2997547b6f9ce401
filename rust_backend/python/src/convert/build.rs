//! Building dataclasses: the classes are imported once, the keyword names are interned.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

macro_rules! classes {
    ($($field:ident: $name:literal),* $(,)?) => {
        /// The dataclasses of `taskito.backends.params` that the engine builds or recognises.
        pub(crate) struct Classes {
            $(pub(crate) $field: Py<PyAny>),*
        }

        impl Classes {
            fn load(py: Python<'_>) -> PyResult<Self> {
                let module = py.import("taskito.backends.params")?;
                Ok(Self { $($field: module.getattr($name)?.unbind()),* })
            }
        }
    };
}

classes! {
    claimed_job: "ClaimedJob",
    count: "Count",
    dead_letter_limit: "DeadLetterLimit",
    dependency: "Dependency",
    enqueued: "Enqueued",
    error_record: "ErrorRecord",
    exchange_reply: "ExchangeReply",
    exchange_request: "ExchangeRequest",
    job_input: "JobInput",
    job_record: "JobRecord",
    lease: "Lease",
    limit_record: "LimitRecord",
    lock_answer: "LockAnswer",
    lock_lease: "LockLease",
    lock_record: "LockRecord",
    log_record: "LogRecord",
    maintain_reply: "MaintainReply",
    outcome_cancelled: "OutcomeCancelled",
    outcome_dead: "OutcomeDead",
    outcome_release: "OutcomeRelease",
    outcome_retry: "OutcomeRetry",
    outcome_snooze: "OutcomeSnooze",
    outcome_success: "OutcomeSuccess",
    page: "Page",
    schedule_record: "ScheduleRecord",
    rate: "Rate",
    settlement: "Settlement",
    start: "Start",
    task_limit: "TaskLimit",
    worker_record: "WorkerRecord",
    worker_registration: "WorkerRegistration",
    workflow_page: "WorkflowPage",
    workflow_record: "WorkflowRecord",
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

impl Classes {
    /// The classes, imported by the first call.
    pub(crate) fn get(py: Python<'_>) -> PyResult<&'static Self> {
        CLASSES.get_or_try_init(py, || Self::load(py))
    }

    /// Whether a value is a `Dependency`, and no bare id or index.
    pub(crate) fn is_dependency(&self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        value.is_instance(self.dependency.bind(value.py()))
    }
}

/// Call the class `$class` of [`Classes`] with keyword arguments; a `PyResult<Bound<PyAny>>`.
macro_rules! build {
    ($py:expr, $class:ident { $($name:ident: $value:expr),* $(,)? }) => {
        (|| {
            let fields = pyo3::types::PyDict::new($py);
            $(fields.set_item(pyo3::intern!($py, stringify!($name)), $value)?;)*
            let class = $crate::convert::build::Classes::get($py)?.$class.bind($py);
            class.call((), Some(&fields))
        })()
    };
}

/// Something of the engine's that has a Python form.
pub(crate) trait ToPython {
    /// Build the Python form.
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
}

/// The Python forms of several things.
pub(crate) fn all<'py, T: ToPython>(
    py: Python<'py>,
    things: &[T],
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    things.iter().map(|thing| thing.to_python(py)).collect()
}

/// The Python forms of several things, as the tuple that a frozen dataclass holds.
pub(crate) fn tuple<'py, T: ToPython>(
    py: Python<'py>,
    things: &[T],
) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
    pyo3::types::PyTuple::new(py, all(py, things)?)
}
