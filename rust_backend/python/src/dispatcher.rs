//! `Dispatcher`: the engine's scheduler of one worker, over a native store or a bridge.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use taskito_engine::dispatcher::{Coroutines, Dispatcher as EngineDispatcher, DispatcherOptions};
use taskito_engine::store::Store;

use crate::bell::Bell;
use crate::bridge::PyStore;
use crate::convert::worker;
use crate::errors;
use crate::gil::{self, Detached};
use crate::notice::Notice;
use crate::policy;
use crate::slot::Slot;
use crate::sqlite_store::SqliteStore;

/// One per worker: claims, hands over, renews and settles, on a thread of its own without Python.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct Dispatcher {
    dispatcher: Detached<EngineDispatcher>,
}

#[pymethods]
impl Dispatcher {
    #[new]
    #[pyo3(signature = (
        store,
        registration,
        policies,
        maintain_interval_ms = 1_000,
        owns_process = false,
        drain_ms = 30_000,
        kills_overdue = false,
        coroutines = Vec::new(),
        coroutine_concurrency = 0,
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "one object has as many settings as it has"
    )]
    fn new(
        store: &Bound<'_, PyAny>,
        registration: &Bound<'_, PyAny>,
        policies: &Bound<'_, PyAny>,
        maintain_interval_ms: i64,
        owns_process: bool,
        drain_ms: i64,
        kills_overdue: bool,
        coroutines: Vec<String>,
        coroutine_concurrency: usize,
    ) -> PyResult<Self> {
        let options = DispatcherOptions {
            maintain_interval_ms,
            owns_process,
            drain_ms,
            kills_overdue,
            coroutines: Coroutines {
                tasks: coroutines.into_iter().collect(),
                concurrency: coroutine_concurrency,
            },
        };
        let dispatcher = EngineDispatcher::new(
            reach(store)?,
            worker::read(registration)?,
            policy::read_all(policies)?,
            &options,
        );
        Ok(Self {
            dispatcher: Detached::new(dispatcher),
        })
    }

    /// Register the worker and begin. Raises what the store raises.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        gil::detached(py, || self.dispatcher.start())
    }

    /// Make the place of one more executor thread.
    fn slot(&self) -> Slot {
        Slot::new(self.dispatcher.slot())
    }

    /// Make the place of one more job on the event loop that listens to ``bell``.
    fn loop_slot(&self, bell: &Bell) -> Slot {
        Slot::new(self.dispatcher.loop_slot(bell.inside()))
    }

    /// Stop claiming, give back what has not started, wait up to ``drain_ms`` for the rest.
    ///
    /// A second call shortens the time. Returns at once; "stopped" tells the end.
    fn stop(&self, py: Python<'_>, drain_ms: i64) {
        py.detach(|| self.dispatcher.stop(drain_ms));
    }

    /// Wait for the next notice; None when ``timeout`` seconds went by.
    fn next_notice(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<Notice>> {
        let timeout = gil::timeout(py, timeout)?;
        let notice = gil::wait(py, timeout, |slice| Ok(self.dispatcher.next_notice(slice)))?;
        Ok(notice.map(Notice::new))
    }

    /// Return counters.
    ///
    /// claimed, started, settled, stale, exchanges, running, buffered, `silent_ms`.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statistics = py.detach(|| self.dispatcher.statistics());
        let counters = PyDict::new(py);
        counters.set_item("claimed", statistics.claimed)?;
        counters.set_item("started", statistics.started)?;
        counters.set_item("settled", statistics.settled)?;
        counters.set_item("stale", statistics.stale)?;
        counters.set_item("exchanges", statistics.exchanges)?;
        counters.set_item("running", statistics.running)?;
        counters.set_item("buffered", statistics.buffered)?;
        counters.set_item("silent_ms", statistics.silent_ms)?;
        Ok(counters)
    }
}

/// The shortest way to a store: itself if it is native, the native one inside, or a bridge.
fn reach(store: &Bound<'_, PyAny>) -> PyResult<Arc<dyn Store>> {
    if let Ok(native) = store.cast::<SqliteStore>() {
        return Ok(native.get().engine_store());
    }
    let inside = store
        .getattr_opt("native_store")?
        .filter(|inside| !inside.is_none());
    let Some(inside) = inside else {
        return Ok(Arc::new(PyStore::new(store.clone().unbind())));
    };
    if let Ok(native) = inside.cast::<SqliteStore>() {
        return Ok(native.get().engine_store());
    }
    let message = format!("store: native_store {inside:?} must be a native store or None");
    Err(errors::configuration(store.py(), message))
}
