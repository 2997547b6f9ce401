//! What lines mean, by example: fields, Vixie's two rules, refusals, missed fires.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use chrono::{DateTime, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use taskito_engine::schedule::{CatchUp, Due, Schedule, due};

fn ms(instant: &str) -> i64 {
    DateTime::parse_from_rfc3339(instant)
        .unwrap()
        .timestamp_millis()
}

/// The next fires after an instant, as local times with their offset.
fn fires(line: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(line, zone).unwrap();
    let zone: Tz = zone.parse().unwrap();
    schedule
        .between(ms(after), i64::MAX)
        .take(count)
        .map(|at_ms| {
            let local = zone.timestamp_millis_opt(at_ms).unwrap();
            local.format("%m-%d %H:%M:%S %z").to_string()
        })
        .collect()
}

fn in_utc(line: &str, count: usize) -> Vec<String> {
    // A Friday.
    let found = fires(line, "UTC", "2027-01-01T00:00:00Z", count);
    found
        .iter()
        .map(|text| text.trim_end_matches(" +0000").to_owned())
        .collect()
}

#[test]
fn five_fields_begin_with_minutes_and_six_with_seconds() {
    assert_eq!(
        in_utc("30 4 * * *", 2),
        ["01-01 04:30:00", "01-02 04:30:00"]
    );
    assert_eq!(
        in_utc("*/20 30 4 * * *", 3),
        ["01-01 04:30:00", "01-01 04:30:20", "01-01 04:30:40"]
    );
    assert_eq!(
        in_utc("* * * * * *", 2),
        ["01-01 00:00:01", "01-01 00:00:02"]
    );
}

#[test]
fn sunday_is_0_and_7_and_days_and_months_have_names() {
    let sundays = ["01-03 00:00:00", "01-10 00:00:00"];
    for line in [
        "0 0 * * 0",
        "0 0 * * 7",
        "0 0 * * SUN",
        "@weekly",
        "0 0 * jan-feb sun",
    ] {
        assert_eq!(in_utc(line, 2), sundays, "{line}");
    }
    let weekend = [
        "01-01 06:00:00",
        "01-02 06:00:00",
        "01-03 06:00:00",
        "01-08 06:00:00",
    ];
    for line in ["0 6 * * 5-7", "0 6 * * fri-sun", "0 6 * * Fri,Sat,0"] {
        assert_eq!(in_utc(line, 4), weekend, "{line}");
    }
}

#[test]
fn ranges_lists_and_steps_combine() {
    assert_eq!(
        in_utc("1-10/4,40,50/5 3 * * *", 6),
        [
            "01-01 03:01:00",
            "01-01 03:05:00",
            "01-01 03:09:00",
            "01-01 03:40:00",
            "01-01 03:50:00",
            "01-01 03:55:00"
        ]
    );
}

#[test]
fn two_restricted_day_fields_are_alternatives_and_a_star_is_no_restriction() {
    assert_eq!(
        in_utc("0 0 13 * mon", 3),
        ["01-04 00:00:00", "01-11 00:00:00", "01-13 00:00:00"]
    );
    // Odd days that are Mondays.
    assert_eq!(
        in_utc("0 0 */2 * mon", 2),
        ["01-11 00:00:00", "01-25 00:00:00"]
    );
}

#[test]
fn shorthands_stand_for_their_lines() {
    for (short, line) in [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        (" @Hourly ", "0 * * * *"),
    ] {
        assert_eq!(in_utc(short, 3), in_utc(line, 3), "{short}");
    }
}

