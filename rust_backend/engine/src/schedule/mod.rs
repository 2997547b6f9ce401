//! Cron schedules: when a line fires in a time zone. Pure rules, no store and no clock.
//!
//! | module | subject |
//! | --- | --- |
//! | `field` | one field of a line: which values it names |
//! | `line` | a whole line, and the local times that it names |
//! | `zone` | local times and instants, gaps and overlaps |
//! | `due` | which fires are made when some were missed |
//!
//! The `cron` crate walks the calendar. Its own rules differ from Vixie's: it wants seconds first,
//! counts weekdays from 1, wants both day fields to match, and has its own idea of daylight saving.
//! So `line` hands it lists of plain values, one or two at a time, and asks it about local times
//! that have no zone. What the fields mean and what a change of the clock does is decided here.
//!
//! A line whose second, minute and hour fields all begin with something else than `*` names times
//! of the day, any other one follows the clock:
//!
//! | change of the clock | fixed times | follows the clock |
//! | --- | --- | --- |
//! | forward: local times that do not exist | fires once, at the first instant after the gap | does not fire for them |
//! | back: local times that exist twice | fires at the first of the two | fires at both |
//!
//! A fixed line fires at most once per instant: several times inside one gap, or one that is also
//! named right after it, are one fire. The rule is that of Vixie's cron, see crontab(5) and cron(8) of
//! Debian, except that Vixie's looks at minute and hour only (it has no seconds) and takes changes
//! of three hours and more for a correction of the clock.

mod due;
mod field;
mod line;
mod zone;

pub use self::due::{CatchUp, Due, GRACE_MS, MOST_MISSED, due};

use chrono_tz::Tz;

use self::line::Line;
use crate::error::{EngineError, Result};

/// When something fires: a cron line in a time zone.
///
/// ```
/// use taskito_engine::schedule::Schedule;
///
/// let schedule = Schedule::parse("30 2 * * mon", "Europe/Paris")?;
/// // From Monday 2027-01-04 00:00 UTC: the same day at 01:30 UTC.
/// assert_eq!(schedule.next_after(1_799_020_800_000), Some(1_799_026_200_000));
/// # Ok::<(), taskito_engine::error::EngineError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    line: Line,
    zone: Tz,
}

impl Schedule {
    /// Read a line of five fields, or six with seconds first, or one of `@hourly` and its like.
    ///
    /// # Errors
    /// The line or the name of the zone cannot be read, or the line never fires; names the field.
    pub fn parse(line: &str, timezone: &str) -> Result<Self> {
        let line = Line::parse(line)
            .map_err(|problem| EngineError::invalid("cron", format!("{line:?}: {problem}")))?;
        let zone = timezone.parse().map_err(|_| {
            EngineError::invalid(
                "timezone",
                format!(
                    "{timezone:?} is not the name of a time zone; give one such as \
                     \"Europe/Paris\" or \"UTC\""
                ),
            )
        })?;
        Ok(Self { line, zone })
    }

    /// The first fire after an instant, both in milliseconds since the Unix epoch; `None` if there is
    /// none before the year 2100.
    #[must_use]
    pub fn next_after(&self, after_ms: i64) -> Option<i64> {
        let after = after_ms.div_euclid(1_000);
        let next = if self.line.follows_the_clock() {
            self.next_by_the_clock(after)
        } else {
            self.next_fixed(after)
        };
        next.map(|second| second * 1_000)
    }

    /// The fires after `after_ms` and not after `until_ms`, oldest first.
    pub fn between(&self, after_ms: i64, until_ms: i64) -> impl Iterator<Item = i64> + '_ {
        std::iter::successors(self.next_after(after_ms), |last| self.next_after(*last))
            .take_while(move |at_ms| *at_ms <= until_ms)
    }

    /// Each instant whose local time is named. Between two changes of the clock, local time and
    /// instants differ by a constant, so one such stretch is looked at after the other.
    fn next_by_the_clock(&self, after: i64) -> Option<i64> {
        let mut from = after + 1;
        loop {
            let offset = zone::offset_at(self.zone, from)?;
            let named = self.line.next_local(from + offset - 1)? - offset;
            match zone::first_change(self.zone, from, named) {
                None => return Some(named),
                Some(change) => from = change,
            }
        }
    }

    /// Each named local time at its first instant, or right after the gap that it lies in. That
    /// instant never goes back while local times go on, so the first one after `after` is the next.
    fn next_fixed(&self, after: i64) -> Option<i64> {
        let mut local = after + zone::offset_at(self.zone, after)?;
        loop {
            local = self.line.next_local(local)?;
            let at = zone::first_instant(self.zone, local)?;
            if at > after {
                return Some(at);
            }
        }
    }
}
