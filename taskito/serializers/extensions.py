"""The msgpack extension types: how a value that plain msgpack does not know is written.

Two kinds exist, and none of them contains encoded msgpack:

* A *scalar* (``datetime``, ``Decimal``, ``UUID`` ...) is one extension whose bytes are described
  beside its encoder below. All numbers are big-endian.
* A *container* (``tuple``, ``set``, ``frozenset``, dataclass) is an array whose first item is a
  ``Marker`` extension of one byte. Since nothing else may be a marker, no list can be mistaken for
  one; and since the items stand in the array itself, neither packing nor unpacking re-enters
  msgpack, so that its own count of the depth holds and no stack grows.

The codes and layouts are part of what is stored: they may be added to, never changed.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import pathlib
import re
import struct
import uuid
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any

from taskito.serializers.limits import MAX_NUMBER_SIZE, RefusedValueError

__all__ = [
    "CONTAINER_KINDS",
    "CONTAINER_PREFIX",
    "SCALAR_DECODERS",
    "SCALAR_ENCODERS",
    "Code",
    "Container",
]


class Code(enum.IntEnum):
    """The extension codes; those below zero belong to msgpack itself."""

    DATETIME = 1
    DATE = 2
    TIME = 3
    TIMEDELTA = 4
    DECIMAL = 5
    UUID = 6
    INTEGER = 7
    COMPLEX = 8
    PATH = 9
    ENUM = 10
    CONTAINER = 16


class Container(enum.IntEnum):
    """What the single byte of a marker says about the array that it begins."""

    TUPLE = 0
    SET = 1
    FROZENSET = 2
    DATACLASS = 3


CONTAINER_KINDS: Mapping[type, Container] = {
    tuple: Container.TUPLE,
    set: Container.SET,
    frozenset: Container.FROZENSET,
}

CONTAINER_PREFIX = bytes((0xD4, Code.CONTAINER))
"""How every marker starts: an extension of one byte, and the code."""

# ---- Dates and times ----

_DATETIME = struct.Struct(">HBBBBBIB")  # year to second, microsecond, fold; then the zone
_DATE = struct.Struct(">HBB")
_TIME = struct.Struct(">BBBIB")  # hour to second, microsecond, fold; then the zone
_TIMEDELTA = struct.Struct(">iII")  # days, seconds, microseconds
_OFFSET = struct.Struct(">q")  # microseconds east of UTC

_ZONE_FIXED, _ZONE_NAMED, _ZONE_KEY = b"o", b"n", b"k"
_MICROSECOND = dt.timedelta(microseconds=1)

# A key such as Europe/Berlin or Etc/GMT+5: no dots, so that it can't leave the folder of the zones.
_ZONE_KEY_PATTERN = re.compile(r"[A-Za-z0-9_+-]{1,40}(?:/[A-Za-z0-9_+-]{1,40}){0,3}")


def _encode_zone(zone: dt.tzinfo | None) -> bytes:
    """Return b"" (none), "o" offset, "n" offset name, or "k" key of the zone database."""
    if zone is None:
        return b""
    if type(zone) is dt.timezone:
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        encoded = _OFFSET.pack(offset // _MICROSECOND)
        if name == dt.timezone(offset).tzname(None):
            return _ZONE_FIXED + encoded
        return _ZONE_NAMED + encoded + name.encode()
    if type(zone) is zoneinfo.ZoneInfo:
        key: str | None = zone.key  # None for a zone that was read from a file
        if key is None or not _ZONE_KEY_PATTERN.fullmatch(key):
            raise ValueError(f"its time zone {zone!r} has no key of the time zone database")
        return _ZONE_KEY + key.encode()
    raise ValueError(
        f"its time zone is a {type(zone).__module__}.{type(zone).__qualname__}; "
        "use zoneinfo.ZoneInfo or datetime.timezone"
    )


def _decode_zone(data: bytes) -> dt.tzinfo | None:
    kind, rest = data[:1], data[1:]
    if not kind:
        return None
    if kind == _ZONE_KEY:
        key = rest.decode("ascii")
        if not _ZONE_KEY_PATTERN.fullmatch(key):
            raise ValueError(f"{key!r} is not a key of the time zone database")
        return zoneinfo.ZoneInfo(key)
    offset = dt.timedelta(microseconds=_OFFSET.unpack_from(rest)[0])
    name = rest[_OFFSET.size :].decode()
    if kind == _ZONE_NAMED:
        return dt.timezone(offset, name)
    if kind == _ZONE_FIXED and not name:
        return dt.timezone(offset)
    raise ValueError("unknown kind of time zone")


def _encode_datetime(value: dt.datetime) -> bytes:
    return _DATETIME.pack(
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        value.fold,
    ) + _encode_zone(value.tzinfo)


def _decode_datetime(data: bytes) -> dt.datetime:
    year, month, day, hour, minute, second, microsecond, fold = _DATETIME.unpack_from(data)
    zone = _decode_zone(data[_DATETIME.size :])
    return dt.datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def _encode_date(value: dt.date) -> bytes:
    return _DATE.pack(value.year, value.month, value.day)


def _decode_date(data: bytes) -> dt.date:
    return dt.date(*_DATE.unpack(data))


def _encode_time(value: dt.time) -> bytes:
    return _TIME.pack(
        value.hour, value.minute, value.second, value.microsecond, value.fold
    ) + _encode_zone(value.tzinfo)


def _decode_time(data: bytes) -> dt.time:
    hour, minute, second, microsecond, fold = _TIME.unpack_from(data)
    zone = _decode_zone(data[_TIME.size :])
    return dt.time(hour, minute, second, microsecond, zone, fold=fold)


def _encode_timedelta(value: dt.timedelta) -> bytes:
    return _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)


def _decode_timedelta(data: bytes) -> dt.timedelta:
    return dt.timedelta(*_TIMEDELTA.unpack(data))


# ---- Numbers ----

# The application's own context may turn a malformed number into a silent NaN.
_DECIMAL_CONTEXT = decimal.Context(traps=[decimal.InvalidOperation])


def _encode_decimal(value: decimal.Decimal) -> bytes:
    """Return the decimal text, which keeps sign, digits, exponent and the payload of a NaN."""
    text = str(value).encode("ascii")
    if len(text) > MAX_NUMBER_SIZE:
        raise ValueError(f"it has more than {MAX_NUMBER_SIZE} characters")
    return text


def _decode_decimal(data: bytes) -> decimal.Decimal:
    if len(data) > MAX_NUMBER_SIZE:
        raise ValueError(f"a Decimal has more than {MAX_NUMBER_SIZE} characters")
    return decimal.Decimal(data.decode("ascii"), _DECIMAL_CONTEXT)


def _encode_integer(value: int) -> bytes:
    """Return two's complement; only integers beyond 64 bits come here."""
    size = value.bit_length() // 8 + 1
    if size > MAX_NUMBER_SIZE:
        raise ValueError(f"it has more than {MAX_NUMBER_SIZE} bytes")
    return value.to_bytes(size, "big", signed=True)


