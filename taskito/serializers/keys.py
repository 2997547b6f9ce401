"""Secret keys with names, so that they can be exchanged while jobs are waiting."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Mapping

from taskito.exceptions import ConfigurationError

__all__ = ["KEY_BYTES", "KeyRing"]

KEY_BYTES = 32
"""The length of every key: 256 bits."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class KeyRing:
    """Secret keys by name. One of them writes, all of them read.

    To exchange a key: add the new one to every process, as one that reads; make it the writing one;
    take the old one away when no payload or result bears its name any more.

    Args:
        keys: The keys by name, 32 random bytes each, for example ``secrets.token_bytes(32)``. A
            name has 1 to 64 letters, digits, ``.``, ``_`` and ``-``; it stands readable in the
            store. Never give another key a name that was used before.
        current: The name of the one that writes; None means the first.

    Raises:
        ConfigurationError: There is no key, or one has a wrong name or length. No message shows a
            key.

    Example:
        >>> ring = KeyRing({"2026-11": bytes(range(32)), "2026-05": bytes(32)})
        >>> ring.current
        '2026-11'
    """

    def __init__(self, keys: Mapping[str, bytes], current: str | None = None) -> None:
        checked: object = keys  # A caller may have given anything.
        if not isinstance(checked, Mapping) or not checked:
            raise ConfigurationError("keys: give a dict of keys by name, with at least one key")
        for name, key in checked.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ConfigurationError(
                    f"keys: the name {name!r} is not allowed; give 1 to 64 letters, digits, '.', "
                    f"'_' and '-'"
                )
            if not isinstance(key, bytes) or len(key) != KEY_BYTES:
                found = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
                raise ConfigurationError(
                    f"keys: key {name!r} is {found}; give {KEY_BYTES} random bytes, for example "
                    f"secrets.token_bytes({KEY_BYTES})"
                )
        self._keys: dict[str, bytes] = dict(checked)
        self.current = next(iter(self._keys)) if current is None else current
        if self.current not in self._keys:
            raise ConfigurationError(
                f"current: there is no key {self.current!r}, only {', '.join(self._keys)}"
            )

    @classmethod
    def from_environment(cls, variable: str = "TASKITO_KEYS") -> KeyRing:
        """Read the keys from an environment variable; the first one writes.

        Args:
            variable: Holds ``name:key`` pairs with commas between them, each key in Base64.

        Raises:
            ConfigurationError: The variable is not set, or is malformed.

        Example:
            >>> os.environ["TASKITO_KEYS"] = "a:" + base64.b64encode(bytes(32)).decode()
            >>> KeyRing.from_environment().current
            'a'
        """
        text = os.environ.get(variable, "")
        if not text.strip():
            raise ConfigurationError(
                f"{variable} is not set; give name:key pairs with commas between, keys in Base64"
            )
        keys: dict[str, bytes] = {}
        for part in text.split(","):
            name, separator, encoded = part.strip().partition(":")
            if not separator or name in keys:
                reason = "occurs twice" if separator else "has no colon behind its name"
                raise ConfigurationError(f"{variable}: entry {len(keys) + 1} {reason}")
            try:
                keys[name] = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                raise ConfigurationError(f"{variable}: key {name!r} is not in Base64") from None
        return cls(keys)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all keys."""
        return tuple(self._keys)

    def derive(self, purpose: str) -> dict[str, bytes]:
        """Return a key of its own for each key of the ring, by name, for one purpose.

        Signing and encryption never share key material, though they may share a ring. This is the
        expand step of HKDF with SHA-256 (RFC 5869, section 2.3) for one block; the extract step is
        left out, since the keys are uniformly random (section 3.3).
        """
        info = f"taskito {purpose}".encode() + b"\x01"
        return {name: hmac.digest(key, info, "sha256") for name, key in self._keys.items()}

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self._keys)}; {self.current} writes>"
