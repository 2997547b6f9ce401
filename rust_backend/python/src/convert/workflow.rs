//! What belongs to workflows: `Dependency`, `JobInput`, `WorkflowRecord` and `WorkflowPage`.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use taskito_engine::model::{Dependency, Input, Target, WorkflowPage, WorkflowRecord};

use super::build::{ToPython, tuple};
use super::field::Place;

impl ToPython for Dependency {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let job = match self.on {
            Target::Id(id) => id.to_python(py)?,
            Target::Earlier(index) => index.into_pyobject(py)?.into_any(),
        };
        build!(
            py,
            dependency {
                job: job,
                condition: self.condition.to_python(py)?,
                input: self.input
            }
        )
    }
}

impl ToPython for Input {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = |value: Option<&[u8]>| value.map(|bytes| PyBytes::new(py, bytes));
        build!(
            py,
            job_input {
                id: self.id.to_string(),
                state: self.state.to_python(py)?,
                serializer: self.serializer.as_deref(),
                result: bytes(self.result.as_deref()),
                error: bytes(self.error.as_deref()),
                reason: self.reason.as_deref(),
            }
        )
    }
}

/// Read what a Python backend hands out with a claim.
pub(crate) fn read_input(input: &Bound<'_, PyAny>, place: Place) -> PyResult<Input> {
    Ok(Input {
        id: field!(input, id, place),
        state: field!(input, state, place),
        serializer: field!(input, serializer, place),
        result: field!(input, result, place),
        error: field!(input, error, place),
        reason: field!(input, reason, place),
    })
}

impl ToPython for WorkflowRecord {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let counts = self
            .counts
            .iter()
            .map(|(state, count)| Ok((state.to_python(py)?, *count)))
            .collect::<PyResult<Vec<_>>>()?;
        build!(
            py,
            workflow_record {
                id: &self.id,
                created_ms: self.created_ms,
                counts: PyTuple::new(py, counts)?,
            }
        )
    }
}

impl ToPython for WorkflowPage {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            workflow_page {
                workflows: tuple(py, &self.workflows)?,
                next: self.next
            }
        )
    }
}
