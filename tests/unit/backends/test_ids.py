"""Job ids made in Python."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito._core import new_job_id as native_job_id
from taskito.backends.ids import MAX_SEQUENCE, job_id_sequence, new_job_id, parse_job_id

TIMES = st.integers(min_value=0, max_value=(1 << 48) - 1)
SEQUENCES = st.integers(min_value=0, max_value=MAX_SEQUENCE)


@given(TIMES, SEQUENCES)
def test_an_id_is_a_uuid_of_version_7_that_carries_time_and_number(time, sequence):
    job_id = new_job_id(time, sequence)
    parsed = uuid.UUID(job_id)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert str(parsed) == job_id
    assert parsed.int >> 80 == time
    assert job_id_sequence(job_id) == sequence


@given(TIMES, SEQUENCES)
def test_the_native_engine_makes_the_same_but_for_the_random_bits(time, sequence):
    native, own = uuid.UUID(native_job_id(time, sequence)), uuid.UUID(new_job_id(time, sequence))
    assert native.int >> 34 == own.int >> 34


@given(st.lists(st.tuples(TIMES, SEQUENCES), unique=True))
def test_ids_sort_by_time_then_number(places):
    ids = [new_job_id(*place) for place in sorted(places)]
    assert ids == sorted(ids)


@given(st.uuids())
def test_every_way_to_write_an_id_is_understood(value):
    for text in (str(value), str(value).upper(), value.hex):
        assert parse_job_id(text) == str(value)


@pytest.mark.parametrize("text", ["", "x", "g" * 32, "-" * 36, "0" * 31, "0" * 33, "0" * 36])
def test_other_texts_are_no_ids(text):
    assert parse_job_id(text) is None


@pytest.mark.parametrize("sequence", [-1, MAX_SEQUENCE + 1])
def test_a_number_that_does_not_fit_is_refused(sequence):
    with pytest.raises(ValueError, match=str(sequence)):
        new_job_id(0, sequence)
