"""The default serializer: msgpack with typed extensions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from msgpack import ExtType, Packer, unpackb  # type: ignore[import-untyped]

from taskito.exceptions import SerializationError
from taskito.serializers.base import Serializer
from taskito.serializers.extensions import (
    CONTAINER_KINDS,
    CONTAINER_PREFIX,
    SCALAR_DECODERS,
    SCALAR_ENCODERS,
    Code,
    Container,
)
from taskito.serializers.limits import (
    FEW_KEYS,
    MAX_DEPTH,
    LimitExceededError,
    RefusedValueError,
    check_hashes,
    check_value,
)
from taskito.serializers.places import find_place, type_name
from taskito.serializers.registry import (
    RegisteredDataclass,
    RegisteredEnum,
    Registry,
    default_registry,
)
from taskito.serializers.wire import check_encoded

__all__ = ["MsgpackSerializer"]

T = TypeVar("T", bound=type)

_SCALARS = frozenset({type(None), bool, int, float, *SCALAR_ENCODERS})
_MARKERS = {kind: ExtType(Code.CONTAINER, bytes((kind,))) for kind in Container}
# One call's worth: the packer's own default would be a fresh allocation of 256 KiB each time.
_BUFFER_SIZE = 512
_FEW_BYTES = 4 * FEW_KEYS
_EXTENSION_HEADS = bytes((0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)))
_SORTABLE = ({str}, {int}, {bytes})


class MsgpackSerializer(Serializer):
    """Encodes with msgpack, and keeps the types that plain msgpack would lose.

    Supported are None, bool, int (to 65,536 bytes), float, str, bytes, list, dict, tuple, set,
    frozenset, complex, ``datetime`` (naive, with a fixed offset or with a ``ZoneInfo``), ``date``,
    ``time``, ``timedelta``, ``Decimal``, ``UUID``, ``pathlib`` paths, and Enums and dataclasses
    that were registered. Keys of a dict may be anything of these that is hashable, and their order
    is kept. Everything else is refused, subclasses of supported types included.

    A value may hold 100,000 items in all, nested 100 levels deep, in both directions. Its strings
    and bytes may hold 256 MiB in all, and at most 100 keys of a dict that has more than 1000, or
    items of such a set, may have the same hash.

    Args:
        registry: Where Enums and dataclasses are looked up; by default a new one of this serializer
            on top of the one that ``taskito.serializers.register`` fills.

    Example:
        >>> serializer = MsgpackSerializer()
        >>> serializer.loads(serializer.dumps({"at": (1, 2)}))
        {'at': (1, 2)}
    """

    name = "msgpack"

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = Registry(below=default_registry) if registry is None else registry

    def register(self, kind: T, name: str | None = None) -> T:
        """Let an Enum or a dataclass travel with this serializer only.

        Args:
            kind: The class.
            name: The name that travels; by default the module and the qualified name.

        Returns:
            The class, so that this can be used as a decorator.

        Raises:
            SerializationError: It is neither an Enum nor a dataclass, or it or the name is taken.
        """
        return self._registry.register(kind, name)

    def dumps(self, value: object) -> bytes:
        """Encode a value; see the class for what is supported.

        Args:
            value: What to encode.

        Returns:
            The encoded value. Equal sets of strings, integers or bytes give equal results in all
            processes.

        Raises:
            SerializationError: A part has an unsupported type, or the value is too deep or large.
        """
        try:
            check_value(value, scalars=_SCALARS, expand=self._expand)
            packer = Packer(default=self._encode, strict_types=True, buf_size=_BUFFER_SIZE)
            packed: bytes = packer.pack(value)
        except RefusedValueError as refusal:
            target = refusal.value
            place = find_place(value, lambda part: part is target, self._expand)
            raise SerializationError(
                f"cannot encode {place} of type {type_name(target)}: {refusal.reason}"
            ) from refusal
        except UnicodeEncodeError as error:
            place = find_place(value, _is_malformed_text, self._expand)
            raise SerializationError(
                f"cannot encode {place} of type str: it holds a lone surrogate ({error.reason}); "
                "pass bytes, or a pathlib path if it is a file name"
            ) from error
        except LimitExceededError as error:
            raise SerializationError(
                f"cannot encode the value of type {type_name(value)}: {error}"
            ) from error
        except Exception as error:
            raise SerializationError(
                f"cannot encode the value of type {type_name(value)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return packed

    def loads(self, data: bytes | memoryview) -> object:
        """Decode what ``dumps`` made.

        Args:
            data: The encoded value; anything may be in it. An extension of type -1, msgpack's own
                timestamp, which other languages write, is read as a ``datetime`` in UTC.

        Returns:
            The value.

        Raises:
            SerializationError: The bytes are malformed, pass a limit, have bytes after the value,
                or name a class that is not registered.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise SerializationError(f"a msgpack payload must be bytes, not {type_name(data)}")
        try:
            encoded = data if type(data) is bytes else bytes(data)
            # Shorter than the depth that is allowed: whatever is in it, no limit can be passed.
            if len(encoded) > MAX_DEPTH:
                check_encoded(encoded)
            if CONTAINER_PREFIX in encoded:
                return _ContainerDecoder(self).decode(encoded)
            return _unpack(encoded, ext_hook=self._decode)
        except Exception as error:
            detail = str(error) or "malformed data"
            raise SerializationError(
                f"cannot decode a msgpack payload of {len(data)} bytes: "
                f"{type(error).__name__}: {detail}"
            ) from error

    def _expand(self, item: object) -> Collection[object] | None:
        """Return what a tuple, a set or an instance of a registered class holds."""
        kind = type(item)
        if kind in CONTAINER_KINDS:
            if kind is not tuple:
                check_hashes(item)  # type: ignore[arg-type]
            return item  # type: ignore[return-value]
        entry = self._registry.find_kind(kind)
        if entry is None:
            raise RefusedValueError(item, _refusal(item))
        return entry.parts(item)  # type: ignore[arg-type]

    def _encode(self, item: Any) -> object:
        """Return something that msgpack can pack; it calls this for all that it can't."""
        kind = type(item)
        scalar = SCALAR_ENCODERS.get(kind)
        if scalar is not None:
            code, encode = scalar
            return ExtType(code, encode(item))
        container = CONTAINER_KINDS.get(kind)
        if container is not None:
            return [_MARKERS[container], *_ordered(item)]
        entry = self._registry.find_kind(kind)
        if isinstance(entry, RegisteredEnum):
            return ExtType(Code.ENUM, entry.encode(item))
        if isinstance(entry, RegisteredDataclass):
            return [_MARKERS[Container.DATACLASS], *entry.parts(item)]
        # Only if another thread changes the value between the check and here.
        raise RefusedValueError(item, _refusal(item))

    def _decode(self, code: int, data: bytes) -> object:
        """Make the value of a scalar extension; msgpack calls this for each."""
        decode = SCALAR_DECODERS.get(code)
        if decode is not None:
            return decode(data)
        if code != Code.ENUM:
            raise ValueError(f"unknown extension type {code}")
        name, _, text = data.decode().partition("\0")
        entry = self._registry.find_name(name)
        if not isinstance(entry, RegisteredEnum):
            raise _not_registered("Enum", name)
        return entry.decode(text)

    def _build(self, container: int, parts: Sequence[Any]) -> object:
        """Make a tuple, a set or an instance of a registered dataclass from an array's items."""
        if container == Container.TUPLE:
            return tuple(parts)
        if container in (Container.SET, Container.FROZENSET):
            check_hashes(parts)
            return set(parts) if container == Container.SET else frozenset(parts)
        if container != Container.DATACLASS:
            raise ValueError(f"unknown kind of container {container}")
        name = parts[0] if parts else None
        entry = self._registry.find_name(name) if type(name) is str else None
        if not isinstance(entry, RegisteredDataclass):
            raise _not_registered("dataclass", name)
        return entry.build(parts[1:])


