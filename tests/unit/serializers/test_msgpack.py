"""The msgpack serializer: what it keeps, what it refuses, and how it says so."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import math
import pathlib
import struct
import subprocess
import sys
import threading
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from fractions import Fraction

import msgpack
import pytest

from taskito.exceptions import SerializationError, TaskitoError
from taskito.serializers import MsgpackSerializer, Registry

NAIVE = dt.datetime(2024, 10, 27, 2, 30, 0, 5, fold=1)  # noqa: DTZ001 - naive ones travel, too
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped form is what is refused


@pytest.fixture
def serializer() -> MsgpackSerializer:
    return MsgpackSerializer(Registry())


class Text(str):
    __slots__ = ()


class Stamp(dt.datetime):
    pass


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        2**64 - 1,
        2**64,
        -(2**63) - 1,
        -(2**500),
        10**4000,
        1.5,
        -math.inf,
        "häßlich\0😀",
        b"\xff\x00",
        [],
        {},
        (),
        ((),),
        set(),
        frozenset(),
        {(2, frozenset({3}))},
        {(1, (2,)): "tuple", frozenset({1}): "frozenset", b"b": 1, None: 2, 1.5: 3},
        complex(1, -2),
        dt.date(1, 1, 1),
        dt.timedelta.min,
        dt.timedelta.max,
        dt.timedelta(microseconds=-1),
        NAIVE,
        dt.time(1, 2, 3, 4, fold=1),
        dt.time(1, tzinfo=dt.UTC),
        decimal.Decimal("-0.00"),
        decimal.Decimal("1E+999999"),
        decimal.Decimal("-inf"),
        uuid.UUID(int=2**128 - 1),
        pathlib.Path("a/b"),
        pathlib.PurePosixPath("//a/../b"),
        pathlib.PureWindowsPath("C:\\a"),
        pathlib.Path("not-utf8-\udcff"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_comes_back_equal_and_of_the_same_type(
    serializer: MsgpackSerializer, value: object
) -> None:
    result = serializer.loads(serializer.dumps(value))
    assert result == value
    assert type(result) is type(value)
    assert repr(result) == repr(value)


@pytest.mark.parametrize(
    "zone",
    [
        None,
        dt.UTC,
        dt.timezone(dt.timedelta(hours=-3, minutes=-30)),
        dt.timezone(dt.timedelta(seconds=1, microseconds=1)),
        dt.timezone(dt.timedelta(hours=2), "CEST"),
        dt.timezone(dt.timedelta(0), "Zulu"),
        BERLIN,
    ],
    ids=repr,
)
@pytest.mark.parametrize("fold", [0, 1])
def test_time_zone_and_fold_are_kept(
    serializer: MsgpackSerializer, zone: dt.tzinfo | None, fold: int
) -> None:
    value = dt.datetime(2024, 10, 27, 2, 30, 0, 5, tzinfo=zone, fold=fold)
    result = serializer.loads(serializer.dumps(value))
    assert isinstance(result, dt.datetime)
    assert result == value
    assert (result.fold, result.utcoffset(), result.tzname()) == (
        fold,
        value.utcoffset(),
        value.tzname(),
    )
    assert type(result.tzinfo) is type(zone)
    assert repr(result.tzinfo) == repr(zone)


def test_floats_keep_every_bit(serializer: MsgpackSerializer) -> None:
    for value in (-0.0, math.nan, 5e-324, 0.1):
        result = serializer.loads(serializer.dumps([value, complex(value, -0.0)]))
        expected = struct.pack(">ddd", value, value, -0.0)
        assert struct.pack(">ddd", result[0], result[1].real, result[1].imag) == expected


def test_signalling_nan_of_decimal_is_kept(serializer: MsgpackSerializer) -> None:
    result = serializer.loads(serializer.dumps(decimal.Decimal("-sNaN123")))
    assert str(result) == "-sNaN123"


def test_malformed_decimal_is_refused_whatever_the_context_of_the_application(
    serializer: MsgpackSerializer,
) -> None:
    data = serializer.dumps(decimal.Decimal("1.5")).replace(b".", b"x")
    with decimal.localcontext() as context:
        context.traps[decimal.InvalidOperation] = False
        with pytest.raises(SerializationError):
            serializer.loads(data)


def test_order_of_a_dict_is_kept(serializer: MsgpackSerializer) -> None:
    value = {"b": 1, "a": 2, 0: 3}
    assert list(serializer.loads(serializer.dumps(value))) == ["b", "a", 0]


def test_sets_of_strings_are_encoded_alike_in_every_process() -> None:
    program = (
        "from taskito.serializers import MsgpackSerializer;"
        "print(MsgpackSerializer().dumps({str(i) for i in range(50)}).hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-P", "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ((1, "a"), "93d4100001a161"),
        ({5}, "92d4100105"),
        (frozenset({5}), "92d4100205"),
        (NAIVE, "c70c0107e80a1b021e000000000501"),
        (dt.datetime(1, 1, 1, tzinfo=dt.UTC), "c715010001010100000000000000006f" + "00" * 8),
        (dt.date(2024, 10, 27), "d60207e80a1b"),
        (dt.time(2, 30), "d703021e000000000000"),
        (dt.timedelta(days=-1, seconds=2), "c70c04ffffffff0000000200000000"),
        (decimal.Decimal("1.50"), "d605312e3530"),
        (uuid.UUID(int=1), "d806" + "00" * 15 + "01"),
        (2**64, "c70907010000000000000000"),
        (1j, "d808" + "00" * 8 + "3ff0000000000000"),
        (pathlib.PurePosixPath("a/b"), "d60970612f62"),
    ],
    ids=lambda part: type(part).__name__,
)
def test_format_that_is_stored_does_not_change(
    serializer: MsgpackSerializer, value: object, encoded: str
) -> None:
    assert serializer.dumps(value).hex() == encoded
    assert serializer.loads(bytes.fromhex(encoded)) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Point(1, 2), "tuple(...)"),
        (OrderedDict(), "dict(...)"),
        (defaultdict(list), "dict(...)"),
        (Counter(), "dict(...)"),
        (Text("a"), "str(...)"),
        (Stamp(2024, 1, 1), "datetime(...)"),
        (bytearray(b"a"), "bytearray"),
        (memoryview(b"a"), "memoryview"),
        (deque(), "deque"),
        (range(3), "range"),
        (Fraction(1, 2), "Fraction"),
        (object(), "object"),
        (int, "type"),
        (len, "builtin_function_or_method"),
        (msgpack.ExtType(1, b"a"), "ExtType"),
        (msgpack.Timestamp(1), "Timestamp"),
        (dt.datetime(2024, 1, 1, tzinfo=type("Zone", (dt.tzinfo,), {})()), "ZoneInfo"),
        (1 << (8 * 65_536), "65536"),
        (decimal.Decimal("1" * 65_537), "65536"),
        ("\ud800", "surrogate"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_that_would_change_is_refused_with_its_place_and_type(
    serializer: MsgpackSerializer, value: object, reason: str
) -> None:
    with pytest.raises(SerializationError) as refusal:
        serializer.dumps([[1, {"name": value}], {}])
    message = str(refusal.value)
    assert "value[0][1]['name']" in message
    assert type(value).__qualname__ in message
    assert reason in message
    assert refusal.value.__cause__ is not None
    assert isinstance(refusal.value, TaskitoError)
    assert isinstance(refusal.value, ValueError)


def test_place_is_named_in_keys_and_sets(serializer: MsgpackSerializer) -> None:
    with pytest.raises(SerializationError, match=r"the key \S+ of value\[1\] of type .*Text"):
        serializer.dumps([0, {Text("a"): 1}])
    with pytest.raises(SerializationError, match="an element of value of type object"):
        serializer.dumps({object()})


def test_zone_that_was_read_from_a_file_is_refused(serializer: MsgpackSerializer) -> None:
    body = b"TZif\x00" + bytes(15) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + bytes(6) + b"ABC\0"
    zone = zoneinfo.ZoneInfo.from_file(io.BytesIO(body))
    with pytest.raises(SerializationError, match="no key"):
        serializer.dumps(dt.datetime(2024, 1, 1, tzinfo=zone))


@pytest.mark.parametrize(
    "key",
    [
        b"../../etc/passwd",
        b"/etc/localtime",
        b"Europe/../Europe/Berlin",
        b"No/Where",
        b"Europe",
        b"",
        b"a" * 500,
    ],
)
def test_zone_that_is_not_a_known_key_is_refused(serializer: MsgpackSerializer, key: bytes) -> None:
    payload = serializer.dumps(dt.datetime(2024, 1, 1, tzinfo=BERLIN))
    fields = payload[3 : 3 + 12]
    forged = msgpack.packb(msgpack.ExtType(1, fields + b"k" + key))
    assert serializer.loads(msgpack.packb(msgpack.ExtType(1, fields + b"kEurope/Berlin")))
    with pytest.raises(SerializationError):
        serializer.loads(forged)


def test_timestamp_of_other_languages_is_read_as_utc(serializer: MsgpackSerializer) -> None:
    data = msgpack.packb(msgpack.Timestamp(1_700_000_000, 5000))
    expected = dt.datetime.fromtimestamp(1_700_000_000, dt.UTC).replace(microsecond=5)
    assert serializer.loads(data) == expected


def test_payload_may_be_a_memoryview(serializer: MsgpackSerializer) -> None:
    assert serializer.loads(memoryview(serializer.dumps([1, (2,)]))) == [1, (2,)]


@pytest.mark.parametrize("data", ["text", 5, None], ids=repr)
def test_payload_that_is_not_bytes_is_refused(serializer: MsgpackSerializer, data: object) -> None:
    with pytest.raises(SerializationError, match="must be bytes"):
        serializer.loads(data)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x01\x02",  # bytes after the value
        b"\x93\x01",  # ends early
        b"\xdd\xff\xff\xff\xff",  # declares 4 billion items
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xa1\xff",  # not UTF-8
        b"\x81\x90\x01",  # a list as a key
        b"\xd4\x63\x00",  # an unknown extension
        b"\xd4\x10\x00",  # a marker alone
        b"\x92\x01\xd4\x10\x00",  # ... at the end of an array
        b"\x93\xd4\x10\x00\xd4\x10\x00\x01",  # ... twice
        b"\x81\xd4\x10\x00\x01",  # ... as a key
        b"\x91\xc7\x01\x10\x00" * 2,  # ... spelled differently
        b"\x91\xd4\x10\x09",  # an unknown kind of container
        b"\x91\xc7\x02\x10\x00\x00",
        b"\x91\xd4\x10\x03",  # a dataclass without a name
        b"\x92\xd4\x10\x03\x01",
        b"\x92\xd4\x10\x01\x90",  # a list in a set
        b"\xd4\x09Q",  # an unknown kind of path
        b"\xd5\x06\x00\x00",  # a short UUID
    ],
    ids=lambda data: data.hex(),
)
def test_malformed_payload_is_refused(serializer: MsgpackSerializer, data: bytes) -> None:
    with pytest.raises(SerializationError, match="cannot decode") as refusal:
        serializer.loads(data)
    assert refusal.value.__cause__ is not None


def test_items_are_limited_both_ways(serializer: MsgpackSerializer) -> None:
    within = [0] * 100_000
    assert serializer.loads(serializer.dumps(within)) == within
    for value in ([0] * 100_001, [[0] * 1000] * 101, {str(i): [] for i in range(50_001)}):
        with pytest.raises(SerializationError, match="100000 items"):
            serializer.dumps(value)
        with pytest.raises(SerializationError, match="100000 items"):
            serializer.loads(msgpack.packb(value))


def test_what_is_encoded_at_the_limit_can_be_decoded(serializer: MsgpackSerializer) -> None:
    tuples: list[object] = [()] * 50_000
    assert serializer.loads(serializer.dumps(tuples)) == tuples
    with pytest.raises(SerializationError, match="items"):
        serializer.dumps([*tuples, ()])


def test_text_is_limited(
    serializer: MsgpackSerializer,
) -> None:
    with pytest.raises(SerializationError, match="268435456 bytes"):
        serializer.dumps([b"0" * 2_700_000] * 100)


def test_value_that_grows_by_sharing_is_refused_at_once(serializer: MsgpackSerializer) -> None:
    value: list[object] = []
    for _ in range(60):
        value = [value, value]
    with pytest.raises(SerializationError, match="items"):
        serializer.dumps(value)


def test_keys_of_chosen_hash_are_refused_both_ways(serializer: MsgpackSerializer) -> None:
    equal_hashes = [i * (2**61 - 1) for i in range(1, 50_001)]
    items = serializer.dumps(equal_hashes)[3:]
    count = len(equal_hashes)
    as_set = b"\xdd" + (count + 1).to_bytes(4, "big") + b"\xd4\x10\x01" + items
    as_dict = b"\xdf" + (count // 2).to_bytes(4, "big") + items
    for hostile in (as_set, as_dict):
        with pytest.raises(SerializationError, match="have one hash"):
            serializer.loads(hostile)
    for value in (set(equal_hashes[:1500]), dict.fromkeys(equal_hashes[:1500])):
        with pytest.raises(SerializationError, match="have one hash"):
            serializer.dumps(value)


def test_large_dicts_and_sets_are_kept(serializer: MsgpackSerializer) -> None:
    value = {(i, "ü"): {i / 3, 2**70 + i} for i in range(3000)}
    value[0, ""] = set(range(5000))
    result = serializer.loads(serializer.dumps(value))
    assert result == value
    assert list(result) == list(value)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (5, b"1" * 65_537),
        (7, b"\1" * 65_537),
        (3, bytes(8) + b"z" + bytes(8)),
        (3, bytes(8) + b"k"),
    ],
    ids=["decimal", "integer", "zone kind", "zone key"],
)
def test_malformed_scalar_is_refused(serializer: MsgpackSerializer, code: int, body: bytes) -> None:
    with pytest.raises(SerializationError, match="cannot decode"):
        serializer.loads(msgpack.packb(msgpack.ExtType(code, body)))


def nested(depth: int, kind: str) -> object:
    value: object = 1
    for level in range(depth):
        if kind == "list" or (kind == "mixed" and level % 2):
            value = [value]
        elif kind == "dict":
            value = {"k": value}
        elif kind == "frozenset":
            value = frozenset({value})
        else:
            value = (value,)
    return value


@pytest.mark.parametrize("kind", ["list", "dict", "tuple", "frozenset", "mixed"])
def test_depth_is_limited_to_100_both_ways(serializer: MsgpackSerializer, kind: str) -> None:
    data = serializer.dumps(nested(100, kind))
    assert serializer.loads(data) == nested(100, kind)
    with pytest.raises(SerializationError, match="100 levels"):
        serializer.dumps(nested(101, kind))
    heads = {"list": b"\x91", "dict": b"\x81\xa1k", "tuple": b"\x92\xd4\x10\x00"}
    if kind in heads:
        with pytest.raises(SerializationError, match="100 levels"):
            serializer.loads(heads[kind] * 101 + b"\x01")


def test_empty_container_counts_as_a_level(serializer: MsgpackSerializer) -> None:
    for empty in ([], {}, (), set()):
        value: object = empty
        for _ in range(99):
            value = [value]
        assert serializer.loads(serializer.dumps(value)) == value
        with pytest.raises(SerializationError, match="100 levels"):
            serializer.dumps([value])


def test_many_containers_that_are_not_deep_are_accepted(serializer: MsgpackSerializer) -> None:
    value = [{"id": i, "tags": ["a", (1.5, b"\x90" * 300)]} for i in range(500)]
    assert serializer.loads(serializer.dumps(value)) == value


def test_value_that_contains_itself_is_refused(serializer: MsgpackSerializer) -> None:
    lists: list[object] = []
    lists.append(lists)
    mapping: dict[str, object] = {}
    mapping["self"] = (mapping,)
    wide: list[object] = []
    wide += [wide, wide]
    for value in (lists, mapping, wide):
        with pytest.raises(SerializationError, match=r"contains itself|items"):
            serializer.dumps(value)


def test_serializer_may_be_used_by_many_threads(
    serializer: MsgpackSerializer,
) -> None:
    values = [[(i,) * 50, {"key": {i}}] for i in range(50)]
    wrong: list[object] = []

    def work() -> None:
        wrong.extend(
            value for value in values * 10 if serializer.loads(serializer.dumps(value)) != value
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


_ON_A_SMALL_STACK = """
import json, sys, threading
from taskito.exceptions import SerializationError
from taskito.serializers import JsonSerializer, MsgpackSerializer, PickleSerializer

