"""Random cron lines against cronsim, an independent implementation of Debian's cron."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given
from hypothesis import strategies as st

from taskito.exceptions import ConfigurationError
from taskito.schedule import next_fires

FIRES = 15
# Zones whose clocks change by whole hours, at a full hour, and not at midnight.
PLAIN = ("Europe/Paris", "America/Chicago", "America/New_York", "Australia/Sydney", "UTC")
ODD = ("Australia/Lord_Howe", "Pacific/Chatham", "America/Santiago", "Asia/Beirut")
# Afternoons before a change of the clock in one of the zones.
TRANSITIONS = (
    datetime(2027, 3, 27, 12, tzinfo=UTC),
    datetime(2027, 10, 30, 12, tzinfo=UTC),
    datetime(2027, 3, 13, 12, tzinfo=UTC),
    datetime(2027, 11, 6, 12, tzinfo=UTC),
    datetime(2027, 4, 3, 3, tzinfo=UTC),
    datetime(2027, 10, 2, 3, tzinfo=UTC),
    datetime(2027, 9, 25, 3, tzinfo=UTC),
    datetime(2027, 9, 4, 12, tzinfo=UTC),
    datetime(2027, 4, 3, 12, tzinfo=UTC),
)


def values(low, high):
    number = st.integers(low, high)
    pair = st.tuples(number, number).map(sorted)
    # cronsim takes "5-5/2" for "5/2", that is 5, 7, 9 and so on; here and in Debian it is 5.
    wide = pair.filter(lambda ends: ends[0] < ends[1])
    return st.one_of(
        number.map(str),
        pair.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.tuples(wide, st.integers(1, 9)).map(lambda one: f"{one[0][0]}-{one[0][1]}/{one[1]}"),
        st.tuples(number, st.integers(1, 9)).map(lambda one: f"{one[0]}/{one[1]}"),
    )


def lists(low, high):
    return st.lists(values(low, high), min_size=1, max_size=3).map(",".join)


def fields(low, high):
    stars = st.just("*") | st.integers(1, 40).map("*/{}".format)
    return stars | lists(low, high)


DAYS = st.tuples(
    st.just("*") | fields(1, 31),
    st.just("*") | fields(1, 12) | st.sampled_from(["jan", "MAR,oct", "3,4,9-11"]),
    st.just("*") | fields(0, 7) | st.sampled_from(["sun", "MON,wed", "6,7"]),
).map(" ".join)
ANY_LINE = st.tuples(fields(0, 59), fields(0, 23), DAYS).map(" ".join)
# A fixed time near the changes of the clock, on most days.
FIXED = st.tuples(lists(0, 59), lists(0, 4), st.sampled_from(["* * *", "*/2 * *"])).map(" ".join)
WITH_SECONDS = st.tuples(fields(0, 59), ANY_LINE).map(" ".join)
MOMENTS = st.integers(1_577_836_800, 2_114_380_800).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
) | st.tuples(st.sampled_from(TRANSITIONS), st.integers(0, 2 * 86_400)).map(
    lambda one: one[0] + timedelta(seconds=one[1])
)


def instants(fires):
    return [fire.astimezone(UTC) for fire in fires]


def expected(line, moment, zone, count=FIRES):
    return instants(islice(CronSim(line, moment.astimezone(ZoneInfo(zone))), count))


def ours(line, moment, zone, count=FIRES):
    return instants(next_fires(line, count, zone, after=moment))


def check(line, moment, zone):
    try:
        truth = expected(line, moment, zone)
    except CronSimError:
        with pytest.raises(ConfigurationError, match=r"cron: .*day of month"):
            next_fires(line)
        return
    found = ours(line, moment, zone)
    assert found == truth


@given(line=ANY_LINE, moment=MOMENTS, zone=st.sampled_from(PLAIN))
def test_lines_of_five_fields_fire_when_cronsim_says(line, moment, zone):
    check(line, moment, zone)


@given(line=FIXED, moment=MOMENTS, zone=st.sampled_from(PLAIN))
def test_fixed_times_go_through_changes_of_the_clock_as_cronsim_says(line, moment, zone):
    check(line, moment, zone)


@given(line=FIXED, moment=MOMENTS, zone=st.sampled_from(ODD))
def test_fixed_times_in_zones_with_odd_changes_fire_when_cronsim_says(line, moment, zone):
    check(line, moment, zone)


@given(line=WITH_SECONDS, moment=MOMENTS, zone=st.sampled_from(PLAIN))
def test_lines_with_seconds_fire_when_cronsim_says(line, moment, zone):
    """Fixed times with seconds are asked for in UTC only.

    cronsim lets every line of six fields follow the clock, also "0 30 2 * * *": it takes them for
    none of Debian's. Here seconds do not change what a fixed time of the day is.
    """
    follows = any(field.startswith("*") for field in line.split()[:3])
    check(line, moment, zone if follows else "UTC")


@given(line=FIXED, second=st.integers(0, 59), moment=MOMENTS, zone=st.sampled_from(PLAIN + ODD))
def test_a_fixed_second_shifts_a_fixed_time_and_nothing_else(line, second, moment, zone):
    """What cronsim cannot be asked: six fields at changes of the clock, by way of five.

    A fire of a gap comes at its end, whatever the second.
    """
    minutes = [at for at in ours(line, moment, zone, 2 * FIRES) if not _ends_a_gap(at, zone)]
    shifted = [
        at - timedelta(seconds=second)
        for at in ours(f"{second} {line}", moment, zone, 2 * FIRES)
        if not _ends_a_gap(at - timedelta(seconds=second), zone) and not _ends_a_gap(at, zone)
    ]
    until = min(minutes[-1], shifted[-1])
    later = [at for at in shifted if moment < at <= until]
    assert later == [at for at in minutes if at <= until]


@given(minute=fields(0, 59), hour=fields(0, 23), moment=MOMENTS, zone=st.sampled_from(PLAIN + ODD))
def test_a_line_with_a_star_fires_at_each_minute_that_the_clock_shows(minute, hour, moment, zone):
    """Ground truth is each minute of a day, asked one by one.

    cronsim is not asked here: it goes on in whole hours of real time and so steps over part of an
    hour when the clock changes by half an hour (Lord Howe) or not at a full hour (Chatham).
    """
    line = f"{minute} {hour} * * *"
    if not line.startswith("*") and not hour.startswith("*"):
        minute = f"*/{1 + len(minute) % 30}"
        line = f"{minute} {hour} * * *"
    # Which minutes and hours are named, told by cronsim on a day in UTC.
    day = datetime(2027, 1, 1, tzinfo=UTC) - timedelta(seconds=1)
    named = {
        (at.hour, at.minute)
        for at in islice(CronSim(line, day), 1_440)
        if at < day + timedelta(days=1)
    }
    begin = moment.replace(second=0, microsecond=0)
    minutes = [begin + timedelta(minutes=number) for number in range(1_440)]
    truth = [
        at
        for at in minutes
        if at > moment
        and (at.astimezone(ZoneInfo(zone)).hour, at.astimezone(ZoneInfo(zone)).minute) in named
    ]
    assert ours(line, moment, zone, FIRES)[: len(truth)] == truth[:FIRES]


def _ends_a_gap(at, zone):
    def offset(moment):
        return moment.astimezone(ZoneInfo(zone)).utcoffset()

    return offset(at) > offset(at - timedelta(seconds=1))
