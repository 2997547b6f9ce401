"""Where a part stands inside a value: for messages, once encoding has failed."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from taskito.serializers.limits import MAX_DEPTH, MAX_ITEMS, Expand

__all__ = ["find_place", "type_name"]


@dataclass(frozen=True, slots=True)
class _Place:
    """One step down from the place of the container; rendered only for the part that is named."""

    container: _Place | None
    template: str = "value"
    label: object = None


def find_place(value: object, matches: Callable[[object], bool], expand: Expand) -> str:
    """Say where a part stands inside a value, such as ``value[0]['name']``.

    Args:
        value: The value that could not be encoded.
        matches: Whether a part is the one that is looked for.
        expand: Returns the parts of what is neither list, dict, tuple nor set; it may raise
            ``ValueError`` for what has none.

    Returns:
        The place, or ``"value"`` if no part matches within the limits that a value has.
    """
    level: list[tuple[object, _Place]] = [(value, _Place(None))]
    for _ in range(MAX_DEPTH + 1):
        below: list[tuple[object, _Place]] = []
        for item, place in level:
            if matches(item):
                return _render(place)
            below.extend(islice(_parts(item, place, expand), MAX_ITEMS - len(below)))
        level = below
    return "value"


def _parts(item: Any, place: _Place, expand: Expand) -> Iterator[tuple[object, _Place]]:
    if isinstance(item, dict):
        for key, part in item.items():
            yield key, _Place(place, "the key {label} of {container}", key)
            yield part, _Place(place, "{container}[{label}]", key)
        return
    if isinstance(item, list | tuple):
        template = "{container}[{label}]"
    elif isinstance(item, set | frozenset):
        template = "an element of {container}"
    elif isinstance(item, str | bytes):
        return
    else:
        template = "a field of {container}"
        try:
            item = expand(item) or ()
        except ValueError:
            return
    for index, part in enumerate(item):
        yield part, _Place(place, template, index)


def _render(place: _Place) -> str:
    if place.container is None:
        return place.template
    container = _render(place.container)
    return place.template.format(container=container, label=_short(place.label))


def _short(label: object) -> str:
    try:
        return reprlib.repr(label)
    except Exception:  # noqa: BLE001 - a message must not fail because the repr of a key does
        return f"<{type_name(label)}>"


def type_name(value: object) -> str:
    """Return the full name of a value's type, without the module of built-in ones."""
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
