"""Rules that hold for every value and for every sequence of bytes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import pickle
import struct
import uuid
import zoneinfo
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskito.exceptions import SerializationError
from taskito.serializers import (
    JsonSerializer,
    MsgpackSerializer,
    PickleSerializer,
    Registry,
    Serializer,
)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True)
class Pair:
    left: Any
    right: Any = None


def _packer() -> MsgpackSerializer:
    serializer = MsgpackSerializer(Registry())
    for kind in (Colour, Access, Pair):
        serializer.register(kind, kind.__name__)
    return serializer


MSGPACK = _packer()
ALL = [MSGPACK, JsonSerializer(), PickleSerializer()]

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ZONES = st.one_of(
    st.none(),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"]).map(
        zoneinfo.ZoneInfo
    ),
    st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(dt.timezone),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)), TEXT),
)
HASHABLE_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.floats(allow_nan=False),
    TEXT,
    st.binary(),
    st.complex_numbers(allow_nan=False),
    st.dates(),
    st.times(timezones=ZONES),
    st.datetimes(timezones=ZONES).flatmap(
        lambda moment: st.integers(0, 1).map(lambda fold: moment.replace(fold=fold))
    ),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    TEXT.map(pathlib.PurePosixPath),
    st.sampled_from([*Colour, *Access, Access(3), Access(0)]),
)
HASHABLE = st.recursive(
    HASHABLE_SCALARS,
    lambda parts: st.one_of(
        st.lists(parts, max_size=4).map(tuple),
        st.frozensets(parts, max_size=4),
        st.builds(Pair, parts, parts),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    HASHABLE,
    lambda parts: st.one_of(
        st.lists(parts, max_size=5),
        st.lists(parts, max_size=5).map(tuple),
        st.dictionaries(HASHABLE, parts, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.builds(Pair, parts, parts),
    ),
    max_leaves=15,
)
JSON_VALUES = st.recursive(
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


def fingerprint(value: Any) -> object:
    """Return a form in which two values are equal only if all their types are equal, too."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, [(fingerprint(key), fingerprint(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return kind, [fingerprint(part) for part in value]
    if isinstance(value, set | frozenset):
        return kind, sorted((fingerprint(part) for part in value), key=repr)
    if isinstance(value, Pair):
        return kind, fingerprint(value.left), fingerprint(value.right)
    if isinstance(value, float | complex):
        return kind, struct.pack(">dd", value.real, value.imag)
    return kind, repr(value)


@given(VALUES)
def test_msgpack_gives_back_an_equal_value_of_equal_types(value: object) -> None:
    data = MSGPACK.dumps(value)
    result = MSGPACK.loads(data)
    assert result == value
    assert fingerprint(result) == fingerprint(value)


@given(JSON_VALUES)
def test_json_gives_back_an_equal_value_of_equal_types(value: object) -> None:
    serializer = JsonSerializer()
    data = serializer.dumps(value)
    assert json.loads(data) == value
    assert fingerprint(serializer.loads(data)) == fingerprint(value)


@given(VALUES)
def test_json_refuses_a_value_or_gives_it_back(value: object) -> None:
    serializer = JsonSerializer()
    try:
        data = serializer.dumps(value)
    except SerializationError:
        return
    assert fingerprint(serializer.loads(data)) == fingerprint(value)


@given(VALUES)
def test_pickle_gives_back_an_equal_value(value: object) -> None:
    serializer = PickleSerializer()
    assert fingerprint(serializer.loads(serializer.dumps(value))) == fingerprint(value)


HEADS = st.sampled_from([*range(0x80, 0xA0), *range(0xC0, 0xE0), 0, 1, 2, 3, 16])
MSGPACK_LIKE = st.lists(st.one_of(HEADS, st.integers(0, 255)), max_size=400).map(bytes)


@given(st.one_of(st.binary(max_size=400), MSGPACK_LIKE))
@example(b"\xdc\xff\xff" * 1024)
@example(b"\xdd\x00\x01\x86\xa0" * 1024)
def test_any_bytes_are_refused_or_a_value_that_can_be_encoded(data: bytes) -> None:
    try:
        value = MSGPACK.loads(data)
    except SerializationError:
        return
    assert fingerprint(MSGPACK.loads(MSGPACK.dumps(value))) == fingerprint(value)


@given(VALUES, st.data())
def test_damaged_msgpack_is_refused_or_a_value_that_can_be_encoded(
    value: object, data: st.DataObject
) -> None:
    damaged = bytearray(MSGPACK.dumps(value))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(damaged)))
        change = data.draw(st.sampled_from(["replace", "insert", "cut"]))
        byte = data.draw(HEADS)
        if change == "insert" or not damaged:
            damaged.insert(position, byte)
        elif change == "cut":
            del damaged[position:]
        else:
            damaged[min(position, len(damaged) - 1)] = byte
    try:
        result = MSGPACK.loads(bytes(damaged))
    except SerializationError:
        return
    assert fingerprint(MSGPACK.loads(MSGPACK.dumps(result))) == fingerprint(result)


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\ 01eE-.nulltrefasNI').map(str.encode))
def test_any_bytes_are_refused_or_a_json_value(data: bytes) -> None:
    serializer = JsonSerializer()
    try:
        value = serializer.loads(data)
    except SerializationError:
        return
    assert fingerprint(serializer.loads(serializer.dumps(value))) == fingerprint(value)


@pytest.mark.parametrize("serializer", ALL, ids=lambda serializer: serializer.name)
@given(st.integers(1, 300), st.lists(st.sampled_from([list, tuple, dict, Pair]), min_size=1))
def test_depth_decides_alone_whether_nesting_is_accepted(
    serializer: Serializer, depth: int, kinds: list[type]
) -> None:
    value: object = 0
    only_json = serializer.name == "json"
    for level in range(depth):
        kind = kinds[level % len(kinds)]
        if kind is dict:
            value = {"k": value}
        elif kind is list or only_json:
            value = [value]
        elif kind is tuple:
            value = (value,)
        else:
            value = Pair(value)
    if depth > 100:
        with pytest.raises(SerializationError, match="levels"):
            serializer.dumps(value)
    else:
        assert serializer.loads(serializer.dumps(value)) == value


@given(st.uuids(), st.decimals())
def test_special_numbers_are_kept(identifier: uuid.UUID, number: decimal.Decimal) -> None:
    result = MSGPACK.loads(MSGPACK.dumps([identifier, number]))
    assert repr(result) == repr([identifier, number])


@given(st.binary(max_size=64))
def test_damaged_pickle_raises_one_kind_of_exception(data: bytes) -> None:
    # Harmless only because the bytes hold no name of a class: a pickle can run any code.
    framed = pickle.dumps([1, "a", (2.5,)], protocol=5)[:-8] + data.translate(None, b"ci\x8c\x93R")
    try:
        PickleSerializer().loads(framed)
    except SerializationError:
        return
