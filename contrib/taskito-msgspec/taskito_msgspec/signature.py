"""The annotations of a task, as decoders of its arguments and its result."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

from taskito import Resource
from taskito_msgspec.codec import Decoder

__all__ = ["Signature"]

_BY_POSITION = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
_BY_NAME = {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}


class Signature:
    """Finds the decoder of each argument of a call, and of the result.

    What has no annotation, or does not exist, is decoded as plain data.

    Args:
        function: The function of the task; None has no annotations.
        skip: How many of its first parameters callers do not give.

    Raises:
        NameError: An annotation names something that does not exist yet.
        TypeError: msgspec does not support an annotation.
    """

    def __init__(self, function: Callable[..., Any] | None = None, skip: int = 0) -> None:
        self._positional: list[tuple[str, Decoder]] = []
        self._keywords: dict[str, Decoder] = {}
        self._more_positional = self._more_keywords = self.result = _PLAIN
        if function is None:
            return
        hints = typing.get_type_hints(function, include_extras=True)
        for parameter in list(inspect.signature(function).parameters.values())[skip:]:
            decoder = _decoder(hints, parameter.name)
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                self._more_positional = decoder
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self._more_keywords = decoder
            if parameter.kind in _BY_POSITION:
                self._positional.append((parameter.name, decoder))
            if parameter.kind in _BY_NAME:
                self._keywords[parameter.name] = decoder
        self.result = _decoder(hints, "return")

    def positional(self, index: int) -> tuple[str, Decoder]:
        """Return how messages name a positional argument, and its decoder."""
        if index < len(self._positional):
            return self._positional[index]
        return f"argument {index}", self._more_positional

    def keyword(self, name: str) -> tuple[str, Decoder]:
        """Return the same for a keyword argument."""
        return name, self._keywords.get(name, self._more_keywords)

    def of_call(
        self, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> list[tuple[tuple[str, Decoder], Any]]:
        """Return each argument of a call with its name and decoder."""
        positional = [(self.positional(index), value) for index, value in enumerate(args)]
        return positional + [(self.keyword(name), value) for name, value in kwargs.items()]


_PLAIN = Decoder(Any)


def _decoder(hints: dict[str, Any], name: str) -> Decoder:
    if name not in hints:
        return _PLAIN
    kind = hints[name]
    if any(isinstance(item, Resource) for item in getattr(kind, "__metadata__", ())):
        return _PLAIN  # The worker passes it; what a caller passes instead is a stand-in.
    # A task that returns nothing may be annotated as such.
    return Decoder(None if kind is type(None) else kind)
