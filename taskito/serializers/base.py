"""What every serializer is: a name that travels with the payload, and two functions."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable
from typing import Any, ClassVar

from taskito.serializers.context import PayloadContext

__all__ = ["Serializer"]


class Serializer(abc.ABC):
    """Turns task arguments and results into bytes and back.

    A subclass keeps four promises, for every input:

    * ``loads(dumps(value))`` equals ``value`` and has the same types at every level; a value for
      which that does not hold is refused by ``dumps``, never changed silently.
    * Both functions raise ``taskito.exceptions.SerializationError`` and no other exception.
    * Both end: no input makes them crash, hang or use memory without bound.
    * Both may be called from several threads at once.

    Attributes:
        name: Travels with every payload and result, so that a reader knows how to decode it. It is
            short, unique among the serializers of a queue, and never changes its meaning.
        contextual: Whether ``dumps_in`` and ``loads_in`` are called, with what is known about the
            job, in place of ``dumps`` and ``loads``.
        authenticates: Whether it refuses what was not made for the job where it stands. Then the
            queue chooses the ids of jobs before it encodes (the backend needs the capability
            ``given_ids``), and accepts no other serializer unless ``accept`` names it.

    Example:
        >>> class TextSerializer(Serializer):
        ...     name = "text"
        ...
        ...     def dumps(self, value: object) -> bytes:
        ...         if type(value) is not str:
        ...             raise SerializationError(f"cannot encode a {type(value).__name__}")
        ...         return value.encode("utf-8", "surrogatepass")
        ...
        ...     def loads(self, data: bytes | memoryview) -> object:
        ...         try:
        ...             return str(data, "utf-8", "surrogatepass")
        ...         except UnicodeDecodeError as error:
        ...             raise SerializationError("the payload is not UTF-8") from error
    """

    name: str
    contextual: ClassVar[bool] = False
    authenticates: ClassVar[bool] = False

    @abc.abstractmethod
    def dumps(self, value: object) -> bytes:
        """Encode a value.

        Args:
            value: What to encode.

        Returns:
            Bytes from which ``loads`` makes an equal value of the same types.

        Raises:
            SerializationError: The value cannot be encoded without a change; the message names the
                type and the place inside the value.
        """

    @abc.abstractmethod
    def loads(self, data: bytes | memoryview) -> object:
        """Decode what ``dumps`` made.

        Args:
            data: The encoded value; anything may be in it.

        Returns:
            The value.

        Raises:
            SerializationError: The bytes are not an encoded value of this serializer.
        """

    def dumps_in(self, value: object, context: PayloadContext) -> bytes:
        """Encode a value for the place where it will stand; by default as ``dumps`` does.

        Called in place of ``dumps`` if ``contextual`` is set.
        """
        del context
        return self.dumps(value)

    def loads_in(self, data: bytes | memoryview, context: PayloadContext) -> object:
        """Decode what was found at a place; by default as ``loads`` does.

        Called in place of ``loads`` if ``contextual`` is set.
        """
        del context
        return self.loads(data)

    def digest(self, value: object) -> bytes:
        """Return bytes that two values share exactly if they are equal.

        ``idempotent=True`` makes its key of it. A serializer that encodes one value in several ways
        overrides it.
        """
        return hashlib.sha256(self.dumps(value)).digest()

    def learn_task(  # noqa: B027
        self, name: str, function: Callable[..., Any], *, skip: int = 0
    ) -> None:
        """Take notice of a task whose calls and results this serializer encodes.

        Called when the task is registered, with its function, so that annotations can be used.

        Args:
            name: The task's name.
            function: Its function.
            skip: How many of its first parameters callers do not give; 1 with ``bind=True``.

        Raises:
            ConfigurationError: The function has something that this serializer cannot encode.
        """
