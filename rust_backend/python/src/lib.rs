//! The native module `taskito._core`: conversions between Python and the engine, nothing else.
//!
//! - [`convert`]: the seam's dataclasses and the engine's model.
//! - [`errors`]: the engine's errors and the exceptions of `taskito.exceptions`.
//! - [`gil`]: the one door through which an operation leaves the interpreter.
//! - [`sqlite_store`], [`dispatcher`]: the engine's two objects. [`slot`], [`bell`], [`run`],
//!   [`report`], [`notice`], [`policy`] belong to the dispatcher.
//! - [`lock_keeper`]: the thread that extends the locks of a process.
//! - [`schedule`]: cron lines.
//! - [`bridge`]: a backend written in Python, as the dispatcher sees it.
//!
//! Importing the module starts no thread and opens nothing, so a process may import it and fork.

mod bell;
mod bridge;
mod clock;
mod convert;
mod dispatcher;
mod errors;
mod gil;
mod job_id;
mod lock_keeper;
mod notice;
mod policy;
mod report;
mod run;
mod schedule;
mod slot;
mod sqlite_store;
mod transitions;

use pyo3::prelude::*;

/// The native engine of taskito. Private: its stub tells who may import it.
// No GIL is needed: there is no unsafe code here, every class is immutable or guarded by a borrow
// that another thread cannot share, and whatever is looked up once lies in a `PyOnceLock`.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::bell::Bell;
    #[pymodule_export]
    use crate::clock::VirtualClock;
    #[pymodule_export]
    use crate::dispatcher::Dispatcher;
    #[pymodule_export]
    use crate::job_id::new_job_id;
    #[pymodule_export]
    use crate::lock_keeper::LockKeeper;
    #[pymodule_export]
    use crate::notice::Notice;
    #[pymodule_export]
    use crate::policy::{TaskPolicy, retry_delay_ms};
    #[pymodule_export]
    use crate::report::{Aborted, Failure, Snoozed, Success};
    #[pymodule_export]
    use crate::run::Run;
    #[pymodule_export]
    use crate::schedule::CronSchedule;
    #[pymodule_export]
    use crate::slot::Slot;
    #[pymodule_export]
    use crate::sqlite_store::SqliteStore;

    use pyo3::prelude::*;
    use pyo3::types::PyModule;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("ENGINE_VERSION", env!("CARGO_PKG_VERSION"))?;
        module.add("SQLITE_VERSION", taskito_engine::sqlite::version())?;
        crate::transitions::add(module)?;
        // The stub is the list of names; a second one, made by PyO3, would have to agree with it.
        module.delattr("__all__")
    }
}
