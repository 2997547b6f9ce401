"""Values to encode, and how two of them are compared: with the types at every level."""

from __future__ import annotations

import dataclasses
import datetime as dt
import pathlib
import struct
import zoneinfo
from typing import Any

from hypothesis import strategies as st

__all__ = ["HASHABLE", "PLAIN", "PYTHON", "TEXT", "fingerprint", "nested"]

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
"""Any text but half characters, which no encoding of Unicode has."""

PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
    ),
    lambda parts: st.one_of(st.lists(parts, max_size=5), st.dictionaries(TEXT, parts, max_size=5)),
    max_leaves=20,
)
"""What every serializer has to take: None, numbers, text, and lists and dicts of them."""

_ZONES = st.one_of(
    st.none(),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"]).map(
        zoneinfo.ZoneInfo
    ),
    st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(dt.timezone),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)), TEXT),
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.floats(allow_nan=False),
    TEXT,
    st.binary(),
    st.complex_numbers(allow_nan=False),
    st.dates(),
    st.times(timezones=_ZONES),
    st.datetimes(timezones=_ZONES).flatmap(
        lambda moment: st.integers(0, 1).map(lambda fold: moment.replace(fold=fold))
    ),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    TEXT.map(pathlib.PurePosixPath),
)


def nested(
    scalars: st.SearchStrategy[Any], *wraps: type
) -> tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]:
    """Put values into containers of every kind, several levels deep.

    Args:
        scalars: The innermost values; they can be keys.
        wraps: Frozen dataclasses with two fields that hold anything.

    Returns:
        Values that can be keys, and values of any kind.
    """
    hashable = st.recursive(
        scalars,
        lambda parts: st.one_of(
            st.lists(parts, max_size=4).map(tuple),
            st.frozensets(parts, max_size=4),
            *(st.builds(wrap, parts, parts) for wrap in wraps),
        ),
        max_leaves=6,
    )
    anything = st.recursive(
        hashable,
        lambda parts: st.one_of(
            st.lists(parts, max_size=5),
            st.lists(parts, max_size=5).map(tuple),
            st.dictionaries(hashable, parts, max_size=4),
            st.sets(hashable, max_size=4),
            *(st.builds(wrap, parts, parts) for wrap in wraps),
        ),
        max_leaves=15,
    )
    return hashable, anything


HASHABLE, PYTHON = nested(_SCALARS)
"""What Python programs pass around: also dates, decimals, tuples, sets, keys of any kind.

A serializer takes such a value and gives it back unchanged, or refuses it."""


def fingerprint(value: Any) -> object:
    """Return a form in which two values are equal only if all their types are equal, too."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, [(fingerprint(key), fingerprint(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return kind, [fingerprint(part) for part in value]
    if isinstance(value, set | frozenset):
        return kind, sorted((fingerprint(part) for part in value), key=repr)
    if dataclasses.is_dataclass(value):
        return kind, [
            fingerprint(getattr(value, field.name)) for field in dataclasses.fields(value)
        ]
    if isinstance(value, float | complex):
        return kind, struct.pack(">dd", value.real, value.imag)
    return kind, repr(value)
