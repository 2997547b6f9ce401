"""What the entry point names."""

from __future__ import annotations

from collections.abc import Iterable

from taskito.plugins import SerializerFactory, hookimpl
from taskito_msgspec.serializer import MsgspecSerializer

__all__ = ["taskito_register_serializers"]


@hookimpl
def taskito_register_serializers() -> Iterable[SerializerFactory]:
    """Offer the serializer ``msgspec``."""
    return [
        SerializerFactory(
            name=MsgspecSerializer.name,
            factory=MsgspecSerializer,
            description="Structs, dataclasses and pydantic models by annotation",
        )
    ]