#[test]
fn a_malformed_line_is_refused_with_its_field() {
    for (line, named) in [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("@reboot", "@hourly"),
        (
            "60 * * * *",
            "minute: \"60\" has \"60\", which is not between 0 and 59",
        ),
        ("60 * * * * *", "second"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of month"),
        ("* * * 13 *", "month"),
        ("* * * * 8", "day of week"),
        (
            "* * * * mo",
            "day of week: \"mo\" has \"mo\", which is not between 0 and 7, sun to sat",
        ),
        ("*/0 * * * *", "step"),
        ("*/x * * * *", "step"),
        ("5-1 * * * *", "ends before it begins"),
        ("1,,2 * * * *", "minute"),
        ("+1 * * * *", "minute"),
        ("1- * * * *", "minute"),
        ("999999999999 * * * *", "minute"),
        ("* * L * *", "day of month"),
        ("* * ? * *", "day of month"),
        ("* * * * 1#2", "day of week"),
        (
            "0 0 30 2 *",
            "day of month: no month that is named has such a day (30)",
        ),
        ("0 0 31 4,6 *", "no month"),
    ] {
        let error = Schedule::parse(line, "UTC").unwrap_err().to_string();
        assert!(error.starts_with("cron: "), "{error}");
        assert!(error.contains(named), "{line:?}: {error}");
    }
    let error = Schedule::parse("* * * * *", "Mars/Olympus").unwrap_err();
    assert!(error.to_string().starts_with("timezone: \"Mars/Olympus\""));
}

#[test]
fn a_rare_line_fires_all_the_same() {
    let found = fires("0 0 29 2 *", "UTC", "2027-01-01T00:00:00Z", 2);
    assert_eq!(found, ["02-29 00:00:00 +0000", "02-29 00:00:00 +0000"]);
    assert_eq!(
        Schedule::parse("@daily", "UTC")
            .unwrap()
            .next_after(i64::MAX),
        None
    );
}

#[test]
fn a_fixed_time_in_a_gap_fires_once_right_after_it() {
    // Paris, 28 March 2027: 02:00 is followed by 03:00.
    for line in ["30 2 * * *", "0,15,30,45 2 * * *", "30 2,3 28 3 *"] {
        let found = fires(line, "Europe/Paris", "2027-03-27T12:00:00Z", 1);
        assert_eq!(found, ["03-28 03:00:00 +0200"], "{line}");
    }
    assert_eq!(
        fires("30 2 * * *", "Europe/Paris", "2027-03-27T00:00:00Z", 3),
        [
            "03-27 02:30:00 +0100",
            "03-28 03:00:00 +0200",
            "03-29 02:30:00 +0200"
        ]
    );
    // One that lies in the gap and one at its end are one fire.
    assert_eq!(
        fires("0,30 2,3 * * *", "Europe/Paris", "2027-03-28T00:30:00Z", 3),
        [
            "03-28 03:00:00 +0200",
            "03-28 03:30:00 +0200",
            "03-29 02:00:00 +0200"
        ]
    );
}

#[test]
fn a_fixed_time_that_exists_twice_fires_at_the_first() {
    // Paris, 31 October 2027: 03:00 is followed by 02:00.
    assert_eq!(
        fires("30 2 * * *", "Europe/Paris", "2027-10-30T12:00:00Z", 2),
        ["10-31 02:30:00 +0200", "11-01 02:30:00 +0100"]
    );
}

#[test]
fn a_line_with_a_star_follows_the_clock() {
    assert_eq!(
        fires("30 * * * *", "Europe/Paris", "2027-03-28T00:00:00Z", 3),
        [
            "03-28 01:30:00 +0100",
            "03-28 03:30:00 +0200",
            "03-28 04:30:00 +0200"
        ]
    );
    assert_eq!(
        fires("*/30 2 * * *", "Europe/Paris", "2027-10-30T22:00:00Z", 5),
        [
            "10-31 02:00:00 +0200",
            "10-31 02:30:00 +0200",
            "10-31 02:00:00 +0100",
            "10-31 02:30:00 +0100",
            "11-01 02:00:00 +0100"
        ]
    );
    // In spring there is no such time at all.
    assert_eq!(
        fires("*/30 2 * * *", "Europe/Paris", "2027-03-28T00:00:00Z", 1),
        ["03-29 02:00:00 +0200"]
    );
    // Lord Howe goes back by half an hour.
    assert_eq!(
        fires(
            "*/20 1 * * *",
            "Australia/Lord_Howe",
            "2027-04-03T13:59:59Z",
            6
        ),
        [
            "04-04 01:00:00 +1100",
            "04-04 01:20:00 +1100",
            "04-04 01:40:00 +1100",
            "04-04 01:40:00 +1030",
            "04-05 01:00:00 +1030",
            "04-05 01:20:00 +1030"
        ]
    );
}

#[test]
fn a_gap_at_midnight_and_a_day_that_was_skipped_are_gaps_like_any_other() {
    assert_eq!(
        fires("0 0 * * *", "America/Santiago", "2027-09-04T12:00:00Z", 2),
        ["09-05 01:00:00 -0300", "09-06 00:00:00 -0300"]
    );
    // Samoa skipped 30 December 2011.
    assert_eq!(
        fires("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3),
        [
            "12-29 12:00:00 -1000",
            "12-31 00:00:00 +1400",
            "12-31 12:00:00 +1400"
        ]
    );
}

#[test]
fn every_zone_of_the_database_can_be_asked() {
    for zone in chrono_tz::TZ_VARIANTS {
        let schedule = Schedule::parse("30 2 * * *", zone.name()).unwrap();
        let count = schedule
            .between(ms("2027-01-01T00:00:00Z"), ms("2028-01-01T00:00:00Z"))
            .count();
        assert!((364..=366).contains(&count), "{zone}: {count}");
    }
}

#[test]
fn the_clock_is_followed_second_by_second() {
    // Ground truth: each second of a day whose local time matches.
    for (zone, date) in [
        ("Australia/Lord_Howe", "2027-04-03T12:00:00"),
        ("Australia/Lord_Howe", "2027-10-02T12:00:00"),
        ("Pacific/Chatham", "2027-04-03T12:00:00"),
        ("Pacific/Chatham", "2027-09-25T12:00:00"),
        ("America/Chicago", "2027-03-14T06:00:00"),
        ("America/Chicago", "2027-11-07T05:00:00"),
    ] {
        let tz: Tz = zone.parse().unwrap();
        let from = date.parse::<NaiveDateTime>().unwrap().and_utc();
        let until = from + chrono::TimeDelta::hours(8);
        for (line, minutes, hours) in [
            ("*/7 1,2 * * *", 7, vec![1, 2]),
            ("*/13 * * * *", 13, (0..24).collect::<Vec<_>>()),
        ] {
            let truth: Vec<i64> = (1..=8 * 60)
                .map(|minute| from + chrono::TimeDelta::minutes(minute))
                .filter(|at| {
                    use chrono::Timelike;
                    let local = at.with_timezone(&tz);
                    local.minute() % minutes == 0 && hours.contains(&local.hour())
                })
                .map(|at| at.timestamp_millis())
                .collect();
            let schedule = Schedule::parse(line, zone).unwrap();
            let found: Vec<i64> = schedule
                .between(from.timestamp_millis(), until.timestamp_millis())
                .collect();
            assert_eq!(found, truth, "{line} in {zone}");
        }
    }
}

// Missed fires -----------------------------------------------------------------------------------

const NOON: i64 = 1_799_064_000_000;

fn daily() -> Schedule {
    Schedule::parse("0 12 * * *", "UTC").unwrap()
}

const DAY: i64 = 86_400_000;

#[test]
fn a_fire_that_is_due_is_made_and_one_to_come_is_not() {
    for catch_up in [CatchUp::Once, CatchUp::All, CatchUp::None] {
        let nothing = Due {
            fires: vec![],
            next_ms: Some(NOON),
        };
        assert_eq!(due(&daily(), NOON, NOON - 1, catch_up, 9), nothing);
        let one = Due {
            fires: vec![NOON],
            next_ms: Some(NOON + DAY),
        };
        assert_eq!(due(&daily(), NOON, NOON, catch_up, 9), one);
        assert_eq!(due(&daily(), NOON, NOON + 10_000, catch_up, 9), one);
    }
}

#[test]
fn what_was_missed_is_made_good_as_asked() {
    let now = NOON + 3 * DAY + 60_000;
    let fires = |catch_up| due(&daily(), NOON, now, catch_up, 9).fires;
    assert_eq!(fires(CatchUp::Once), [NOON + 3 * DAY]);
    assert_eq!(
        fires(CatchUp::All),
        [NOON, NOON + DAY, NOON + 2 * DAY, NOON + 3 * DAY]
    );
    assert_eq!(fires(CatchUp::None), [0_i64; 0]);
    // The newest is still on time.
    assert_eq!(
        due(&daily(), NOON, NOON + DAY + 5_000, CatchUp::None, 9).fires,
        [NOON + DAY]
    );
}

#[test]
fn a_budget_leaves_the_rest_due() {
    let now = NOON + 3 * DAY;
    let first = due(&daily(), NOON, now, CatchUp::All, 3);
    assert_eq!(first.fires, [NOON, NOON + DAY, NOON + 2 * DAY]);
    assert_eq!(first.next_ms, Some(now));
}

#[test]
fn of_very_many_missed_fires_the_newest_thousand_are_made_good() {
    let each_second = Schedule::parse("* * * * * *", "UTC").unwrap();
    let now = NOON + 365 * DAY;
    let all = due(&each_second, NOON, now, CatchUp::All, 5_000);
    assert_eq!(all.fires.len(), 1_000);
    assert_eq!(
        (all.fires[0], all.fires[999], all.next_ms),
        (now - 999_000, now, Some(now + 1_000))
    );
    assert_eq!(
        due(&daily(), NOON, now, CatchUp::All, 5_000).fires.len(),
        366
    );
}
