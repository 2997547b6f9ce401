"""A serializer for taskito that follows the annotations of tasks, with msgspec."""

from __future__ import annotations

from taskito_msgspec.serializer import MsgspecSerializer

__all__ = ["MsgspecSerializer"]
