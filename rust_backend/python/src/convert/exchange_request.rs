//! `ExchangeRequest`, in both directions.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use taskito_engine::model::{ExchangeRequest, Lease, Settlement, Start};

use super::build::{ToPython, tuple};
use super::field::Place;
use super::{lease, outcome};

impl ToPython for ExchangeRequest {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            exchange_request {
                worker: &self.worker,
                settlements: tuple(py, &self.settlements)?,
                renewals: tuple(py, &self.renewals)?,
                starts: tuple(py, &self.starts)?,
                want: self.want,
                idle: self.idle,
                tasks: self
                    .tasks
                    .as_deref()
                    .map(|tasks| PyTuple::new(py, tasks))
                    .transpose()?,
            }
        )
    }
}

/// A request as Python made it, and what of it cannot concern any job.
pub(crate) struct AskedExchange {
    pub(crate) request: ExchangeRequest,
    /// Per settlement that was asked for: whether it is in the request. The others are of jobs that
    /// do not exist.
    pub(crate) is_settled: Vec<bool>,
    /// The renewals of leases on jobs that cannot exist, as they came.
    pub(crate) lost: Vec<Py<PyAny>>,
}

/// Read a request.
pub(crate) fn read(request: &Bound<'_, PyAny>) -> PyResult<AskedExchange> {
    let settlements: Vec<Option<Settlement>> =
        field_items!(request, settlements, "settlement", outcome::read_settlement);
    let renewals: Vec<(Py<PyAny>, Option<Lease>)> = field_items!(
        request,
        renewals,
        "renewal",
        |renewal: &Bound<'_, PyAny>, place| {
            Ok((renewal.clone().unbind(), lease::read(renewal, place)?))
        }
    );
    let starts: Vec<Option<Start>> = field_items!(request, starts, "start", lease::read_start);
    let tasks: Option<Vec<String>> = field!(request, tasks, Place::Whole);
    let is_settled = settlements.iter().map(Option::is_some).collect();
    let renewed = renewals.iter().filter_map(|(_, lease)| *lease).collect();
    let lost = renewals.into_iter().filter(|(_, lease)| lease.is_none());
    Ok(AskedExchange {
        is_settled,
        lost: lost.map(|(renewal, _)| renewal).collect(),
        request: ExchangeRequest {
            worker: field!(request, worker, Place::Whole),
            settlements: settlements.into_iter().flatten().collect(),
            renewals: renewed,
            starts: starts.into_iter().flatten().collect(),
            want: field!(request, want, Place::Whole),
            idle: field!(request, idle, Place::Whole),
            tasks: tasks.map(Into::into),
        },
    })
}
