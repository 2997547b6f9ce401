//! Random lines against croner, an independent implementation.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use chrono::{DateTime, TimeZone};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use proptest::prelude::*;
use taskito_engine::schedule::Schedule;

const FIRES: usize = 12;
/// Within so many milliseconds of a change of the clock croner is not asked, see below.
const NEAR: i64 = 3 * 86_400_000;

fn value(low: u8, high: u8) -> impl Strategy<Value = String> {
    prop_oneof![
        (low..=high).prop_map(|value| value.to_string()),
        (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        (low..=high, low..=high, 1..9_u8).prop_map(|(a, b, step)| format!(
            "{}-{}/{step}",
            a.min(b),
            a.max(b)
        )),
    ]
}

fn field(low: u8, high: u8) -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        (1..20_u8).prop_map(|step| format!("*/{step}")),
        prop::collection::vec(value(low, high), 1..4).prop_map(|parts| parts.join(",")),
    ]
}

/// Like `field`, without a star that has a step: croner takes such a day field for a restriction,
/// Vixie's cron does not.
fn day_field(low: u8, high: u8) -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        prop::collection::vec(value(low, high), 1..4).prop_map(|parts| parts.join(",")),
    ]
}

fn month() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        Just("jan-mar,oct".to_owned()),
        field(1, 12)
    ]
}

fn weekday() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        Just("mon,WED".to_owned()),
        Just("fri-sun".to_owned()),
        day_field(0, 7)
    ]
}

fn line() -> impl Strategy<Value = String> {
    let five = (
        field(0, 59),
        field(0, 23),
        day_field(1, 31),
        month(),
        weekday(),
    );
    (prop::option::of(field(0, 59)), five).prop_map(
        |(second, (minute, hour, day, month, weekday))| {
            let five = format!("{minute} {hour} {day} {month} {weekday}");
            second.map_or(five.clone(), |second| format!("{second} {five}"))
        },
    )
}

fn croner(line: &str) -> Cron {
    let parser = CronParser::builder().seconds(Seconds::Optional).build();
    parser.parse(line).expect("croner reads the line")
}

/// Whether the offset of a zone is another one somewhere near.
fn near_a_change(zone: Tz, at: DateTime<Tz>) -> bool {
    use chrono::Offset;
    let offset = |by: i64| {
        let moved = zone.timestamp_millis_opt(at.timestamp_millis() + by);
        moved.unwrap().offset().fix()
    };
    offset(-NEAR) != offset(NEAR)
}

proptest! {
    /// Far from changes of the clock: any line, any zone.
    #[test]
    fn lines_fire_when_croner_says(
        line in line(),
        zone in prop::sample::select(vec![
            "UTC", "Europe/Paris", "America/Chicago", "Australia/Lord_Howe", "Pacific/Chatham",
            "Asia/Kathmandu",
        ]),
        from_s in 1_700_000_000_i64..2_000_000_000,
    ) {
        // Neither may fire at all: a day that no month has.
        let Ok(ours) = Schedule::parse(&line, zone) else {
            let from = Tz::UTC.timestamp_opt(from_s, 0).unwrap();
            prop_assert!(croner(&line).find_next_occurrence(&from, false).is_err(), "{}", line);
            return Ok(());
        };
        let zone: Tz = zone.parse().unwrap();
        let theirs = croner(&line);
        let mut at = zone.timestamp_opt(from_s, 0).unwrap();
        for _ in 0..FIRES {
            let next = ours.next_after(at.timestamp_millis()).unwrap();
            let found = zone.timestamp_millis_opt(next).unwrap();
            if near_a_change(zone, at) || near_a_change(zone, found) {
                at = found;
                continue;
            }
            let expected = theirs.find_next_occurrence(&at, false).unwrap();
            prop_assert_eq!(found, expected, "{} after {}", line, at);
            at = found;
        }
    }
}
