//! The requests of inspection and control, from Python only.

use pyo3::prelude::*;
use taskito_engine::model::{ListRequest, PurgeRequest, ReplayRequest};

use super::field::Place;
use super::ids::AskedIds;

/// A request to cancel jobs.
pub(crate) struct CancelRequest {
    pub(crate) ids: AskedIds,
    pub(crate) reason: String,
    pub(crate) running: bool,
}

/// Read a request to cancel jobs.
pub(crate) fn cancel(request: &Bound<'_, PyAny>) -> PyResult<CancelRequest> {
    Ok(CancelRequest {
        ids: asked_ids(request)?,
        reason: field!(request, reason, Place::Whole),
        running: field!(request, running, Place::Whole),
    })
}

/// Read a request for a page of jobs.
pub(crate) fn list(request: &Bound<'_, PyAny>) -> PyResult<ListRequest> {
    Ok(ListRequest {
        states: field!(request, states, Place::Whole),
        whys: field!(request, whys, Place::Whole),
        queue: field!(request, queue, Place::Whole),
        task: field!(request, task, Place::Whole),
        skip_replayed: field!(request, skip_replayed, Place::Whole),
        workflow: field!(request, workflow, Place::Whole),
        limit: field!(request, limit, Place::Whole),
        after: field!(request, after, Place::Whole),
    })
}

/// Read a request to purge jobs.
///
/// `None`: it names jobs, and none of the ids can belong to one. The engine takes an empty list for
/// "any job", so it must not be asked then.
pub(crate) fn purge(request: &Bound<'_, PyAny>) -> PyResult<Option<PurgeRequest>> {
    let ids = asked_ids(request)?;
    let names_nothing = ids.known.is_empty() && !ids.is_empty();
    let request = PurgeRequest {
        states: field!(request, states, Place::Whole),
        ids: ids.known,
        queue: field!(request, queue, Place::Whole),
        task: field!(request, task, Place::Whole),
        older_than_ms: field!(request, older_than_ms, Place::Whole),
        limit: field!(request, limit, Place::Whole),
    };
    Ok((!names_nothing).then_some(request))
}

/// Read a request to replay jobs; the gaps are for [`AskedIds::spread`].
pub(crate) fn replay(request: &Bound<'_, PyAny>) -> PyResult<(Vec<bool>, ReplayRequest)> {
    let (is_id, ids) = asked_ids(request)?.split();
    Ok((
        is_id,
        ReplayRequest {
            ids,
            dead_only: field!(request, dead_only, Place::Whole),
            once: field!(request, once, Place::Whole),
        },
    ))
}

fn asked_ids(request: &Bound<'_, PyAny>) -> PyResult<AskedIds> {
    AskedIds::read(&attribute!(request, ids, Place::Whole), "ids")
}
