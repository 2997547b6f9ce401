//! `MaintainReply`, in both directions.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use taskito_engine::model::MaintainReply;

use super::build::ToPython;
use super::field::Place;

impl ToPython for MaintainReply {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            maintain_reply {
                promoted: self.promoted,
                rescued: self.rescued,
                expired: self.expired,
                pruned: self.pruned,
                fired: self.fired,
                next_due_ms: self.next_due_ms,
                unknown_tasks: PyTuple::new(py, &self.unknown_tasks)?,
                undeclared_schedules: PyTuple::new(py, &self.undeclared_schedules)?,
            }
        )
    }
}

/// Read what a Python backend answered.
pub(crate) fn read(reply: &Bound<'_, PyAny>) -> PyResult<MaintainReply> {
    Ok(MaintainReply {
        promoted: field!(reply, promoted, Place::Whole),
        rescued: field!(reply, rescued, Place::Whole),
        expired: field!(reply, expired, Place::Whole),
        pruned: field!(reply, pruned, Place::Whole),
        fired: field!(reply, fired, Place::Whole),
        next_due_ms: field!(reply, next_due_ms, Place::Whole),
        unknown_tasks: field!(reply, unknown_tasks, Place::Whole),
        undeclared_schedules: field!(reply, undeclared_schedules, Place::Whole),
    })
}
