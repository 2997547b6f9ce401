"""Signed payloads: nobody without a key can make one, change one, or move one to another job."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from taskito.exceptions import SerializationError
from taskito.serializers.base import Serializer
from taskito.serializers.context import PayloadContext
from taskito.serializers.envelope import Claims, Envelope
from taskito.serializers.keys import KeyRing
from taskito.serializers.wrapping import Wrapper

__all__ = ["SignedSerializer"]


class SignedSerializer(Wrapper):
    """Signs what another serializer encodes, with HMAC-SHA-256 (RFC 2104).

    A payload is bound to its task and its job, a result also to the attempt that returned it. What
    was changed, was made with an unknown key, or stands at another job is refused, and the task
    does not run. The inner serializer sees nothing that was not checked before, so that even
    ``PickleSerializer`` is safe inside against whoever can write the store but has no key.

    Signed payloads can be read by everybody; ``EncryptedSerializer`` hides them.

    Args:
        inner: The serializer that encodes.
        keys: A ``KeyRing``, or a dict of 32-byte keys by name, of which the first one signs.
        name: What stands with each payload; None means ``"signed-"`` and the inner one's name.

    Raises:
        ConfigurationError: A key has a wrong name or length.

    Example:
        >>> from taskito.serializers import JsonSerializer
        >>> serializer = SignedSerializer(JsonSerializer(), {"2026-11": bytes(range(32))})
        >>> serializer.name
        'signed-json'
        >>> serializer.loads(serializer.dumps([1, 2]))
        [1, 2]
    """

    prefix = "signed"

    def __init__(
        self, inner: Serializer, keys: KeyRing | Mapping[str, bytes], name: str | None = None
    ) -> None:
        super().__init__(inner, keys, name)
        self._derived = self.keys.derive(f"signature {self.name}")

    def dumps_in(self, value: object, context: PayloadContext | None) -> bytes:
        """Encode and sign a value."""
        body = self._inner_dumps(value, context)
        header = Envelope.header_of(self.keys.current, Claims.of(context))
        return Envelope.pack(header, self._signature(self.keys.current, header, body), body)

    def loads_in(self, data: bytes | memoryview, context: PayloadContext | None) -> object:
        """Check the signature and the place, then decode."""
        envelope = Envelope.unpack(data)
        self._check_key(envelope)
        expected = self._signature(envelope.key, envelope.header, envelope.body)
        if not hmac.compare_digest(expected, envelope.proof):
            raise SerializationError(
                f"its signature is wrong: it was changed, or signed with another key than the one "
                f"that is named {envelope.key!r} here"
            )
        envelope.claims.check(context)
        return self._inner_loads(envelope.body, context)

    def _signature(self, key: str, header: bytes, body: bytes) -> bytes:
        # The header has its own length in it, so no two pairs of header and body look the same.
        return hmac.digest(self._derived[key], header + body, "sha256")
