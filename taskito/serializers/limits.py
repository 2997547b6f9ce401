"""What bounds a value: its depth, its number of items, the size of its text.

A value is measured before the encoder sees it, because an encoder that walks a value has no bound
of its own: a list that holds itself twice would fill the memory, and nesting would use up the stack
of the thread. The walk is iterative, level by level, and stops as soon as a limit is passed.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

__all__ = [
    "FEW_KEYS",
    "MAX_DEPTH",
    "MAX_ITEMS",
    "MAX_NUMBER_SIZE",
    "MAX_SAME_HASH",
    "MAX_TEXT_SIZE",
    "Expand",
    "LimitExceededError",
    "RefusedValueError",
    "check_hashes",
    "check_value",
]

MAX_DEPTH = 100
"""How deep containers may be nested; a list of numbers has depth 1."""

MAX_ITEMS = 100_000
"""How many items all containers of a value may hold together, keys included."""

MAX_TEXT_SIZE = 256 * 1024 * 1024
"""How many characters and bytes all strings of a value may hold together."""

MAX_NUMBER_SIZE = 65_536
"""Bytes of the largest integer, and characters of the longest Decimal."""

MAX_SAME_HASH = 100
"""How many keys of one dict, or items of one set, may have the same hash.

Hashes of numbers and tuples can be chosen. With 100,000 equal ones a dict takes minutes to fill."""

FEW_KEYS = 1000
"""With so many keys, their hashes make no difference worth looking for."""

Expand: TypeAlias = Callable[[Any], Collection[object] | None]
"""Returns what a container other than a list or dict holds, or None for what is none.

It raises RefusedValueError for what can't be encoded."""


class LimitExceededError(ValueError):
    """A value, or an encoded value, passes one of the limits."""


class RefusedValueError(ValueError):
    """One part of a value cannot be encoded.

    Attributes:
        value: That part, so that its place can be found.
        reason: Why, and what to do.
    """

    def __init__(self, value: object, reason: str) -> None:
        super().__init__(reason)
        self.value = value
        self.reason = reason


def check_value(
    value: object,
    *,
    scalars: AbstractSet[type],
    expand: Expand,
    key_types: AbstractSet[type] | None = None,
) -> None:
    """Check the limits, and that every part has a type that can be encoded.

    Args:
        value: The value that shall be encoded.
        scalars: The types without parts and of small size; matched exactly, not by subclass.
        expand: Called for everything that is no scalar, string, bytes, list or dict.
        key_types: The types that a key of a dict may have; None leaves it to the other rules.

    Raises:
        LimitExceededError: The value is nested too deep, contains itself, or is too large.
        RefusedValueError: A part has a type that cannot be encoded.
    """
    if type(value) in scalars:
        return
    level = [value]
    depth = items = text = 0
    while level:
        held: list[object] = []
        for item in level:
            kind = type(item)
            if kind is str or kind is bytes:
                text += len(item)  # type: ignore[arg-type]
                continue
            if kind is list:
                parts: Collection[object] = item  # type: ignore[assignment]
                items += len(parts)
            elif kind is dict:
                if key_types is not None or len(item) > FEW_KEYS:  # type: ignore[arg-type]
                    _check_keys(item, key_types)  # type: ignore[arg-type]
                parts = [*item, *item.values()]  # type: ignore[misc, attr-defined]
                items += len(parts)
            else:
                expanded = expand(item)
                if expanded is None:
                    continue
                parts = expanded
                items += len(parts) + 1  # one says which kind of container it is
            if depth == MAX_DEPTH:
                raise LimitExceededError(
                    f"it is nested more than {MAX_DEPTH} levels deep, or contains itself"
                )
            # Before the parts are collected: one large list, held many times, has no other bound.
            if items > MAX_ITEMS:
                raise LimitExceededError(f"it holds more than {MAX_ITEMS} items in all")
            held += parts
        if text > MAX_TEXT_SIZE:
            raise LimitExceededError(f"its strings hold more than {MAX_TEXT_SIZE} bytes in all")
        level = [item for item in held if type(item) not in scalars]
        depth += 1


def check_hashes(keys: Collection[object]) -> None:
    """Check that not too many keys of a dict or items of a set have the same hash.

    Raises:
        LimitExceededError: More than ``MAX_SAME_HASH`` have.
    """
    if len(keys) > FEW_KEYS and max(Counter(map(hash, keys)).values()) > MAX_SAME_HASH:
        raise LimitExceededError(f"more than {MAX_SAME_HASH} keys of one dict or set have one hash")


def _check_keys(item: dict[object, object], key_types: AbstractSet[type] | None) -> None:
    check_hashes(item)
    if key_types is None:
        return
    for key in item:
        if type(key) not in key_types:
            allowed = ", ".join(sorted(kind.__name__ for kind in key_types))
            raise RefusedValueError(
                item,
                f"its key {reprlib.repr(key)} is of type {type(key).__name__}; "
                f"a key must be of type {allowed}",
            )
