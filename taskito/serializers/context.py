"""What a serializer may be told about the payload that it encodes or decodes."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["PayloadContext", "PayloadKind"]


class PayloadKind(enum.StrEnum):
    """What a payload is."""

    CALL = "call"
    """The arguments of a job: ``[args, kwargs]``."""
    RESULT = "result"
    """What a task returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadContext:
    """Where a payload stands: of which job it is, and which part of it.

    While encoding it says where the payload shall stand, while decoding where it was found. The
    store is not trusted here: what it says about a job is what a serializer checks.

    Attributes:
        kind: Call or result.
        task: The task's name.
        job: The job's id; None if it is not known yet, which is so only while a call is encoded for
            a serializer that does not authenticate.
        run: The number of the attempt that returned a result; 0 for calls.
        origins: The jobs of which this one is a replay, nearest first. A replay has the payload of
            its original. Asked only if needed: it may read the store.

    Example:
        >>> PayloadContext(kind=PayloadKind.CALL, task="shop.add", job="0190...").run
        0
    """

    kind: PayloadKind
    task: str
    job: str | None = None
    run: int = 0
    origins: Iterable[str] = ()
