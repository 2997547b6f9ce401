"""JSON: readable by everything, for values that JSON can hold."""

from __future__ import annotations

import json
import math
import re

from taskito.exceptions import SerializationError
from taskito.serializers.base import Serializer
from taskito.serializers.limits import (
    MAX_DEPTH,
    MAX_ITEMS,
    LimitExceededError,
    RefusedValueError,
    check_value,
)
from taskito.serializers.places import find_place, type_name

__all__ = ["JsonSerializer"]

_SCALARS = frozenset({type(None), bool})
_KEY_TYPES = frozenset({str})

# Conversion takes quadratic time, and the interpreter's own bound (4300) can be switched off.
_MAX_DIGITS = 4_000
_MAX_INTEGER = 10**_MAX_DIGITS - 1

# Strings and empty containers as a whole, so that what is inside a string is not counted; an open
# string reaches to the end. Possessive, so that the search never goes back over a character.
_TOKEN = re.compile(
    r'"(?:[^"\\]++|\\.)*+(?:"|\Z)?|\[[ \t\r\n]*+\]|\{[ \t\r\n]*+\}|[\[\]{},:]', re.DOTALL
)


class JsonSerializer(Serializer):
    """Encodes as JSON in UTF-8, and refuses what would come back changed.

    Supported are None, bool, int of at most 4,000 digits, finite float, str, list, and dict with
    keys of type str. Tuples, sets, other keys, NaN, infinity, dates and subclasses are refused. A
    value may hold 100,000 items in all, nested 100 levels deep, in both directions.

    Example:
        >>> JsonSerializer().dumps({"to": ["ada", "grace"]})
        b'{"to":["ada","grace"]}'
    """

    name = "json"

    def __init__(self) -> None:
        # Neither keeps a state: one of each serves all threads. The check has found cycles already.
        self._encoder = json.JSONEncoder(
            ensure_ascii=False,
            allow_nan=False,
            check_circular=False,
            separators=(",", ":"),
            default=_expand,
        )
        self._decoder = json.JSONDecoder(
            parse_float=_finite_float, parse_int=_bounded_int, parse_constant=_refuse_constant
        )

    def dumps(self, value: object) -> bytes:
        """Encode a value; see the class for what is supported.

        Args:
            value: What to encode.

        Returns:
            The value as compact JSON in UTF-8.

        Raises:
            SerializationError: JSON can't hold a part without changing it, or the value is too deep
                or too large.
        """
        try:
            check_value(value, scalars=_SCALARS, expand=_expand, key_types=_KEY_TYPES)
            return self._encoder.encode(value).encode()
        except RefusedValueError as refusal:
            target = refusal.value
            place = find_place(value, lambda part: part is target, _expand)
            raise SerializationError(
                f"cannot encode {place} of type {type_name(target)} as JSON: {refusal.reason}"
            ) from refusal
        except LimitExceededError as error:
            raise SerializationError(
                f"cannot encode the value of type {type_name(value)} as JSON: {error}"
            ) from error
        except Exception as error:
            place = find_place(value, _is_malformed_text, _expand)
            raise SerializationError(f"cannot encode {place} as JSON: {error}") from error

    def loads(self, data: bytes | memoryview) -> object:
        """Decode JSON.

        Args:
            data: JSON in UTF-8; anything may be in it.

        Returns:
            The value.

        Raises:
            SerializationError: The bytes are not JSON, or pass a limit.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise SerializationError(f"a JSON payload must be bytes, not {type_name(data)}")
        try:
            text = str(data, "utf-8")
            _check_text(text)
            return self._decoder.decode(text)
        except Exception as error:
            raise SerializationError(
                f"cannot decode a JSON payload of {len(data)} bytes: "
                f"{type(error).__name__}: {error}"
            ) from error


def _check_text(text: str) -> None:
    """Check the limits before the decoder, which recurses, sees the text."""
    if len(text) <= MAX_ITEMS and text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = items = 0
    for match in _TOKEN.finditer(text):
        first = text[match.start()]
        if first in "[{":
            if depth == MAX_DEPTH:
                raise LimitExceededError(f"it is nested more than {MAX_DEPTH} levels deep")
            if match.end() - match.start() == 1:  # longer: an empty one, already closed
                depth += 1
                items += 1
        elif first in "]}":
            depth -= 1
        elif first in ",:":
            items += 1
        if items > MAX_ITEMS:
            raise LimitExceededError(f"it holds more than {MAX_ITEMS} items in all")


def _expand(item: object) -> None:
    """Accept the numbers that JSON can hold; refuse all types that it has no form for."""
    if type(item) is int:
        if not -_MAX_INTEGER <= item <= _MAX_INTEGER:
            raise RefusedValueError(item, f"it has more than {_MAX_DIGITS} digits")
    elif type(item) is float:
        if not math.isfinite(item):
            raise RefusedValueError(item, "JSON has neither NaN nor infinity; use None or a string")
    elif isinstance(item, bytes):
        raise RefusedValueError(
            item, "JSON holds text only; encode the bytes as base64, or use the msgpack serializer"
        )
    else:
        raise RefusedValueError(
            item,
            "JSON has no form for this type that would come back the same; "
            "convert it, or use the msgpack serializer",
        )


def _is_malformed_text(part: object) -> bool:
    if type(part) is not str:
        return False
    try:
        part.encode()
    except UnicodeEncodeError:
        return True
    return False


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is too large for a float")
    return value


def _bounded_int(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS:
        raise ValueError(f"an integer has more than {_MAX_DIGITS} digits")
    return int(text)


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")
