"""Whether a value came back as it was: of the same types at every level."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

__all__ = ["same"]


def same(given: Any, back: Any) -> bool:
    """Return whether ``back`` equals ``given`` and has the same types at every level.

    An int where the annotation asks for a float comes back as a float; that counts as the same. So
    do two floats that are not numbers.
    """
    if type(given) is not type(back):
        return type(given) is int and type(back) is float and given == back
    if isinstance(given, list | tuple):
        return len(given) == len(back) and all(map(same, given, back))
    if isinstance(given, dict):
        return len(given) == len(back) and all(
            same(one, other) and same(given[one], back[other])
            for one, other in zip(given, back, strict=True)
        )
    fields = _fields(given)
    if fields is not None:
        return all(same(getattr(given, name), getattr(back, name)) for name in fields)
    return bool(given == back) or (given != given and back != back)  # noqa: PLR0124 - NaN


def _fields(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    fields = getattr(type(value), "model_fields", None)
    return tuple(fields) if isinstance(fields, dict) else None
