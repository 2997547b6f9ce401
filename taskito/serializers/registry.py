"""Classes that travel by name: Enums and dataclasses, by registration only.

A payload names a class by the text under which it was registered. Nothing is ever imported because
a payload says so.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from taskito.exceptions import SerializationError
from taskito.serializers.limits import RefusedValueError

__all__ = ["RegisteredDataclass", "RegisteredEnum", "Registry", "default_registry", "register"]

T = TypeVar("T", bound=type)


class RegisteredEnum:
    """An Enum class; members travel by name, those of a Flag by value."""

    def __init__(self, kind: type[enum.Enum], name: str) -> None:
        self.kind = kind
        self.name = name
        self._is_flag = issubclass(kind, enum.Flag)

    def parts(self, _member: enum.Enum) -> None:
        """Return None: a member is encoded as a whole."""

    def encode(self, member: enum.Enum) -> bytes:
        """Return the registered name and the member's name, with a zero byte between."""
        text = f"{member._value_:x}" if self._is_flag else member._name_
        return f"{self.name}\0{text}".encode()

    def decode(self, text: str) -> enum.Enum:
        """Return the member; raises ``ValueError`` or ``KeyError`` if there is none."""
        member = self.kind(int(text, 16)) if self._is_flag else self.kind[text]
        if type(member) is not self.kind:
            raise ValueError(f"{text!r} is not a member of {self.name}")
        return member


class RegisteredDataclass:
    """A dataclass; its fields travel by name, so that fields with a default can be added later."""

    def __init__(self, kind: type, name: str) -> None:
        self.kind = kind
        self.name = name
        self._fields = {field.name: field for field in dataclasses.fields(kind)}

    def parts(self, item: object) -> Sequence[object]:
        """Return the registered name, then the name and value of each field."""
        parts: list[object] = [self.name]
        for name in self._fields:
            try:
                parts += (name, getattr(item, name))
            except Exception as error:
                raise RefusedValueError(item, f"its field {name!r} cannot be read") from error
        return parts

    def build(self, parts: Sequence[object]) -> object:
        """Make an instance from names and values; neither ``__init__`` nor ``__post_init__`` runs.

        Raises:
            ValueError: A field is unknown or given twice, or one without a default is missing.
        """
        given = dict(zip(parts[::2], parts[1::2], strict=True))
        if len(given) * 2 != len(parts):
            raise ValueError(f"a field of {self.name} is given twice")
        unknown = [name for name in given if name not in self._fields]
        if unknown:
            raise ValueError(f"{self.name} has no field {unknown[0]!r}")
        item: object = object.__new__(self.kind)
        for name, field in self._fields.items():
            if name in given:
                value = given[name]
            elif field.default is not dataclasses.MISSING:
                value = field.default
            elif field.default_factory is not dataclasses.MISSING:
                value = field.default_factory()
            else:
                raise ValueError(f"the field {name!r} of {self.name} is missing")
            # As the dataclass module itself does for frozen classes.
            object.__setattr__(item, name, value)
        return item


Entry: TypeAlias = RegisteredEnum | RegisteredDataclass


class Registry:
    """Classes by name and names by class, optionally on top of another registry.

    Args:
        below: Asked for what is not found here.
    """

    def __init__(self, below: Registry | None = None) -> None:
        self._below = below
        self._by_kind: dict[type, Entry] = {}
        self._by_name: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def register(self, kind: T, name: str | None = None) -> T:
        """Register an Enum or a dataclass.

        Args:
            kind: The class.
            name: The name that travels; by default the module and the qualified name.

        Returns:
            The class, so that this can be used as a decorator.

        Raises:
            SerializationError: It is neither an Enum nor a dataclass, or it or the name is taken.
        """
        entry = _entry(kind, _default_name(kind) if name is None else name)
        with self._lock:
            known = self.find_kind(kind)
            if known is not None and known.name != entry.name:
                raise SerializationError(
                    f"{kind!r} is already registered as {known.name!r}; "
                    f"it cannot be registered as {entry.name!r} as well"
                )
            holder = self.find_name(entry.name)
            if holder is not None and holder.kind is not kind:
                raise SerializationError(
                    f"the name {entry.name!r} is already registered for {holder.kind!r}; "
                    f"give another one for {kind!r} with register(..., name=...)"
                )
            self._by_kind[kind] = entry
            self._by_name[entry.name] = entry
        return kind

    def find_kind(self, kind: type) -> Entry | None:
        """Return the entry of exactly this class, or None."""
        entry = self._by_kind.get(kind)
        if entry is None and self._below is not None:
            return self._below.find_kind(kind)
        return entry

    def find_name(self, name: str) -> Entry | None:
        """Return the entry registered under a name, or None."""
        entry = self._by_name.get(name)
        if entry is None and self._below is not None:
            return self._below.find_name(name)
        return entry


def _entry(kind: Any, name: object) -> Entry:
    if not isinstance(name, str) or not name or "\0" in name or not name.isprintable():
        raise SerializationError(
            f"the name of a registered class must be a printable, non-empty string, not {name!r}"
        )
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return RegisteredEnum(kind, name)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        try:
            object.__new__(kind)
        except TypeError as error:
            raise SerializationError(
                f"{kind!r} cannot be registered: its instances cannot be made field by field, "
                f"since it is abstract or derives from a built-in type ({error})"
            ) from error
        return RegisteredDataclass(kind, name)
    raise SerializationError(f"only Enums and dataclasses can be registered, not {kind!r}")


def _default_name(kind: Any) -> str:
    module = getattr(kind, "__module__", None)
    if module == "__main__":
        module = _main_module()
    return f"{module}.{getattr(kind, '__qualname__', None)}"


def _main_module() -> str:
    """Return the name under which another process imports the script that runs here."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


default_registry = Registry()
"""What ``register`` fills; every MsgpackSerializer asks it after its own registry."""


def register(kind: T, name: str | None = None) -> T:
    """Let an Enum or a dataclass travel in arguments and results, in every msgpack serializer.

    Both sides must do this: the process that enqueues and the worker. Members of an Enum travel by
    name (of a Flag: by value), the fields of a dataclass by name; a field that a payload lacks
    takes its default, and ``__init__`` and ``__post_init__`` do not run when it is decoded. Only
    the fields travel, no other attributes.

    Args:
        kind: The class.
        name: The name that travels; by default the module and the qualified name. Give one to be
            able to move the class later.

    Returns:
        The class, so that this can be used as a decorator.

    Raises:
        SerializationError: It is neither an Enum nor a dataclass, or it or the name is taken.

    Example:
        >>> @register
        ... class Colour(enum.Enum):
        ...     RED = 1
    """
    return default_registry.register(kind, name)
