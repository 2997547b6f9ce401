"""Pickle, for those who trust everybody that can write to the store. Never accepted by default."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from itertools import chain

from taskito.exceptions import SerializationError
from taskito.serializers.base import Serializer
from taskito.serializers.limits import MAX_DEPTH, MAX_ITEMS, LimitExceededError
from taskito.serializers.places import type_name

__all__ = ["PickleSerializer"]

_PROTOCOL = 5


class PickleSerializer(Serializer):
    """Encodes with pickle, protocol 5: nearly every Python object, at a price.

    Warning:
        Decoding a pickle can run any code. Whoever can write to the store (the database file, or
        the server behind it) can run code in every worker and in every process that reads a result.
        A queue uses and accepts this serializer only where it is named explicitly, as in
        ``Queue(serializer="pickle", accept=["pickle"])``.

    What plain data, built-in containers and attributes of objects hold is limited to 100,000 items,
    nested 100 levels deep, when it is encoded. What a class does in its own ``__reduce__`` can't be
    limited, and neither can what a pickle does when it is decoded.

    Example:
        >>> serializer = PickleSerializer()
        >>> serializer.loads(serializer.dumps({"at": (1, 2)}))
        {'at': (1, 2)}
    """

    name = "pickle"

    def dumps(self, value: object) -> bytes:
        """Encode a value.

        Args:
            value: What to encode.

        Returns:
            The pickle.

        Raises:
            SerializationError: The value can't be pickled, or is too deep or too large.
        """
        try:
            _check_depth(value)
            return pickle.dumps(value, protocol=_PROTOCOL)
        except Exception as error:
            raise SerializationError(
                f"cannot pickle the value of type {type_name(value)}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def loads(self, data: bytes | memoryview) -> object:
        """Decode a pickle; this can run any code.

        Args:
            data: The pickle.

        Returns:
            The value.

        Raises:
            SerializationError: The bytes are no pickle, or decoding raised any exception.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise SerializationError(f"a pickle must be bytes, not {type_name(data)}")
        try:
            return pickle.loads(data)  # noqa: S301 - the class says what that means
        except Exception as error:
            raise SerializationError(
                f"cannot decode a pickle of {len(data)} bytes: {type(error).__name__}: {error}"
            ) from error


def _check_depth(value: object) -> None:
    """Check the limits in the order in which pickle goes down, which recurses on the stack.

    Each object is visited once: pickle remembers the objects that it has seen, so that cycles and
    shared parts are fine.
    """
    seen: dict[int, object] = {id(value): value}  # kept alive, so that no id is used twice
    open_parts: list[Iterator[object]] = [iter(_parts(value))]
    while open_parts:
        part = next(open_parts[-1], _END)
        if part is _END:
            open_parts.pop()
            continue
        parts = _parts(part)
        if parts is _NOTHING or id(part) in seen:
            continue
        seen[id(part)] = part
        if len(open_parts) >= MAX_DEPTH:
            raise LimitExceededError(f"it is nested more than {MAX_DEPTH} levels deep")
        if len(seen) > MAX_ITEMS:
            raise LimitExceededError(f"it holds more than {MAX_ITEMS} containers and objects")
        open_parts.append(iter(parts))


_END = object()
_NOTHING: Iterable[object] = ()


def _parts(item: object) -> Iterable[object]:
    if isinstance(item, type):
        return _NOTHING  # pickled by name
    parts: list[Iterable[object]] = []
    if isinstance(item, dict):
        parts += (item, item.values())
    elif isinstance(item, list | tuple | set | frozenset):
        parts.append(item)
    attributes = getattr(item, "__dict__", None)
    if isinstance(attributes, dict) and not callable(item):
        parts.append(attributes.values())
    return chain.from_iterable(parts) if parts else _NOTHING