def _decode_integer(data: bytes) -> int:
    if len(data) > MAX_NUMBER_SIZE:
        raise ValueError(f"an integer has more than {MAX_NUMBER_SIZE} bytes")
    return int.from_bytes(data, "big", signed=True)


_COMPLEX = struct.Struct(">dd")


def _encode_complex(value: complex) -> bytes:
    return _COMPLEX.pack(value.real, value.imag)


def _decode_complex(data: bytes) -> complex:
    return complex(*_COMPLEX.unpack(data))


# ---- The rest ----


def _encode_uuid(value: uuid.UUID) -> bytes:
    return value.bytes


def _decode_uuid(data: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=data)


_PATH_KINDS: dict[type, bytes] = {
    pathlib.PosixPath: b"P",
    pathlib.PurePosixPath: b"p",
    pathlib.WindowsPath: b"W",
    pathlib.PureWindowsPath: b"w",
}
_PATH_CLASSES: dict[bytes, type[pathlib.PurePath]] = {
    letter: kind for kind, letter in _PATH_KINDS.items()
}


def _encode_path(value: pathlib.PurePath) -> bytes:
    """Return a letter for the class and the text; file names that are not UTF-8 are kept."""
    text = str(value)
    if type(value)(text) != value:
        raise ValueError("its text does not lead back to the same path")
    return _PATH_KINDS[type(value)] + text.encode("utf-8", "surrogatepass")


def _decode_path(data: bytes) -> pathlib.PurePath:
    return _PATH_CLASSES[data[:1]](data[1:].decode("utf-8", "surrogatepass"))


def _guarded(encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Tie an error to the value that caused it, so that its place can be named."""

    def guarded(value: Any) -> bytes:
        try:
            return encode(value)
        except Exception as error:
            raise RefusedValueError(value, str(error)) from error

    return guarded


_SCALARS: list[tuple[type, Code, Callable[[Any], bytes]]] = [
    (dt.datetime, Code.DATETIME, _encode_datetime),
    (dt.date, Code.DATE, _encode_date),
    (dt.time, Code.TIME, _encode_time),
    (dt.timedelta, Code.TIMEDELTA, _encode_timedelta),
    (decimal.Decimal, Code.DECIMAL, _encode_decimal),
    (uuid.UUID, Code.UUID, _encode_uuid),
    (int, Code.INTEGER, _encode_integer),
    (complex, Code.COMPLEX, _encode_complex),
    *((kind, Code.PATH, _encode_path) for kind in _PATH_KINDS),
]
SCALAR_ENCODERS: Mapping[type, tuple[Code, Callable[[Any], bytes]]] = {
    kind: (code, _guarded(encode)) for kind, code, encode in _SCALARS
}
"""By exact type: the code, and the function that makes the bytes."""

SCALAR_DECODERS: Mapping[int, Callable[[bytes], object]] = {
    Code.DATETIME: _decode_datetime,
    Code.DATE: _decode_date,
    Code.TIME: _decode_time,
    Code.TIMEDELTA: _decode_timedelta,
    Code.DECIMAL: _decode_decimal,
    Code.UUID: _decode_uuid,
    Code.INTEGER: _decode_integer,
    Code.COMPLEX: _decode_complex,
    Code.PATH: _decode_path,
}
"""By code: the function that makes the value; it may raise anything."""
