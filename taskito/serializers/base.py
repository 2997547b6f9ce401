"""What every serializer is: a name that travels with the payload, and two functions."""

from __future__ import annotations

import abc

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
