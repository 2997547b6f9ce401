"""``taskito.schedule``: the Python side of cron lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from taskito.exceptions import ConfigurationError
from taskito.schedule import Schedule, next_fires

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)


def test_the_next_fires_are_aware_and_in_the_zone():
    first, second = next_fires("30 4 * * *", 2, "Europe/Paris", after=NOON)
    paris = ZoneInfo("Europe/Paris")
    assert first == datetime(2027, 1, 2, 4, 30, tzinfo=paris)
    assert second == datetime(2027, 1, 3, 4, 30, tzinfo=paris)
    assert first.tzinfo == paris


@pytest.mark.parametrize("zone", ["Europe/Paris", ZoneInfo("Europe/Paris")])
def test_a_zone_is_a_name_or_a_zoneinfo(zone):
    assert next_fires("0 0 * * *", 1, zone, after=NOON) == [datetime(2027, 1, 1, 23, tzinfo=UTC)]


@pytest.mark.parametrize("zone", [None, UTC, "UTC"])
def test_utc_is_the_default(zone):
    assert next_fires("0 0 * * *", 1, zone, after=NOON) == [datetime(2027, 1, 2, tzinfo=UTC)]


def test_without_a_moment_it_begins_now():
    [fire] = next_fires("* * * * * *", 1)
    assert timedelta(0) < fire - datetime.now(UTC) + timedelta(seconds=1) <= timedelta(seconds=2)


def test_none_is_fine_and_a_line_may_run_out():
    assert next_fires("@daily", 0) == []
    last = next_fires("0 0 1 1 *", 9, after=datetime(2097, 6, 1, tzinfo=UTC))
    assert [fire.year for fire in last][:2] == [2098, 2099]


def test_a_fraction_of_a_second_counts():
    just_before = datetime(2027, 1, 1, 11, 59, 59, 999_000, tzinfo=UTC)
    assert next_fires("0 12 * * *", 1, after=just_before) == [NOON]
    assert next_fires("0 12 * * *", 1, after=NOON) == [NOON + timedelta(days=1)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"line": "99 * * * *"}, 'cron: "99 .*minute'),
        ({"line": 5}, "cron: 5"),
        ({"line": "@daily", "n": -1}, "n: -1"),
        ({"line": "@daily", "n": 1.5}, "n: 1.5"),
        ({"line": "@daily", "timezone": "Nowhere"}, 'timezone: "Nowhere"'),
        ({"line": "@daily", "timezone": timezone(timedelta(hours=1))}, "timezone: "),
        ({"line": "@daily", "after": datetime(2027, 1, 1)}, "after: "),  # noqa: DTZ001
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments, named):
    with pytest.raises(ConfigurationError, match=named):
        next_fires(**arguments)


def test_a_schedule_lists_the_fires_of_a_time():
    schedule = Schedule("@hourly")
    hour = 3_600_000
    assert list(schedule.between(0, 2 * hour)) == [hour, 2 * hour]
    assert schedule.next_after(-1) == 0
