"""Encrypted payloads: nobody without a key can read one, make one, or move one to another job."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping

from taskito.exceptions import ConfigurationError, SerializationError
from taskito.serializers.base import Serializer
from taskito.serializers.context import PayloadContext
from taskito.serializers.envelope import Claims, Envelope
from taskito.serializers.keys import KeyRing
from taskito.serializers.wrapping import Wrapper

__all__ = ["EncryptedSerializer"]

_NONCE_BYTES = 12


class EncryptedSerializer(Wrapper):
    """Encrypts what another serializer encodes, with AES-256-GCM (NIST SP 800-38D).

    It does all that ``SignedSerializer`` does, and hides the values. Readable stay what the store
    knows anyway (task, queue, times, metadata), the name of the key, and the length.

    Nonces are random. NIST allows 2**32 payloads and results for one key; exchange it before.

    It needs the library ``cryptography``: ``pip install 'taskito[crypto]'``.

    Args:
        inner: The serializer that encodes.
        keys: A ``KeyRing``, or a dict of 32-byte keys by name, of which the first one encrypts.
        name: What stands with each payload; None means ``"encrypted-"`` and the inner one's name.

    Raises:
        ConfigurationError: A key has a wrong name or length, or ``cryptography`` is not installed.

    Example:
        >>> from taskito.serializers import JsonSerializer
        >>> serializer = EncryptedSerializer(JsonSerializer(), {"2026-11": bytes(range(32))})
        >>> serializer.loads(serializer.dumps("secret"))
        'secret'
    """

    prefix = "encrypted"

    def __init__(
        self, inner: Serializer, keys: KeyRing | Mapping[str, bytes], name: str | None = None
    ) -> None:
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise ConfigurationError(
                "serializer: EncryptedSerializer needs the library cryptography; install it with "
                "pip install 'taskito[crypto]'"
            ) from error
        super().__init__(inner, keys, name)
        self._invalid = InvalidTag
        self._ciphers = {
            key: AESGCM(secret)
            for key, secret in self.keys.derive(f"encryption {self.name}").items()
        }
        self._digest_keys = self.keys.derive(f"digest {self.name}")

    def dumps_in(self, value: object, context: PayloadContext | None) -> bytes:
        """Encode and encrypt a value."""
        plain = self._inner_dumps(value, context)
        header = Envelope.header_of(self.keys.current, Claims.of(context))
        nonce = os.urandom(_NONCE_BYTES)
        body = self._ciphers[self.keys.current].encrypt(nonce, plain, header)
        return Envelope.pack(header, nonce, body)

    def loads_in(self, data: bytes | memoryview, context: PayloadContext | None) -> object:
        """Decrypt, check the place, then decode."""
        envelope = Envelope.unpack(data)
        self._check_key(envelope)
        if len(envelope.proof) != _NONCE_BYTES:
            raise SerializationError("its nonce has a wrong length: it was changed")
        try:
            plain = self._ciphers[envelope.key].decrypt(
                envelope.proof, envelope.body, envelope.header
            )
        except self._invalid:
            raise SerializationError(
                f"it cannot be decrypted: it was changed, or encrypted with another key than the "
                f"one that is named {envelope.key!r} here"
            ) from None
        envelope.claims.check(context)
        return self._inner_loads(plain, context)

    def digest(self, value: object) -> bytes:
        """Return a keyed digest, so that nobody without the key can guess the value by trying.

        It changes with the key that writes.
        """
        return hmac.digest(self._digest_keys[self.keys.current], self.inner.digest(value), "sha256")
