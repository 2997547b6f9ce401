//! Which fires of a schedule are made when its time has come, or has long been over.

use std::collections::VecDeque;

use super::Schedule;

/// A fire that is made at most this late is on time: workers were up, and busy or just starting.
pub const GRACE_MS: i64 = 10_000;
/// The most missed fires that are made good, the newest of them.
pub const MOST_MISSED: usize = 1_000;

/// What is done about fires that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CatchUp {
    /// All of them are made good by one.
    Once,
    /// Each is made good.
    All,
    /// They are forgotten.
    None,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The fires to make, oldest first.
    pub fires: Vec<i64>,
    /// The fire that comes after them; `None` if there is none.
    pub next_ms: Option<i64>,
}

/// Find out which fires to make, at most `budget` of them; the rest shows as a next fire that is due.
///
/// While the oldest fire that is due is not more than `GRACE_MS` late, each of them is made.
/// Otherwise they were missed, and `catch_up` decides: one fire, the newest, stands for all of them; or
/// each of the newest `MOST_MISSED` is made; or none, except the newest if that is still on time.
#[must_use]
pub fn due(
    schedule: &Schedule,
    next_ms: i64,
    now_ms: i64,
    catch_up: CatchUp,
    budget: usize,
) -> Due {
    if next_ms > now_ms {
        return Due {
            fires: Vec::new(),
            next_ms: Some(next_ms),
        };
    }
    let on_time = now_ms - next_ms <= GRACE_MS;
    let fires = newest(schedule, next_ms, now_ms);
    if on_time || catch_up == CatchUp::All {
        let next_ms = match fires.get(budget) {
            Some(left) => Some(*left),
            None => schedule.next_after(now_ms),
        };
        return Due {
            fires: fires.into_iter().take(budget).collect(),
            next_ms,
        };
    }
    let last = fires.back().copied();
    let is_made = |at_ms: &i64| catch_up == CatchUp::Once || now_ms - at_ms <= GRACE_MS;
    Due {
        fires: last.filter(is_made).into_iter().collect(),
        next_ms: schedule.next_after(now_ms),
    }
}

/// The newest fires from `first_ms`, which is one, to `now_ms`.
///
/// Fires can only be walked forward, so this looks at ever longer times before now until there are
/// enough of them, or the first one is among them.
fn newest(schedule: &Schedule, first_ms: i64, now_ms: i64) -> VecDeque<i64> {
    let mut span_ms = i64::try_from(MOST_MISSED).unwrap_or(i64::MAX) * 1_000;
    loop {
        let from_ms = now_ms.saturating_sub(span_ms).max(first_ms - 1);
        let mut fires = VecDeque::new();
        for at_ms in schedule.between(from_ms, now_ms) {
            if fires.len() == MOST_MISSED {
                fires.pop_front();
            }
            fires.push_back(at_ms);
        }
        if fires.len() == MOST_MISSED || from_ms < first_ms {
            return fires;
        }
        span_ms = span_ms.saturating_mul(2);
    }
}
