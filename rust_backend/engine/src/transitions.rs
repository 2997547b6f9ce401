//! The one table of legal transitions.
//!
//! The store enforces it, the memory backend and the conformance kit read it through Python, and the
//! diagram in the documentation is generated from it.

use std::fmt;

/// Where a job stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Waits for other jobs.
    Blocked,
    /// Waits for a time: a delay, a retry or a snooze.
    Scheduled,
    /// May be claimed.
    Ready,
    /// Claimed by a worker under a lease.
    Running,
    /// Ended well.
    Complete,
    /// Ended without success; kept for inspection and replay.
    Dead,
    /// Ended by request, expiry, or the end of a job it depended on.
    Cancelled,
}

impl State {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 7] = [
        Self::Blocked,
        Self::Scheduled,
        Self::Ready,
        Self::Running,
        Self::Complete,
        Self::Dead,
        Self::Cancelled,
    ];

    /// A final state never changes.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Complete | Self::Dead | Self::Cancelled)
    }

    /// The name used at the seam.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What can happen to a stored job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Its due time has come.
    Promote,
    /// The last job it depends on has ended well and it must wait for a time.
    Delay,
    /// The last job it depends on has ended well.
    Unblock,
    /// A worker takes it.
    Claim,
    Succeed,
    /// The attempt failed and another one is allowed.
    Retry,
    /// No further attempt is allowed, or none can help.
    Bury,
    Snooze,
    /// A worker gives it back.
    Release,
    /// Its worker died.
    Crash,
    /// Asked for, or a job it depends on ended without success.
    Cancel,
    /// It had not started when its time was over.
    Expire,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 12] = [
        Self::Promote,
        Self::Delay,
        Self::Unblock,
        Self::Claim,
        Self::Succeed,
        Self::Retry,
        Self::Bury,
        Self::Snooze,
        Self::Release,
        Self::Crash,
        Self::Cancel,
        Self::Expire,
    ];

    /// The name used at the seam.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Delay => "delay",
            Self::Unblock => "unblock",
            Self::Claim => "claim",
            Self::Succeed => "succeed",
            Self::Retry => "retry",
            Self::Bury => "bury",
            Self::Snooze => "snooze",
            Self::Release => "release",
            Self::Crash => "crash",
            Self::Cancel => "cancel",
            Self::Expire => "expire",
        }
    }
}

/// States in which an accepted job may begin.
pub const INITIAL: [State; 4] = [
    State::Blocked,
    State::Scheduled,
    State::Ready,
    State::Cancelled,
];

/// Every legal transition: from a state, by an event, to a state.
pub const TRANSITIONS: [(State, Event, State); 18] = [
    (State::Blocked, Event::Delay, State::Scheduled),
    (State::Blocked, Event::Unblock, State::Ready),
    (State::Blocked, Event::Cancel, State::Cancelled),
    (State::Blocked, Event::Expire, State::Cancelled),
    (State::Scheduled, Event::Promote, State::Ready),
    (State::Scheduled, Event::Cancel, State::Cancelled),
    (State::Scheduled, Event::Expire, State::Cancelled),
    (State::Ready, Event::Claim, State::Running),
    (State::Ready, Event::Cancel, State::Cancelled),
    (State::Ready, Event::Expire, State::Cancelled),
    (State::Running, Event::Succeed, State::Complete),
    (State::Running, Event::Retry, State::Scheduled),
    (State::Running, Event::Bury, State::Dead),
    (State::Running, Event::Snooze, State::Scheduled),
    (State::Running, Event::Release, State::Ready),
    (State::Running, Event::Crash, State::Ready),
    (State::Running, Event::Cancel, State::Cancelled),
    (State::Running, Event::Expire, State::Cancelled),
];

/// Where `event` takes a job in `state`, or `None` if that is not legal.
#[must_use]
pub fn next(state: State, event: Event) -> Option<State> {
    TRANSITIONS
        .iter()
        .find(|(from, by, _)| *from == state && *by == event)
        .map(|(_, _, to)| *to)
}
