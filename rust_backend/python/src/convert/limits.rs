//! `Rate`, `TaskLimit`, `LimitRecord` and `DeadLetterLimit`.

use pyo3::prelude::*;
use taskito_engine::model::{DeadLetterLimit, LimitRecord, Rate, TaskLimit};

use super::build::ToPython;
use super::field::{Place, Value};

impl ToPython for Rate {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            rate {
                count: self.count,
                period_ms: self.period_ms,
                burst: self.burst
            }
        )
    }
}

impl Value for Rate {
    fn wanted() -> String {
        String::from("a Rate")
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            count: field!(value, count, Place::Whole),
            period_ms: field!(value, period_ms, Place::Whole),
            burst: field!(value, burst, Place::Whole),
        })
    }
}

impl ToPython for TaskLimit {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            task_limit {
                task: &self.task,
                rate: self.rate.map(|rate| rate.to_python(py)).transpose()?,
                max_concurrent: self.max_concurrent,
            }
        )
    }
}

/// Read the limits of one task.
pub(crate) fn read_task(limit: &Bound<'_, PyAny>, place: Place) -> PyResult<TaskLimit> {
    Ok(TaskLimit {
        task: field!(limit, task, place),
        rate: field!(limit, rate, place),
        max_concurrent: field!(limit, max_concurrent, place),
    })
}

impl ToPython for LimitRecord {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            limit_record {
                kind: self.kind.to_python(py)?,
                name: &self.name,
                rate: self.rate.map(|rate| rate.to_python(py)).transpose()?,
                max_concurrent: self.max_concurrent,
                running: self.running,
                tokens: self.tokens,
            }
        )
    }
}

impl ToPython for DeadLetterLimit {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            dead_letter_limit {
                ttl_ms: self.ttl_ms,
                most: self.most
            }
        )
    }
}

impl Value for DeadLetterLimit {
    fn wanted() -> String {
        String::from("a DeadLetterLimit")
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            ttl_ms: field!(value, ttl_ms, Place::Whole),
            most: field!(value, most, Place::Whole),
        })
    }
}