class _Marker:
    """The decoded first item of an array that stands for a container."""

    __slots__ = ("container",)

    def __init__(self, container: int) -> None:
        self.container = container


class _ContainerDecoder:
    """Decodes one payload in which arrays may stand for containers.

    Every marker must be the first item of an array. They are counted as they appear and as their
    array ends, so that one which stands elsewhere can't slip into the value.
    """

    def __init__(self, serializer: MsgpackSerializer) -> None:
        self._serializer = serializer
        self._open_markers = 0

    def decode(self, data: bytes) -> object:
        value = _unpack(data, ext_hook=self._extension, list_hook=self._array)
        if self._open_markers:
            raise ValueError("the marker of a container does not stand at the start of an array")
        return value

    def _extension(self, code: int, data: bytes) -> object:
        if code != Code.CONTAINER:
            return self._serializer._decode(code, data)  # noqa: SLF001 - one subject, two classes
        self._open_markers += 1
        (container,) = data
        return _Marker(container)

    def _array(self, items: list[object]) -> object:
        if items and type(items[0]) is _Marker:
            self._open_markers -= 1
            return self._serializer._build(items[0].container, items[1:])  # noqa: SLF001
        return items


def _unpack(data: bytes, **hooks: Any) -> object:
    # Keys of chosen hash are extensions. Their bytes occur in text, too, but not in ASCII.
    size = len(data)
    if size > _FEW_BYTES and len(data.translate(None, _EXTENSION_HEADS)) < size:
        hooks["object_pairs_hook"] = _dict
    # Lengths are bounded by the size of the data, which is the default of unpackb.
    return unpackb(data, strict_map_key=False, timestamp=3, **hooks)


def _dict(pairs: list[tuple[object, object]]) -> dict[object, object]:
    if len(pairs) > FEW_KEYS:
        check_hashes([key for key, _ in pairs])
    return dict(pairs)


def _ordered(items: Any) -> Any:
    """Return the items; simple ones of a set in an order that is the same in every process."""
    if type(items) is not tuple and set(map(type, items)) in _SORTABLE:
        return sorted(items)
    return items


def _is_malformed_text(part: object) -> bool:
    if type(part) is not str:
        return False
    try:
        part.encode()
    except UnicodeEncodeError:
        return True
    return False


def _refusal(item: object) -> str:
    """Say why a type can't be encoded and what to do instead."""
    kind = type(item)
    if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__members__"):
        what = "Enum" if hasattr(kind, "__members__") else "dataclass"
        return (
            f"this {what} is not registered; call "
            f"taskito.serializers.register({kind.__qualname__}) where it is defined, so that "
            "producer and worker both do"
        )
    for base in kind.__mro__[1:]:
        if base in _SCALARS or base in CONTAINER_KINDS or base in (str, bytes, list, dict):
            return (
                f"it would come back as a plain {base.__qualname__}; "
                f"convert it with {base.__qualname__}(...) first"
            )
    return "msgpack has no form for this type; pass plain data or an id, or a registered dataclass"


def _not_registered(what: str, name: object) -> LookupError:
    return LookupError(
        f"the {what} {name!r} is not registered in this process; "
        "call taskito.serializers.register for it, with the same name"
    )
