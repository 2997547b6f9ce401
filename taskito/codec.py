"""Arguments, results and metadata to bytes and back, with the serializers that a queue allows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from taskito.config import check_metadata
from taskito.exceptions import ConfigurationError, PayloadTooLargeError, SerializationError
from taskito.plugins.serializers import get_serializer
from taskito.serializers.base import Serializer
from taskito.serializers.context import PayloadContext, PayloadKind

__all__ = ["Codec"]

_ALWAYS_ACCEPTED = ("msgpack", "json")


class Codec:
    """What a queue encodes with, what it decodes, and how large a payload may be.

    Args:
        serializer: The default one: a name, or an object.
        accept: What may be decoded, names or objects; None means the default one, msgpack and json,
            and the default one alone if it authenticates: whoever could put a plain payload in the
            place of a signed one would need no key. The default one is always accepted, pickle only
            if it is that or is named.
        max_payload_bytes: The largest encoded payload.

    Raises:
        ConfigurationError: A serializer does not exist; the message lists those that do.
    """

    def __init__(
        self,
        serializer: str | Serializer,
        accept: Iterable[str | Serializer] | None,
        max_payload_bytes: int,
    ) -> None:
        self._serializers: dict[str, Serializer] = {}
        self.serializer = self.find("serializer", serializer)
        if accept is not None and (isinstance(accept, str) or not isinstance(accept, Iterable)):
            raise ConfigurationError(
                f"accept: {accept!r} is not allowed; give a list of serializers"
            )
        usual = () if self.serializer.authenticates else _ALWAYS_ACCEPTED
        others = usual if accept is None else tuple(accept)
        names = (self.find("accept", other).name for other in others)
        self.accept: tuple[str, ...] = tuple(dict.fromkeys((self.serializer.name, *names)))
        self.max_payload_bytes = max_payload_bytes
        self._metadata = get_serializer("msgpack")

    def find(self, field: str, serializer: str | Serializer) -> Serializer:
        """Return a serializer by its name, or the object itself.

        Raises:
            ConfigurationError: It does not exist, or another object has its name already.
        """
        if isinstance(serializer, Serializer):
            known = self._serializers.setdefault(serializer.name, serializer)
            if known is not serializer:
                raise ConfigurationError(
                    f"{field}: {serializer!r} has the name {serializer.name!r}, which this queue "
                    f"uses for {known!r}; give it a name of its own"
                )
            return serializer
        if not isinstance(serializer, str):
            raise ConfigurationError(
                f"{field}: {serializer!r} is not allowed; give the name of a serializer, or one"
            )
        if serializer not in self._serializers:
            self._serializers[serializer] = get_serializer(serializer)
        return self._serializers[serializer]

    def accepted_serializer(self, serializer: str | Serializer) -> Serializer:
        """Return the serializer that a task names.

        Raises:
            ConfigurationError: It does not exist, or this queue does not accept it.
        """
        found = self.find("serializer", serializer)
        if found.name not in self.accept:
            raise ConfigurationError(
                f"serializer: {found.name!r} is not accepted by this queue, which accepts "
                f"{', '.join(self.accept)}; add it to accept= of the Queue"
            )
        return found

    @property
    def accepted(self) -> dict[str, Serializer]:
        """The serializers that may be decoded, by name."""
        return {name: self._serializers[name] for name in self.accept}

    def encode_call(
        self,
        serializer: Serializer,
        task: str,
        args: list[Any],
        kwargs: dict[str, Any],
        *,
        job: str | None = None,
        shape: Sequence[Any] = (),
    ) -> bytes:
        """Encode the arguments of a call, and the shape of the results that it takes, if it does.

        Args:
            serializer: One of this codec's.
            task: The task's name.
            args: The positional arguments.
            kwargs: The keyword arguments.
            job: The job's id, if it was chosen already.
            shape: How the results that it takes are nested; one item, or none if it takes none.

        Raises:
            SerializationError: An argument cannot be encoded.
            PayloadTooLargeError: They are larger than ``max_payload_bytes``.
        """
        call = [args, kwargs, *shape]
        if serializer.contextual:
            context = PayloadContext(kind=PayloadKind.CALL, task=task, job=job)
            payload = serializer.dumps_in(call, context)
        else:
            payload = serializer.dumps(call)
        if len(payload) > self.max_payload_bytes:
            raise PayloadTooLargeError(
                f"the arguments of task {task!r} take {len(payload)} bytes, max_payload_bytes is "
                f"{self.max_payload_bytes}; pass a reference to the data (a path, a key) instead"
            )
        return payload

    def encode_metadata(self, field: str, metadata: object) -> bytes | None:
        """Encode metadata; None and nothing in it are the same.

        Raises:
            ConfigurationError: It is not a dict with texts as keys.
            SerializationError: A value cannot be encoded.
            PayloadTooLargeError: It is larger than ``max_payload_bytes``.
        """
        if metadata is None:
            return None
        checked = check_metadata(field, metadata)
        if not checked:
            return None
        encoded = self._metadata.dumps(checked)
        if len(encoded) > self.max_payload_bytes:
            raise PayloadTooLargeError(
                f"{field} takes {len(encoded)} bytes, max_payload_bytes is {self.max_payload_bytes}"
            )
        return encoded

    def decode_metadata(self, data: bytes | None) -> dict[str, Any]:
        """Decode metadata into a new dict; empty if there is none."""
        if data is None:
            return {}
        metadata = self._metadata.loads(data)
        if not isinstance(metadata, dict):
            raise SerializationError(f"the stored metadata is a {type(metadata).__name__}, no dict")
        return metadata

    def decode(self, data: bytes, serializer: str, context: PayloadContext) -> Any:
        """Decode a payload or a result.

        Args:
            data: The bytes.
            serializer: The name of the serializer that is said to have made them.
            context: Where they were found.

        Raises:
            SerializationError: The serializer is not accepted here, or the bytes are damaged, or
                were made for another place.
        """
        if serializer not in self.accept:
            raise SerializationError(
                f"this was encoded by serializer {serializer!r}, and this queue accepts only "
                f"{', '.join(self.accept)}; add it to accept= if you trust whoever wrote it"
            )
        found = self._serializers[serializer]
        return found.loads_in(data, context) if found.contextual else found.loads(data)
