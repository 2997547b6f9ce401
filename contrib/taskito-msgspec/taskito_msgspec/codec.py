"""Values to MessagePack and back, where a type says what comes back."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Decoder", "encode"]


def encode(value: object) -> bytes:
    """Encode a value; pydantic models as the dict of their fields."""
    return _ENCODER.encode(value)


class Decoder:
    """Decodes values of one type."""

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind, dec_hook=_from_builtin)

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        """Decode a value; raises ``msgspec.MsgspecError`` if it is not of the type."""
        return self._decoder.decode(data)


def _to_builtin(value: Any) -> Any:
    dump = getattr(type(value), "model_dump", None)
    if dump is None:
        raise NotImplementedError(f"a {type(value).__name__} cannot be encoded")
    return dump(value, round_trip=True)


def _from_builtin(kind: Any, value: Any) -> Any:
    validate = getattr(kind, "model_validate", None)
    if validate is None:
        raise NotImplementedError(f"{kind!r} is not supported as an annotation")
    return validate(value)


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_to_builtin)
