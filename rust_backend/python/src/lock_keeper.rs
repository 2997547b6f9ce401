//! `LockKeeper`: extends named locks on a thread without Python.

use std::sync::Arc;

use pyo3::prelude::*;
use taskito_engine::lock_keeper::LockKeeper as EngineKeeper;
use taskito_engine::model::LockLease;
use taskito_engine::store::LockStore;

use crate::bridge::PyStore;
use crate::gil::Detached;
use crate::sqlite_store::SqliteStore;

/// Extends the locks that one process holds in one store until they are dropped or lost.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct LockKeeper {
    keeper: Detached<EngineKeeper>,
}

#[pymethods]
impl LockKeeper {
    #[new]
    fn new(store: &Bound<'_, PyAny>) -> Self {
        let store: Arc<dyn LockStore> = match store.cast::<SqliteStore>() {
            Ok(native) => native.get().lock_store(),
            Err(_) => Arc::new(PyStore::new(store.clone().unbind())),
        };
        Self {
            keeper: Detached::new(EngineKeeper::new(store)),
        }
    }

    /// Begin to extend a lock that was acquired just now, ``age_ms`` ago.
    fn hold(&self, py: Python<'_>, name: String, token: i64, ttl_ms: i64, age_ms: i64) {
        let lease = LockLease {
            name,
            token,
            ttl_ms,
        };
        py.detach(|| self.keeper.hold(lease, age_ms));
    }

    /// Extend a lock no more; return why it was lost, or None if it was held until now.
    fn drop(&self, py: Python<'_>, token: i64) -> Option<String> {
        py.detach(|| self.keeper.drop_lock(token))
    }

    /// Return why a lock was lost; None while it is held.
    fn lost(&self, py: Python<'_>, token: i64) -> Option<String> {
        py.detach(|| self.keeper.lost(token))
    }

    /// Extend nothing any more; every lock that is still held counts as lost for this reason.
    fn close(&self, py: Python<'_>, reason: String) {
        py.detach(|| self.keeper.close(reason));
    }
}
