"""The frame around a signed or encrypted payload: who made it, and what it was made for.

Layout: the format (1 byte), then six parts, each behind its length (2 bytes, big-endian): the name
of the key, the kind, the task, the job, the run, and the proof (a signature or a nonce). The rest
is the body. Everything before the proof is readable, and authenticated.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from taskito.exceptions import SerializationError
from taskito.serializers.context import PayloadContext

__all__ = ["Claims", "Envelope"]

_FORMAT = b"\x01"
_LENGTH = struct.Struct(">H")
_FIELDS = 6
_UNBOUND = "value"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a payload was made for.

    Attributes:
        kind: "call", "result", or "value" for what was encoded without a context.
        task: The task's name, or empty.
        job: The job's id, or empty.
        run: The number of the attempt, or 0.
    """

    kind: str
    task: str = ""
    job: str = ""
    run: int = 0

    @classmethod
    def of(cls, context: PayloadContext | None) -> Claims:
        """Return what is claimed by a payload that is encoded in this context.

        Raises:
            SerializationError: The job's id is not known.
        """
        if context is None:
            return cls(_UNBOUND)
        if context.job is None:
            raise SerializationError(
                f"this call of task {context.task!r} cannot be bound to a job, since its id is not "
                f"known when it is encoded; use a serializer that does not authenticate for it"
            )
        return cls(context.kind.value, context.task, context.job, context.run)

    def check(self, context: PayloadContext | None) -> None:
        """Check that a payload with these claims may stand where it was found.

        Raises:
            SerializationError: It was made for another place; the message names both.
        """
        if context is None:
            expected = Claims(_UNBOUND)
        else:
            expected = Claims(context.kind.value, context.task, context.job or "", context.run)
        if self == expected:
            return
        moved = Claims(self.kind, self.task, expected.job, self.run)
        if context is not None and moved == expected and self.job in context.origins:
            return  # The call of a replay is that of its original.
        raise SerializationError(f"it was made for {self}, and was found at {expected}")

    def __str__(self) -> str:
        if self.kind == _UNBOUND:
            return "no job"
        run = f", run {self.run}" if self.run else ""
        return f"the {self.kind} of job {self.job} of task {self.task!r}{run}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with its frame, taken apart.

    Attributes:
        key: The name of the key.
        claims: What it was made for.
        proof: The signature, or the nonce.
        header: Everything that is authenticated beside the body.
        body: The inner payload, maybe encrypted.
    """

    key: str
    claims: Claims
    proof: bytes
    header: bytes
    body: bytes

    @staticmethod
    def header_of(key: str, claims: Claims) -> bytes:
        """Return the readable part."""
        texts = (key, claims.kind, claims.task, claims.job, str(claims.run))
        return _FORMAT + b"".join(_framed(text.encode()) for text in texts)

    @staticmethod
    def pack(header: bytes, proof: bytes, body: bytes) -> bytes:
        """Put the parts together."""
        return header + _framed(proof) + body

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Envelope:
        """Take a payload apart; nothing in it is checked yet.

        Raises:
            SerializationError: It has another form.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise SerializationError(f"a payload must be bytes, not {type(data).__name__}")
        raw = bytes(data)
        if raw[:1] != _FORMAT:
            raise SerializationError("it does not begin as one that this serializer made")
        fields: list[bytes] = []
        position = header_end = 1
        for _ in range(_FIELDS):
            header_end = position
            start = position + _LENGTH.size
            if start > len(raw):
                raise SerializationError("it is cut off")
            position = start + _LENGTH.unpack_from(raw, position)[0]
            if position > len(raw):
                raise SerializationError("it is cut off")
            fields.append(raw[start:position])
        try:
            key, kind, task, job, run = (field.decode() for field in fields[:-1])
            claims = Claims(kind, task, job, int(run[:20]))
        except ValueError:
            raise SerializationError("its header is damaged") from None
        return cls(key, claims, fields[-1], raw[:header_end], raw[position:])


def _framed(part: bytes) -> bytes:
    return _LENGTH.pack(len(part)) + part
