//! Local times and instants, in whole seconds. A local time is counted as if its zone were UTC.

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;

/// The steps in which changes of the clock are looked for. Two changes that undo each other are
/// weeks apart; those of the Moroccan Ramadan are the closest.
const STEP: i64 = 12 * 3_600;
/// No gap is longer: some zones have crossed the date line, and skipped a day.
const LONGEST_GAP: i64 = 26 * 3_600;

/// Seconds to add to an instant to get the local time; `None` beyond the calendar.
pub(super) fn offset_at(zone: Tz, instant: i64) -> Option<i64> {
    let utc = DateTime::from_timestamp(instant, 0)?.naive_utc();
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    Some(i64::from(offset.local_minus_utc()))
}

/// The first instant after `from`, and not after `to`, at which the offset is another one than
/// before.
pub(super) fn first_change(zone: Tz, from: i64, to: i64) -> Option<i64> {
    let before = offset_at(zone, from)?;
    let mut low = from;
    while low < to {
        let high = (low + STEP).min(to);
        if offset_at(zone, high)? != before {
            return Some(first(low, high, |instant| {
                offset_at(zone, instant) != Some(before)
            }));
        }
        low = high;
    }
    None
}

/// The first instant that has this local time; for one that does not exist, the end of the gap.
pub(super) fn first_instant(zone: Tz, local: i64) -> Option<i64> {
    let naive = DateTime::from_timestamp(local, 0)?.naive_utc();
    match zone.from_local_datetime(&naive).earliest() {
        Some(found) => Some(found.timestamp()),
        None => Some(first(local - LONGEST_GAP, local + LONGEST_GAP, |instant| {
            offset_at(zone, instant).is_some_and(|offset| instant + offset >= local)
        })),
    }
}

/// The first number in `low + 1..=high` for which `is_so`, which stays so and holds for `high`.
fn first(mut low: i64, mut high: i64, is_so: impl Fn(i64) -> bool) -> i64 {
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if is_so(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}
