//! The one door out of the interpreter: operations of the engine run while other threads run Python.

use std::ops::Deref;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use taskito_engine::error::Result;

use crate::errors;

/// Longest time without a look at signals, so that Ctrl-C ends every blocking call.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// Run `operation` without the interpreter and raise its error as the matching exception.
pub(crate) fn detached<T, F>(py: Python<'_>, operation: F) -> PyResult<T>
where
    T: Send,
    F: FnOnce() -> Result<T> + Send,
{
    py.detach(operation)
        .map_err(|error| errors::to_python(py, &error))
}

/// Run `step` without the interpreter until it has something or `timeout` is over.
///
/// Each step gets the time that it may block and is followed by a look at signals. There is at least
/// one step, also with a timeout of zero.
pub(crate) fn wait<T, F>(py: Python<'_>, timeout: Duration, mut step: F) -> PyResult<Option<T>>
where
    T: Send,
    F: FnMut(Duration) -> Result<Option<T>> + Send,
{
    // No deadline: the timeout is beyond what the clock can express.
    let deadline = Instant::now().checked_add(timeout);
    let mut remaining = timeout;
    loop {
        let found = detached(py, || step(remaining.min(SLICE)))?;
        if found.is_some() {
            return Ok(found);
        }
        py.check_signals()?;
        if let Some(deadline) = deadline {
            remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Ok(None);
            }
        }
    }
}

/// Read a timeout in seconds: below zero is zero, infinity is as long as it takes.
pub(crate) fn timeout(py: Python<'_>, seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() {
        return Err(errors::configuration(
            py,
            "timeout: nan must be a number of seconds",
        ));
    }
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

/// Something whose end may take time, or wait for a thread that needs the interpreter: it is dropped
/// without it.
pub(crate) struct Detached<T: Send>(Option<T>);

impl<T: Send> Detached<T> {
    pub(crate) const fn new(inner: T) -> Self {
        Self(Some(inner))
    }
}

impl<T: Send> Deref for Detached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only drop takes it")
    }
}

impl<T: Send> Drop for Detached<T> {
    fn drop(&mut self) {
        let inner = self.0.take();
        // Without an interpreter there is nothing to give up, and `inner` ends with the closure.
        Python::try_attach(move |py| py.detach(move || drop(inner)));
    }
}