depth, outcome = 10_000, []

def nested(wrap):
    value = 1
    for _ in range(depth):
        value = wrap(value)
    return value

def refused(function, argument):
    try:
        function(argument)
    except SerializationError as error:
        outcome.append("levels" in str(error))
    else:
        outcome.append(False)

# Made and freed by the main thread: freeing them takes more of the stack than there is below.
wraps = [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: [(v,)]]
values = [nested(wrap) for wrap in wraps]

def work():
    packer = MsgpackSerializer()
    for value in values:
        refused(packer.dumps, value)
    one, tuple_, frozen = b"\\x91", b"\\x92\\xd4\\x10\\x00", b"\\x92\\xd4\\x10\\x02"
    for head in (one, tuple_, frozen, b"\\x81\\xa1k", b"\\xdd\\0\\0\\0\\1"):
        refused(packer.loads, head * depth + b"\\1")
    for head in (one, tuple_, frozen):
        allowed = head * 100 + b"\\1"
        outcome.append(packer.dumps(packer.loads(allowed)) == allowed)
    refused(JsonSerializer().dumps, values[0])
    refused(JsonSerializer().dumps, values[2])
    refused(JsonSerializer().loads, b"[" * depth + b"]" * depth)
    refused(JsonSerializer().loads, b'{"a":' * depth + b"1" + b"}" * depth)
    for value in values:
        refused(PickleSerializer().dumps, value)

threading.stack_size(256 * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(json.dumps(outcome))
"""


def test_nesting_of_10000_levels_is_refused_on_a_small_stack() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _ON_A_SMALL_STACK], capture_output=True, check=False
    )
    assert done.stderr == b""
    assert done.returncode == 0
    assert json.loads(done.stdout) == [True] * 20
