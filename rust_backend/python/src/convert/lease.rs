//! `Lease`, and `Start`, which is a lease with an age.

use pyo3::prelude::*;
use taskito_engine::id::JobId;
use taskito_engine::model::{Lease, Start};

use super::build::ToPython;
use super::field::Place;

impl ToPython for Lease {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            lease {
                id: self.id.to_string(),
                token: self.token
            }
        )
    }
}

impl ToPython for Start {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            start {
                lease: self.lease.to_python(py)?,
                ago_ms: self.ago_ms
            }
        )
    }
}

/// Read a lease; `None` if its id cannot belong to a job.
pub(crate) fn read(lease: &Bound<'_, PyAny>, place: Place) -> PyResult<Option<Lease>> {
    let id: String = field!(lease, id, place);
    let token = field!(lease, token, place);
    Ok(JobId::parse(&id).map(|id| Lease { id, token }))
}

/// Read a lease whose id has to be one.
pub(crate) fn read_strict(lease: &Bound<'_, PyAny>, place: Place) -> PyResult<Lease> {
    Ok(Lease {
        id: field!(lease, id, place),
        token: field!(lease, token, place),
    })
}

/// Read a start; `None` if its id cannot belong to a job.
pub(crate) fn read_start(start: &Bound<'_, PyAny>, place: Place) -> PyResult<Option<Start>> {
    let ago_ms = field!(start, ago_ms, place);
    let lease = read(&attribute!(start, lease, place), place)?;
    Ok(lease.map(|lease| Start { lease, ago_ms }))
}
