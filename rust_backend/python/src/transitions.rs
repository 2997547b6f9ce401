//! The table of legal transitions, by name, for those who read it in Python.

use pyo3::prelude::*;
use pyo3::types::{PyModule, PyTuple};
use taskito_engine::transitions::{INITIAL, State, TRANSITIONS};

/// Add `STATES`, `INITIAL_STATES` and `TRANSITIONS` to the module.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let transitions = TRANSITIONS
        .iter()
        .map(|(from, by, to)| (from.name(), by.name(), to.name()));
    module.add("STATES", PyTuple::new(py, State::ALL.map(State::name))?)?;
    module.add(
        "INITIAL_STATES",
        PyTuple::new(py, INITIAL.map(State::name))?,
    )?;
    module.add("TRANSITIONS", PyTuple::new(py, transitions)?)
}
