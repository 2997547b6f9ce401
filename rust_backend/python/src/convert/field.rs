//! Reading one attribute of a dataclass, with errors that name the field and the value.

use std::fmt;
use std::sync::Arc;

use pyo3::exceptions::{PyAttributeError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use taskito_engine::model::Bytes;

use crate::errors;

/// Longest part of a refused value that a message shows.
const SHOWN: usize = 80;

/// Which object a field belongs to; opens the message of an error.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// The only object of the call.
    Whole,
    /// One of several: what they are called, and its position.
    Item(&'static str, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Item(name, index) => write!(formatter, "{name} {index}: "),
        }
    }
}

/// A type that a field can have.
pub(crate) trait Value: Sized {
    /// What a value must be, for the message about one that is not.
    fn wanted() -> String;

    /// Read the value. `TypeError`, `ValueError` and `OverflowError` mean: not of this type.
    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self>;
}

/// Read the attribute `name` of `object`.
pub(crate) fn read<T: Value>(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    place: Place,
) -> PyResult<T> {
    let value = get(object, name, place)?;
    T::read(&value).map_err(|error| refused(&value, name, place, &T::wanted(), error))
}

/// The attribute `name` of `object` as it is.
pub(crate) fn get<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    place: Place,
) -> PyResult<Bound<'py, PyAny>> {
    object.getattr(name).map_err(|error| {
        if !error.is_instance_of::<PyAttributeError>(object.py()) {
            return error;
        }
        let message = format!(
            "{place}{name}: {} has no such field; pass the dataclass of taskito.backends.params",
            shown(object)
        );
        errors::configuration(object.py(), message)
    })
}

/// The error for a value that is not what is `wanted`; an exception that says something else stays.
pub(crate) fn refused(
    value: &Bound<'_, PyAny>,
    name: impl fmt::Display,
    place: Place,
    wanted: &str,
    error: PyErr,
) -> PyErr {
    let py = value.py();
    let is_mistyped = error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyValueError>(py)
        || error.is_instance_of::<PyOverflowError>(py);
    if !is_mistyped {
        return error;
    }
    errors::configuration(
        py,
        format!("{place}{name}: {} must be {wanted}", shown(value)),
    )
}

/// The items of a sequence. A string is none: its letters are never what was meant.
pub(crate) fn items<'py>(value: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>() {
        return Err(PyTypeError::new_err("a sequence is needed"));
    }
    value.try_iter()?.collect()
}

fn shown(value: &Bound<'_, PyAny>) -> String {
    let Ok(text) = value.repr().map(|text| text.to_string_lossy().into_owned()) else {
        return String::from("this value");
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

macro_rules! extracted {
    ($($type:ty: $wanted:literal),* $(,)?) => {$(
        impl Value for $type {
            fn wanted() -> String {
                $wanted.to_owned()
            }

            fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
                value.extract()
            }
        }
    )*};
}

extracted! {
    bool: "True or False",
    i64: "an int of at most 64 bits",
    u32: "an int from 0 to 4294967295",
    u64: "an int of 0 or more",
    usize: "an int of 0 or more",
    String: "a str of valid Unicode",
}

impl Value for Bytes {
    fn wanted() -> String {
        String::from("bytes")
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Arc::from(value.cast::<PyBytes>()?.as_bytes()))
    }
}

impl Value for Arc<str> {
    fn wanted() -> String {
        String::wanted()
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        String::read(value).map(Self::from)
    }
}

impl<T: Value> Value for Option<T> {
    fn wanted() -> String {
        format!("{}, or None", T::wanted())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            Ok(None)
        } else {
            T::read(value).map(Some)
        }
    }
}

impl<T: Value> Value for Vec<T> {
    fn wanted() -> String {
        format!("a tuple of which each item is {}", T::wanted())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        items(value)?.iter().map(T::read).collect()
    }
}

/// Read an attribute by its name, which is interned.
macro_rules! field {
    ($object:expr, $name:ident, $place:expr) => {
        $crate::convert::field::read(
            $object,
            pyo3::intern!($object.py(), stringify!($name)),
            $place,
        )?
    };
}

/// Read an attribute that holds several dataclasses, each with `$read(item, place)`.
macro_rules! field_items {
    ($object:expr, $name:ident, $called:literal, $read:expr) => {
        $crate::convert::field::read_items(
            $object,
            pyo3::intern!($object.py(), stringify!($name)),
            $called,
            $read,
        )?
    };
}

/// Read the attribute `name`, a sequence of dataclasses that messages call `called`.
pub(crate) fn read_items<'py, T>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    called: &'static str,
    read: impl Fn(&Bound<'py, PyAny>, Place) -> PyResult<T>,
) -> PyResult<Vec<T>> {
    let value = get(object, name, Place::Whole)?;
    items(&value)
        .map_err(|error| refused(&value, name, Place::Whole, "a tuple", error))?
        .iter()
        .enumerate()
        .map(|(index, item)| read(item, Place::Item(called, index)))
        .collect()
}

/// An attribute as it is, for a dataclass that is read field by field.
macro_rules! attribute {
    ($object:expr, $name:ident, $place:expr) => {
        $crate::convert::field::get(
            $object,
            pyo3::intern!($object.py(), stringify!($name)),
            $place,
        )?
    };
}
