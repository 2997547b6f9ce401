"""Values are checked at the API; what is wrong is named."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito import ConfigurationError, config

NOT_NUMBERS = [True, False, "1", None, [], timedelta(seconds=1), 1 + 0j, b"1"]


@pytest.mark.parametrize("value", [*NOT_NUMBERS, -1, -0.001, math.nan, math.inf, -math.inf, 1e300])
def test_seconds_are_finite_numbers_from_zero(value):
    with pytest.raises(ConfigurationError, match=r"^delay: .* 0 or more"):
        config.check_seconds("delay", value)


def test_seconds_too_large_for_a_float_are_refused_as_well():
    with pytest.raises(ConfigurationError, match="delay"):
        config.check_seconds("delay", 10**400)


def test_zero_seconds_are_refused_where_they_mean_nothing():
    assert config.check_seconds("delay", 0) == 0.0
    with pytest.raises(ConfigurationError, match="more than 0"):
        config.check_seconds("lease", 0, positive=True)


@given(st.integers(0, config.MAX_SECONDS * 1000))
def test_milliseconds_survive_the_way_through_seconds(milliseconds):
    assert config.to_milliseconds(milliseconds / 1000) == milliseconds


def test_a_tiny_duration_does_not_become_none():
    assert config.to_milliseconds(1e-9) == 1
    assert config.to_milliseconds(0.0) == 0


@pytest.mark.parametrize("value", [-129, 128, 1.0, "1", True, None])
def test_priorities_are_bounded(value):
    with pytest.raises(ConfigurationError, match=r"^priority: .* from -128 to 127"):
        config.check_priority("priority", value)


@pytest.mark.parametrize("value", [-128, 0, 127])
def test_priorities_in_bounds_are_taken(value):
    assert config.check_priority("priority", value) == value


@pytest.mark.parametrize("value", ["", "x" * 256, "a\nb", "a\0", "\x7f", "\x85", "\ud800", 5, None])
def test_names_are_short_and_printable(value):
    with pytest.raises(ConfigurationError, match=r"^queue: .* 1 to 255 characters"):
        config.check_name("queue", value)


@pytest.mark.parametrize("value", ["a", "x" * 255, "ünïcode ☃", "with space"])
def test_names_in_bounds_are_taken(value):
    assert config.check_name("queue", value) == value


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ConfigurationError) as caught:
        config.check_name("queue", "x" * 100_000)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("value", ["", "é" * 513, "\udfff", 7, None])
def test_keys_are_bounded_in_bytes(value):
    with pytest.raises(ConfigurationError, match="unique_key"):
        config.check_key("unique_key", value)
    assert config.check_key("unique_key", "é" * 512) == "é" * 512


def test_lists_of_names_lose_repetitions_and_refuse_a_text():
    assert config.check_names("queues", ["b", "a", "b"]) == ("b", "a")
    for wrong in ("ab", [], 5, [""], None):
        with pytest.raises(ConfigurationError, match="queues"):
            config.check_names("queues", wrong)


def test_a_naive_datetime_is_refused():
    with pytest.raises(ConfigurationError, match=r"^eta: .*aware"):
        config.check_instant("eta", datetime(2030, 1, 1))  # noqa: DTZ001
    with pytest.raises(ConfigurationError, match=r"^expires: .*aware"):
        config.check_expiry("expires", datetime(2030, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("value", [5, 5.0, "2030-01-01", None])
def test_an_instant_is_no_number(value):
    with pytest.raises(ConfigurationError, match=r"delay="):
        config.check_instant("eta", value)


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)), st.integers(-840, 840))  # noqa: DTZ001
def test_instants_are_milliseconds_in_any_zone(moment, offset):
    zone = timezone(timedelta(minutes=offset))
    aware = moment.replace(tzinfo=UTC).astimezone(zone)
    expected = (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)  # noqa: DTZ001
    assert config.check_instant("eta", aware) == expected


def test_an_instant_before_the_epoch_counts_as_the_epoch():
    assert config.check_instant("eta", datetime(1900, 1, 1, tzinfo=UTC)) == 0


def test_an_expiry_is_a_duration_or_an_instant():
    assert config.check_expiry("expires", 1.5) == (1500, None)
    assert config.check_expiry("expires", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)) == (None, 1000)


@pytest.mark.parametrize("value", ["100/m", "10/s", "3600/h", "5/30s", "100/m burst 1", "1/d"])
def test_rates_are_taken(value):
    assert config.check_rate_limit("rate_limit", value) == value


@pytest.mark.parametrize(
    "value", ["", "100", "100/", "/m", "0/m", "1/0s", "100/m burst 0", "1/x", "1.5/s", "-1/s", 5]
)
def test_malformed_rates_are_refused(value):
    with pytest.raises(ConfigurationError, match="rate_limit"):
        config.check_rate_limit("rate_limit", value)


def test_retry_delays_name_the_wrong_item():
    assert config.check_retry_delays("retry_delays", [1, 2.5]) == (1.0, 2.5)
    with pytest.raises(ConfigurationError, match=re.escape("retry_delays[1]: -1")):
        config.check_retry_delays("retry_delays", [1, -1])
    for wrong in ([], "12", 5):
        with pytest.raises(ConfigurationError, match="retry_delays"):
            config.check_retry_delays("retry_delays", wrong)


def test_exceptions_are_classes_or_names_of_classes():
    assert config.check_exceptions("retry_on", ValueError) == (ValueError,)
    assert config.check_exceptions("retry_on", [ValueError, OSError]) == (ValueError, OSError)
    assert config.check_exceptions("retry_on", "OSError") == (OSError,)
    assert config.check_exceptions("retry_on", ["requests.exceptions.Timeout", ValueError]) == (
        "requests.exceptions.Timeout",
        ValueError,
    )
    wrong_names = ("Timeout", "int", "print", "a..b", ".a", "a.b c", "")
    for wrong in (int, ValueError("x"), [int], 5, b"OSError", *wrong_names):
        with pytest.raises(ConfigurationError, match="retry_on"):
            config.check_exceptions("retry_on", wrong)


def test_arguments_are_lists_and_dicts():
    assert config.check_arguments("args", (1, 2)) == [1, 2]
    assert config.check_keywords("kwargs", None) == {}
    for wrong in ("ab", 5, {1}, {"a": 1}, None):
        with pytest.raises(ConfigurationError, match="args"):
            config.check_arguments("args", wrong)
    for wrong in ({1: 2}, [("a", 1)], "ab"):
        with pytest.raises(ConfigurationError, match="kwargs"):
            config.check_keywords("kwargs", wrong)


def test_metadata_has_texts_as_keys():
    for wrong in ({1: 2}, "x", 5, [1]):
        with pytest.raises(ConfigurationError, match="metadata"):
            config.check_metadata("metadata", wrong)


@given(st.one_of(st.integers(), st.floats(allow_nan=False)))
def test_percent_is_clamped(value):
    percent = config.check_percent("n", value)
    assert 0 <= percent <= 100
    assert not 0 <= value <= 100 or percent == int(value)


@pytest.mark.parametrize("value", [math.nan, True, "50", None])
def test_percent_is_a_number(value):
    with pytest.raises(ConfigurationError, match=r"^n: "):
        config.check_percent("n", value)


def test_wrong_choices_show_the_right_ones():
    with pytest.raises(ConfigurationError, match=r"durability: 'fast' .* 'full', 'off'"):
        config.check_choice("durability", "fast", ("full", "off"))


@pytest.mark.parametrize("value", [5, None, "", b"x"])
def test_a_job_is_named_by_its_id(value):
    with pytest.raises(ConfigurationError, match=r"^id: "):
        config.check_job_id("id", value)
