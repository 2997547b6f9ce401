//! Ids for backends that are written in Python, whose standard library cannot make them yet.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use taskito_engine::id::{JobId, MAX_SEQUENCE};

use crate::errors;

static URANDOM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Make an id that carries ``sequence``, for backends written in Python.
#[pyfunction]
pub(crate) fn new_job_id(py: Python<'_>, wall_ms: i64, sequence: i64) -> PyResult<String> {
    if !(0..=MAX_SEQUENCE).contains(&sequence) {
        let message = format!("sequence: {sequence} must be from 0 to {MAX_SEQUENCE}");
        return Err(errors::configuration(py, message));
    }
    Ok(JobId::new(wall_ms, sequence, random(py)?).to_string())
}

/// The operating system's randomness: right in a forked child, too.
fn random(py: Python<'_>) -> PyResult<u64> {
    let bytes: [u8; 8] = URANDOM
        .import(py, "os", "urandom")?
        .call1((8,))?
        .extract()?;
    Ok(u64::from_ne_bytes(bytes))
}
