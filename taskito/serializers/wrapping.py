"""What serializers that protect the payloads of another one have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from taskito.exceptions import ConfigurationError, SerializationError
from taskito.serializers.base import Serializer
from taskito.serializers.context import PayloadContext
from taskito.serializers.envelope import Envelope
from taskito.serializers.keys import KeyRing

__all__ = ["Wrapper"]


class Wrapper(Serializer):
    """Base of the serializers that sign or encrypt.

    Attributes:
        prefix: What the name begins with, unless one is given.
        inner: The serializer that encodes.
        keys: The keys.
    """

    prefix: ClassVar[str]
    contextual = True
    authenticates = True

    def __init__(
        self, inner: Serializer, keys: KeyRing | Mapping[str, bytes], name: str | None = None
    ) -> None:
        if not isinstance(inner, Serializer):
            raise ConfigurationError(
                f"inner: {inner!r} is not a serializer; give an object, for example "
                f"MsgpackSerializer()"
            )
        self.inner = inner
        self.keys = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        self.name = f"{self.prefix}-{inner.name}" if name is None else name

    def dumps(self, value: object) -> bytes:
        """Encode a value that belongs to no job; what comes out is refused as a job's payload."""
        return self.dumps_in(value, None)

    def loads(self, data: bytes | memoryview) -> object:
        """Decode what ``dumps`` made; a job's payload is refused."""
        return self.loads_in(data, None)

    @abstractmethod
    def dumps_in(self, value: object, context: PayloadContext | None) -> bytes:
        """Encode a value so that it is accepted at its own place only."""

    @abstractmethod
    def loads_in(self, data: bytes | memoryview, context: PayloadContext | None) -> object:
        """Check, then decode.

        Raises:
            SerializationError: It was changed, or made for another place, or by an unknown key.
        """

    def digest(self, value: object) -> bytes:
        """Return the inner serializer's digest of a value."""
        return self.inner.digest(value)

    def learn_task(self, name: str, function: Callable[..., Any], *, skip: int = 0) -> None:
        """Tell the inner serializer."""
        self.inner.learn_task(name, function, skip=skip)

    def _check_key(self, envelope: Envelope) -> None:
        if envelope.key not in self.keys.names:
            raise SerializationError(
                f"it was made with key {envelope.key[:64]!r}, and the keys here are "
                f"{', '.join(self.keys.names)}"
            )

    def _inner_dumps(self, value: object, context: PayloadContext | None) -> bytes:
        if context is None:
            return self.inner.dumps(value)
        return self.inner.dumps_in(value, context)

    def _inner_loads(self, data: bytes, context: PayloadContext | None) -> object:
        if context is None:
            return self.inner.loads(data)
        return self.inner.loads_in(data, context)
