"""The JSON serializer: it refuses what would come back changed."""

from __future__ import annotations

import datetime as dt
import enum
import math
import subprocess
import sys
from collections import OrderedDict

import pytest

from taskito.exceptions import SerializationError
from taskito.serializers import JsonSerializer


class Number(enum.IntEnum):
    ONE = 1


@pytest.fixture
def serializer() -> JsonSerializer:
    return JsonSerializer()


def test_value_comes_back_and_the_bytes_are_compact_utf8(serializer: JsonSerializer) -> None:
    value = {"b": [1, -2.5, None, True, "ä\n\0😀"], "a": {}, "": 10**3999, "big": -(10**4000) + 1}
    data = serializer.dumps(value)
    assert data.startswith('{"b":[1,-2.5,null,true,"ä\\n\\u0000😀"],"a":{}'.encode())
    result = serializer.loads(memoryview(data))
    assert result == value
    assert list(result) == list(value)


def test_negative_zero_is_kept(serializer: JsonSerializer) -> None:
    assert math.copysign(1, serializer.loads(serializer.dumps(-0.0))) == -1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ((1, 2), "tuple"),
        ({1}, "set"),
        (b"a", "base64"),
        (math.nan, "NaN"),
        (-math.inf, "infinity"),
        (10**4000, "digits"),
        (Number.ONE, "Number"),
        (OrderedDict(), "OrderedDict"),
        (dt.date(2024, 1, 1), "date"),
        ("\ud83d\ude00", "surrogates"),
        (object(), "object"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_that_would_change_is_refused_with_its_place(
    serializer: JsonSerializer, value: object, reason: str
) -> None:
    with pytest.raises(SerializationError) as refusal:
        serializer.dumps([[], {"a": [value]}])
    assert "value[1]['a'][0]" in str(refusal.value)
    assert reason in str(refusal.value)
    assert refusal.value.__cause__ is not None


@pytest.mark.parametrize("key", [1, None, True, 1.5, (1,)], ids=repr)
def test_key_that_is_no_string_is_refused(serializer: JsonSerializer, key: object) -> None:
    with pytest.raises(
        SerializationError, match=r"value\[0\] of type dict .*its key .* must be of type str"
    ):
        serializer.dumps([{"a": 1, key: 2}])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1,]",
        b"1 2",
        b"NaN",
        b"[-Infinity]",
        b"1e999",
        b"\xff",
        b"\xef\xbb\xbf1",
        b'"a',
        b"{1:2}",
        b"1" * 4001,
        b"-" + b"1" * 100_000,
        "[1]".encode("utf-16"),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_malformed_payload_is_refused(serializer: JsonSerializer, data: bytes) -> None:
    with pytest.raises(SerializationError, match="cannot decode") as refusal:
        serializer.loads(data)
    assert refusal.value.__cause__ is not None


def test_payload_that_is_not_bytes_is_refused(serializer: JsonSerializer) -> None:
    with pytest.raises(SerializationError, match="must be bytes"):
        serializer.loads("1")  # type: ignore[arg-type]


def test_depth_is_limited_to_100_both_ways(serializer: JsonSerializer) -> None:
    value: object = []
    for _ in range(99):
        value = {"k": value}
    data = serializer.dumps(value)
    assert serializer.loads(data) == value
    with pytest.raises(SerializationError, match="100 levels"):
        serializer.dumps([value])
    for deeper in (b"[" + data + b"]", b"[" * 101 + b"]" * 101, b"[" * 100 + b"{ \n}" + b"]" * 100):
        with pytest.raises(SerializationError, match="100 levels"):
            serializer.loads(deeper)


def test_brackets_in_strings_are_not_nesting(serializer: JsonSerializer) -> None:
    value = [{"[" * 300: '"\\"[{' * 300}] * 3
    assert serializer.loads(serializer.dumps(value)) == value


def test_items_are_limited_both_ways(serializer: JsonSerializer) -> None:
    for within in ([0] * 100_000, [[]] * 100_000, {str(i): {} for i in range(50_000)}):
        assert serializer.loads(serializer.dumps(within)) == within
    with pytest.raises(SerializationError, match="100000 items"):
        serializer.dumps([[0] * 1000] * 101)
    with pytest.raises(SerializationError, match="100000 items"):
        serializer.loads(b"[" + b"0," * 100_000 + b"0]")


def test_value_that_contains_itself_is_refused(serializer: JsonSerializer) -> None:
    value: dict[str, object] = {}
    value["a"] = [value]
    with pytest.raises(SerializationError, match="contains itself"):
        serializer.dumps(value)


def test_text_made_to_slow_the_search_down_is_refused_soon(serializer: JsonSerializer) -> None:
    escapes = b'\\"' * 500_000
    for hostile in (escapes, b'["' + escapes, b"[" + b" " * 1_000_000, b'"' * 150_001):
        with pytest.raises(SerializationError):
            serializer.loads(hostile)


def test_integers_are_bounded_even_if_the_interpreter_does_not() -> None:
    program = (
        "from taskito.exceptions import SerializationError\n"
        "from taskito.serializers import JsonSerializer\n"
        "for call in (lambda: JsonSerializer().loads(b'9' * 3_000_000),"
        " lambda: JsonSerializer().dumps(1 << 10_000_000)):\n"
        "    try:\n"
        "        call()\n"
        "    except SerializationError as error:\n"
        "        print('digits' in str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-X", "int_max_str_digits=0", "-c", program],
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.split() == ["True", "True"]
