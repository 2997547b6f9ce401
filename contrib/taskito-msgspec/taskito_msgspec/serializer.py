"""The serializer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from taskito import ConfigurationError, SerializationError
from taskito.serializers import PayloadContext, PayloadKind, Serializer
from taskito_msgspec.codec import Decoder, encode
from taskito_msgspec.sameness import same
from taskito_msgspec.signature import Signature

__all__ = ["MsgspecSerializer"]

_CALL = msgspec.msgpack.Decoder(tuple[list[msgspec.Raw], dict[str, msgspec.Raw]])


class MsgspecSerializer(Serializer):
    """Encodes as MessagePack with msgspec, and decodes what the annotations of the task say.

    Structs, dataclasses, TypedDicts, Enums, pydantic models and all that msgspec supports. Every
    argument is decoded once when it is encoded; if it does not come back as it was, it is refused.

    Example:
        >>> queue = Queue(serializer=MsgspecSerializer())
        >>> @queue.task()
        ... def ship(order: Order) -> Receipt: ...
    """

    name = "msgspec"
    contextual = True

    def __init__(self) -> None:
        self._signatures: dict[str, Signature] = {}
        # Those whose annotations named something that did not exist yet.
        self._unresolved: dict[str, tuple[Callable[..., Any], int]] = {}

    def learn_task(self, name: str, function: Callable[..., Any], *, skip: int = 0) -> None:
        """Read the annotations of a task.

        Raises:
            ConfigurationError: msgspec does not support one of them.
        """
        self._signatures.pop(name, None)
        self._unresolved[name] = (function, skip)
        try:
            self._signature(name)
        except NameError:
            return  # Maybe it is defined further down in the module: looked up at the first call.
        except TypeError as error:
            del self._unresolved[name]
            raise ConfigurationError(f"the annotations of task {name!r}: {error}") from error

    def dumps_in(self, value: object, context: PayloadContext) -> bytes:
        """Encode a call or a result, checked against the annotations of its task."""
        try:
            signature = self._signature(context.task)
            if context.kind is PayloadKind.RESULT:
                return _checked("the result", value, signature.result)
            call: Any = value
            args, kwargs = call
            for (name, decoder), argument in signature.of_call(args, kwargs):
                _checked(name, argument, decoder)
            return encode(value)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(_explain("encode", context, error)) from error

    def loads_in(self, data: bytes | memoryview, context: PayloadContext) -> object:
        """Decode a call or a result as the annotations of its task say."""
        raw = _as_bytes(data)
        try:
            signature = self._signature(context.task)
            if context.kind is PayloadKind.RESULT:
                return signature.result.decode(raw)
            args, kwargs = _CALL.decode(raw)
        except Exception as error:
            raise SerializationError(_explain("decode", context, error)) from error
        return [
            [
                _decoded(*signature.positional(index), argument)
                for index, argument in enumerate(args)
            ],
            {name: _decoded(*signature.keyword(name), value) for name, value in kwargs.items()},
        ]

    def dumps(self, value: object) -> bytes:
        """Encode a value that belongs to no task: plain data only."""
        return _checked("the value", value, _PLAIN)

    def loads(self, data: bytes | memoryview) -> object:
        """Decode a value that belongs to no task: plain data only."""
        return _decoded("the value", _PLAIN, _as_bytes(data))

    def digest(self, value: object) -> bytes:
        """Return what equal calls share; a model counts as its fields."""
        import hashlib

        try:
            return hashlib.sha256(encode(value)).digest()
        except Exception as error:
            raise SerializationError(f"cannot encode the value: {_one_line(error)}") from error

    def _signature(self, task: str) -> Signature:
        if task in self._unresolved:
            function, skip = self._unresolved[task]
            self._signatures[task] = Signature(function, skip)
            self._unresolved.pop(task, None)
        return self._signatures.get(task, _NO_ANNOTATIONS)


_PLAIN = Decoder(Any)
_NO_ANNOTATIONS = Signature()


def _as_bytes(data: bytes | memoryview) -> bytes:
    checked: object = data
    if not isinstance(checked, bytes | bytearray | memoryview):
        raise SerializationError(f"a payload must be bytes, not {type(checked).__name__}")
    return bytes(checked)


def _checked(name: str, value: Any, decoder: Decoder) -> bytes:
    """Encode a part, if it comes back as it was."""
    try:
        encoded = encode(value)
        back = decoder.decode(encoded)
        kept = same(value, back)
    except Exception as error:
        raise SerializationError(
            f"{name}: a {type(value).__name__} cannot be encoded: {_one_line(error)}"
        ) from error
    if not kept:
        raise SerializationError(
            f"{name}: the {type(value).__name__} would come back as another value or type "
            f"({type(back).__name__}); annotate the parameter with what it takes, or convert it"
        )
    return encoded


def _decoded(name: str, decoder: Decoder, data: bytes | msgspec.Raw) -> Any:
    try:
        return decoder.decode(data)
    except Exception as error:
        raise SerializationError(f"{name}: {_one_line(error)}") from error


def _explain(verb: str, context: PayloadContext, error: Exception) -> str:
    return f"cannot {verb} the {context.kind} of task {context.task!r}: {_one_line(error)}"


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
