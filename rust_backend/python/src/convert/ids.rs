//! Job ids as text. Text that is no id is the id of no job, not an error.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use taskito_engine::id::JobId;

use super::build::ToPython;
use super::field::{self, Place, Value};

impl ToPython for JobId {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyString::new(py, &self.to_string()).into_any())
    }
}

/// For an id that has to be one: a given id of a new job, the ids in a backend's reply.
impl Value for JobId {
    fn wanted() -> String {
        String::from("a UUID in its 36-character form")
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::parse(&value.extract::<String>()?).ok_or_else(|| PyValueError::new_err("not a UUID"))
    }
}

/// The 36-character forms of several ids.
pub(crate) fn texts(ids: &[JobId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// The ids of a request, in order; those that cannot belong to a job are remembered as gaps.
pub(crate) struct AskedIds {
    is_id: Vec<bool>,
    /// What the engine is asked about.
    pub(crate) known: Vec<JobId>,
}

impl AskedIds {
    /// Read a sequence of `str`; messages call it `name`.
    pub(crate) fn read(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let texts = Vec::<String>::read(value).map_err(|error| {
            field::refused(value, name, Place::Whole, &Vec::<String>::wanted(), error)
        })?;
        let parsed: Vec<Option<JobId>> = texts.iter().map(|text| JobId::parse(text)).collect();
        Ok(Self {
            is_id: parsed.iter().map(Option::is_some).collect(),
            known: parsed.into_iter().flatten().collect(),
        })
    }

    /// Whether no id was given at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_id.is_empty()
    }

    /// One answer per id of the request: the engine's, and `absent` in the gaps.
    pub(crate) fn spread<T: Clone>(is_id: &[bool], answers: Vec<T>, absent: &T) -> Vec<T> {
        let mut answers = answers.into_iter();
        is_id
            .iter()
            .map(|is_id| {
                is_id
                    .then(|| answers.next())
                    .flatten()
                    .unwrap_or_else(|| absent.clone())
            })
            .collect()
    }

    /// Take the ids for the engine; the gaps are for [`AskedIds::spread`].
    pub(crate) fn split(self) -> (Vec<bool>, Vec<JobId>) {
        (self.is_id, self.known)
    }
}
