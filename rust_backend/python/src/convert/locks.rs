//! `LockRequest`, `LockAnswer`, `LockLease` and `LockRecord`.

use pyo3::prelude::*;
use taskito_engine::model::{LockAnswer, LockLease, LockRecord, LockRequest};

use super::build::ToPython;
use super::field::{self, Place};

/// Read a request for a lock.
pub(crate) fn read_request(request: &Bound<'_, PyAny>) -> PyResult<LockRequest> {
    Ok(LockRequest {
        name: field!(request, name, Place::Whole),
        owner: field!(request, owner, Place::Whole),
        ttl_ms: field!(request, ttl_ms, Place::Whole),
    })
}

/// Read the locks of a call.
pub(crate) fn read_leases(leases: &Bound<'_, PyAny>) -> PyResult<Vec<LockLease>> {
    field::items(leases)
        .map_err(|error| {
            let wanted = "a sequence of LockLease";
            field::refused(leases, "leases", Place::Whole, wanted, error)
        })?
        .iter()
        .enumerate()
        .map(|(index, lease)| {
            let place = Place::Item("lease", index);
            Ok(LockLease {
                name: field!(lease, name, place),
                token: field!(lease, token, place),
                ttl_ms: field!(lease, ttl_ms, place),
            })
        })
        .collect()
}

impl ToPython for LockLease {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            lock_lease {
                name: &self.name,
                token: self.token,
                ttl_ms: self.ttl_ms
            }
        )
    }
}

impl ToPython for LockAnswer {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            lock_answer {
                token: self.token,
                expires_in_ms: self.expires_in_ms
            }
        )
    }
}

impl ToPython for LockRecord {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            lock_record {
                name: &self.name,
                token: self.token,
                owner: &self.owner,
                expires_in_ms: self.expires_in_ms,
            }
        )
    }
}
