"""How the results of earlier steps become the first argument of a step.

A store hands over a flat row of results. The shape, which travels with the encoded arguments, says
how they belong together:

- None: one result;
- a number n: a list of n results;
- a list of shapes: a list, each item of its own shape;
- ``{"outcomes": shape}``: the same, but each result is a ``StepOutcome``.

Counts keep the payload of a chord small: ten thousand members take three bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from taskito.backends.params import JobInput, JobState
from taskito.errors import decode_error
from taskito.exceptions import SerializationError
from taskito.serializers.base import Serializer

__all__ = ["Shape", "StepOutcome", "first_argument", "of_members", "with_outcomes"]

Shape: TypeAlias = "int | list[Shape] | dict[str, Shape] | None"

_OUTCOMES = "outcomes"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """How a member of ``chord(..., allow_failures=True)`` ended.

    Attributes:
        job_id: The member's job.
        ok: Whether it succeeded.
        value: What it returned; None if it did not succeed.
        error: What went wrong, in one line; None if it succeeded.
    """

    job_id: str
    ok: bool
    value: Any = None
    error: str | None = None


def of_members(shapes: Sequence[Shape]) -> Shape:
    """Return the shape of a group from those of its members."""
    if all(shape is None for shape in shapes):
        return len(shapes)
    return list(shapes)


def with_outcomes(shape: Shape) -> Shape:
    """Return the shape in which every result comes with how its job ended."""
    return {_OUTCOMES: shape}


def first_argument(
    shape: Any, inputs: Sequence[JobInput], serializers: Mapping[str, Serializer]
) -> Any:
    """Put the results of earlier steps together.

    Args:
        shape: How they belong together.
        inputs: How these steps ended, in order.
        serializers: What results may be decoded with, by name.

    Raises:
        SerializationError: A result cannot be decoded, or shape and results do not fit.
    """
    take: Callable[[JobInput, Mapping[str, Serializer]], Any] = _value
    if isinstance(shape, Mapping):
        shape, take = shape[_OUTCOMES], _outcome
    rest = iter(inputs)
    try:
        argument = _fold(shape, rest, lambda item: take(item, serializers))
    except StopIteration:
        argument = None
        missing = True
    else:
        missing = next(rest, None) is not None
    if missing:
        raise SerializationError(
            f"the stored shape of the results does not fit the {len(inputs)} that came"
        )
    return argument


def _fold(shape: Any, rest: Iterator[JobInput], take: Callable[[JobInput], Any]) -> Any:
    if shape is None:
        return take(next(rest))
    if isinstance(shape, int):
        return [take(next(rest)) for _ in range(shape)]
    return [_fold(item, rest, take) for item in shape]


def _value(item: JobInput, serializers: Mapping[str, Serializer]) -> Any:
    if item.state is not JobState.COMPLETE or item.result is None or item.serializer is None:
        raise SerializationError(f"job {item.id} has no result: it is {item.state}")
    serializer = serializers.get(item.serializer)
    if serializer is None:
        raise SerializationError(
            f"the result of job {item.id} was encoded by serializer {item.serializer!r}, and this "
            f"worker accepts only {', '.join(sorted(serializers))}; add it to the queue's accept="
        )
    try:
        return serializer.loads(item.result)
    except Exception as error:
        raise SerializationError(
            f"the result of job {item.id} cannot be read by serializer {item.serializer!r}: {error}"
        ) from error


def _outcome(item: JobInput, serializers: Mapping[str, Serializer]) -> StepOutcome:
    if item.state is JobState.COMPLETE:
        return StepOutcome(job_id=item.id, ok=True, value=_value(item, serializers))
    error = item.reason or "no error is known"
    if item.error is not None:
        error = decode_error(item.error).summary or error
    return StepOutcome(job_id=item.id, ok=False, error=error)
