//! A whole cron line, and the local times that it names.

use chrono::{DateTime, Utc};
use cron::Schedule as Calendar;

use super::field::{DAY_OF_MONTH, DAY_OF_WEEK, HOUR, Kind, MINUTE, MONTH, SECOND};

const SHORTHANDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
/// Longer lines say nothing that a shorter one could not.
const MOST_CHARACTERS: usize = 1_000;

/// A line that was read.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// One calendar, or two of which either may name a day.
    calendars: Vec<Calendar>,
    follows_the_clock: bool,
}

impl Line {
    /// Read a line; the error names the field.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MOST_CHARACTERS {
            return Err(format!("it has more than {MOST_CHARACTERS} characters"));
        }
        let text = expand(text.trim())?;
        let mut parts: Vec<&str> = text.split_ascii_whitespace().collect();
        match parts.len() {
            5 => parts.insert(0, "0"),
            6 => {}
            other => {
                return Err(format!(
                    "it has {other} fields; give five (minute, hour, day of month, month, day of \
                     week) or six, with seconds first"
                ));
            }
        }
        let read = |kind: &'static Kind, index: usize| kind.read(parts[index]);
        let (second, minute, hour) = (read(&SECOND, 0)?, read(&MINUTE, 1)?, read(&HOUR, 2)?);
        let (day, month, weekday) = (
            read(&DAY_OF_MONTH, 3)?,
            read(&MONTH, 4)?,
            read(&DAY_OF_WEEK, 5)?,
        );
        let time = format!("{} {} {}", second.list(), minute.list(), hour.list());
        let calendar = |days: &str, weekdays: &str| {
            format!("{time} {days} {} {weekdays}", month.list())
                .parse::<Calendar>()
                .map_err(|error| error.to_string())
        };
        // Vixie's rule: days of the month and of the week must both match, unless both are
        // restricted; then either is enough.
        let calendars = if day.starred || weekday.starred {
            vec![calendar(&day.list(), &weekday.list_of_weekdays())?]
        } else {
            vec![
                calendar(&day.list(), "*")?,
                calendar("*", &weekday.list_of_weekdays())?,
            ]
        };
        let line = Self {
            calendars,
            follows_the_clock: second.starred || minute.starred || hour.starred,
        };
        // Counted from the year 2000, so that a leap day lies ahead whatever the present year.
        if line.next_local(946_684_800).is_none() {
            return Err(format!(
                "day of month: no month that is named has such a day ({})",
                day.list()
            ));
        }
        Ok(line)
    }

    /// Whether it fires for each moment of the clock that it names, rather than once a day for each
    /// time of the day.
    pub(super) const fn follows_the_clock(&self) -> bool {
        self.follows_the_clock
    }

    /// The first local time that is named after another; both count seconds as if in UTC.
    pub(super) fn next_local(&self, after: i64) -> Option<i64> {
        let after: DateTime<Utc> = DateTime::from_timestamp(after, 0)?;
        let next = |calendar: &Calendar| calendar.after(&after).next();
        self.calendars
            .iter()
            .filter_map(next)
            .min()
            .map(|found| found.timestamp())
    }
}

/// A line of fields for `@daily` and its like.
fn expand(text: &str) -> Result<&str, String> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    SHORTHANDS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, line)| *line)
        .ok_or_else(|| {
            let names: Vec<&str> = SHORTHANDS.iter().map(|(name, _)| *name).collect();
            format!("it is none of {}", names.join(", "))
        })
}
