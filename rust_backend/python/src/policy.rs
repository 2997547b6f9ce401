//! `TaskPolicy`: how failed attempts of a task are spaced.

use pyo3::prelude::*;
use taskito_engine::model::TaskPolicy as EnginePolicy;
use taskito_engine::retry;

use crate::convert::field::{self, Place};

/// How failed attempts of a task are spaced.
#[pyclass(module = "taskito._core", frozen)]
pub(crate) struct TaskPolicy {
    pub(crate) policy: EnginePolicy,
}

#[pymethods]
impl TaskPolicy {
    #[new]
    #[pyo3(signature = (
        task,
        retry_backoff_ms = 1_000,
        retry_delays_ms = None,
        max_retry_delay_ms = 300_000,
        retry_jitter_ms = 500,
    ))]
    fn new(
        task: String,
        retry_backoff_ms: i64,
        retry_delays_ms: Option<Vec<i64>>,
        max_retry_delay_ms: i64,
        retry_jitter_ms: i64,
    ) -> Self {
        let policy = EnginePolicy {
            task,
            retry_backoff_ms,
            retry_delays_ms,
            max_retry_delay_ms,
            retry_jitter_ms,
        };
        Self { policy }
    }
}

/// Read the policies of a worker's tasks.
pub(crate) fn read_all(policies: &Bound<'_, PyAny>) -> PyResult<Vec<EnginePolicy>> {
    let read = || -> PyResult<Vec<EnginePolicy>> {
        field::items(policies)?
            .iter()
            .map(|policy| Ok(policy.cast::<TaskPolicy>()?.get().policy.clone()))
            .collect()
    };
    read().map_err(|error| {
        field::refused(
            policies,
            "policies",
            Place::Whole,
            "a sequence of TaskPolicy",
            error,
        )
    })
}

/// Return the delay before the retry that follows `attempt`.
#[pyfunction]
pub(crate) fn retry_delay_ms(policy: &TaskPolicy, attempt: i64, random: f64) -> i64 {
    retry::retry_delay_ms(&policy.policy, attempt, random)
}
