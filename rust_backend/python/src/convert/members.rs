//! The seam's `StrEnum`s: each member is looked up once, values are read by name.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use taskito_engine::model::{
    Cancelled, CatchUp, Condition, ErrorKind, LimitKind, LimitedBy, Overlap, Verdict, Why,
};
use taskito_engine::transitions::State;

use super::build::ToPython;
use super::field::Value;

/// One enumeration of `taskito.backends.params`: its class and the name of each member.
struct Members<T: 'static> {
    class: &'static str,
    names: &'static [(T, &'static str)],
    looked_up: PyOnceLock<Vec<Py<PyAny>>>,
}

impl<T: Copy + PartialEq> Members<T> {
    const fn new(class: &'static str, names: &'static [(T, &'static str)]) -> Self {
        Self {
            class,
            names,
            looked_up: PyOnceLock::new(),
        }
    }

    fn member<'py>(&self, py: Python<'py>, value: T) -> PyResult<Bound<'py, PyAny>> {
        let members = self.looked_up.get_or_try_init(py, || self.load(py))?;
        self.names
            .iter()
            .zip(members)
            .find(|((of, _), _)| *of == value)
            .map(|(_, member)| member.bind(py).clone())
            .ok_or_else(|| PyValueError::new_err(format!("{} lacks a member", self.class)))
    }

    fn load(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let class = py.import("taskito.backends.params")?.getattr(self.class)?;
        self.names
            .iter()
            .map(|(_, name)| Ok(class.call1((*name,))?.unbind()))
            .collect()
    }

    /// A member is a `str`; the plain string is as good.
    fn read(&self, value: &Bound<'_, PyAny>) -> PyResult<T> {
        let text: String = value.extract()?;
        self.names
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(of, _)| *of)
            .ok_or_else(|| PyValueError::new_err("no member has this name"))
    }

    fn wanted(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(|(_, name)| *name).collect();
        format!("a {}: {}", self.class, names.join(", "))
    }
}

static STATES: Members<State> = Members::new(
    "JobState",
    &[
        (State::Blocked, State::Blocked.name()),
        (State::Scheduled, State::Scheduled.name()),
        (State::Ready, State::Ready.name()),
        (State::Running, State::Running.name()),
        (State::Complete, State::Complete.name()),
        (State::Dead, State::Dead.name()),
        (State::Cancelled, State::Cancelled.name()),
    ],
);

static WHYS: Members<Why> = Members::new(
    "Why",
    &[
        (Why::Delay, "delay"),
        (Why::Retry, "retry"),
        (Why::Snooze, "snooze"),
    ],
);

static ERROR_KINDS: Members<ErrorKind> = Members::new(
    "ErrorKind",
    &[
        (ErrorKind::Failure, "failure"),
        (ErrorKind::Timeout, "timeout"),
        (ErrorKind::Crash, "crash"),
        (ErrorKind::Rejected, "rejected"),
        (ErrorKind::Interrupted, "interrupted"),
    ],
);

static CATCH_UPS: Members<CatchUp> = Members::new(
    "CatchUp",
    &[
        (CatchUp::Once, "once"),
        (CatchUp::All, "all"),
        (CatchUp::None, "none"),
    ],
);

static OVERLAPS: Members<Overlap> = Members::new(
    "Overlap",
    &[
        (Overlap::Allow, "allow"),
        (Overlap::Skip, "skip"),
        (Overlap::Queue, "queue"),
    ],
);

static VERDICTS: Members<Verdict> = Members::new(
    "Verdict",
    &[
        (Verdict::Ok, "ok"),
        (Verdict::Stale, "stale"),
        (Verdict::Gone, "gone"),
    ],
);

static CANCEL_VERDICTS: Members<Cancelled> = Members::new(
    "CancelVerdict",
    &[
        (Cancelled::Done, "done"),
        (Cancelled::Requested, "requested"),
        (Cancelled::Refused, "refused"),
    ],
);

static LIMIT_KINDS: Members<LimitKind> = Members::new(
    "LimitKind",
    &[(LimitKind::Task, "task"), (LimitKind::Queue, "queue")],
);

static LIMITED_BY: Members<LimitedBy> = Members::new(
    "LimitedBy",
    &[
        (LimitedBy::Rate, "rate"),
        (LimitedBy::Concurrency, "concurrency"),
    ],
);

static CONDITIONS: Members<Condition> = Members::new(
    "Condition",
    &[
        (Condition::Success, "success"),
        (Condition::Failure, "failure"),
        (Condition::Always, "always"),
    ],
);

macro_rules! members {
    ($($type:ty: $members:ident),* $(,)?) => {$(
        impl ToPython for $type {
            fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                $members.member(py, *self)
            }
        }

        impl Value for $type {
            fn wanted() -> String {
                $members.wanted()
            }

            fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
                $members.read(value)
            }
        }
    )*};
}

members! {
    State: STATES,
    Why: WHYS,
    ErrorKind: ERROR_KINDS,
    CatchUp: CATCH_UPS,
    Overlap: OVERLAPS,
    Verdict: VERDICTS,
    Cancelled: CANCEL_VERDICTS,
    LimitKind: LIMIT_KINDS,
    LimitedBy: LIMITED_BY,
    Condition: CONDITIONS,
}
