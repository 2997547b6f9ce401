"""From a canvas to its steps: which job waits for which, and what it takes from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from taskito.backends.params import Condition, Dependency
from taskito.canvas.compose import Chain, Chord, Group
from taskito.canvas.shape import Shape, of_members, with_outcomes
from taskito.canvas.signature import Canvas, Signature

__all__ = ["Handle", "Plan", "Step", "plan", "results"]

Handle: TypeAlias = "int | list[Handle]"
"""The index of a step, or the lists of a group."""


@dataclass(frozen=True, slots=True)
class Step:
    """One job of a workflow.

    Attributes:
        signature: The call.
        depends_on: What it waits for, as indexes of earlier steps.
        takes_input: Whether results of earlier steps become its first argument.
        shape: How they belong together.
    """

    signature: Signature
    depends_on: tuple[Dependency, ...] = ()
    takes_input: bool = False
    shape: Shape = None


@dataclass(slots=True)
class Plan:
    """The steps of a workflow; each depends on earlier ones only.

    Attributes:
        handle: The last step or steps, which the caller gets.
        last: The same as one row of indexes.
    """

    steps: list[Step] = field(default_factory=list)
    handle: Handle = field(default_factory=list)
    last: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Feed:
    """What a part hands to the next.

    Attributes:
        steps: The steps whose results it consists of.
        shape: How these belong together.
        condition: How they have to end.
        order: What the next part waits for beside them.
    """

    steps: tuple[int, ...]
    shape: Shape
    handle: Handle
    condition: Condition = Condition.SUCCESS
    order: tuple[Dependency, ...] = ()


def plan(canvas: Canvas, on_error: Signature | None = None) -> Plan:
    """Lay out the steps of a workflow.

    Args:
        canvas: The workflow. How deep it may be nested is bounded, so this may recurse.
        on_error: A last step that runs if one of those before it fails.
    """
    made = Plan()
    feed = _add(made, canvas, None, ())
    made.handle, made.last = feed.handle, feed.steps
    if on_error is not None:
        edges = tuple(Dependency(job=step, condition=Condition.FAILURE) for step in feed.steps)
        if edges:
            made.steps.append(Step(on_error, edges))
    return made


def _add(made: Plan, canvas: Canvas, feed: _Feed | None, order: tuple[Dependency, ...]) -> _Feed:
    if isinstance(canvas, Chain):
        for step in canvas.steps:
            feed = _add(made, step, feed, order)
            order = ()
        if feed is not None:
            return feed
    elif isinstance(canvas, Group):
        return _add_group(made, canvas, feed, order)
    elif isinstance(canvas, Chord):
        header = _add_group(made, canvas.header, feed, order)
        if canvas.allow_failures:
            header = _Feed(
                header.steps,
                with_outcomes(header.shape),
                header.handle,
                Condition.ALWAYS,
                header.order,
            )
        return _add(made, canvas.callback, header, ())
    elif isinstance(canvas, Signature):
        return _add_step(made, canvas, feed, order)
    raise TypeError(f"{canvas!r} is no part of a workflow")


def _add_step(
    made: Plan, signature: Signature, feed: _Feed | None, order: tuple[Dependency, ...]
) -> _Feed:
    index = len(made.steps)
    takes_input = feed is not None and not signature.immutable
    edges = order
    if feed is not None:
        inputs = _edges(feed.steps, feed.condition, takes_input)
        edges = (*inputs, *feed.order, *order)
    shape = feed.shape if feed is not None and takes_input else None
    made.steps.append(Step(signature, edges, takes_input, shape))
    return _Feed((index,), None, index)


def _add_group(
    made: Plan, group: Group, feed: _Feed | None, order: tuple[Dependency, ...]
) -> _Feed:
    feeds: list[_Feed] = []
    lines = group.max_concurrency
    for number, member in enumerate(group.members):
        behind: tuple[Dependency, ...] = ()
        if lines is not None and number >= lines:
            before = feeds[number - lines]
            behind = (*_edges(before.steps, Condition.ALWAYS, False), *before.order)
        feeds.append(_add(made, member, feed, (*order, *behind)))
    if not feeds and feed is not None:
        # Nothing to run, but what follows still comes after what was before.
        order = (*_edges(feed.steps, feed.condition, False), *feed.order, *order)
    return _Feed(
        tuple(step for member in feeds for step in member.steps),
        of_members([member.shape for member in feeds]),
        [member.handle for member in feeds],
        # Of members that are empty groups, the order; of an empty group, what came before it.
        order=tuple(edge for member in feeds for edge in member.order) if feeds else order,
    )


def _edges(steps: Sequence[int], condition: Condition, input: bool) -> tuple[Dependency, ...]:
    return tuple(Dependency(job=step, condition=condition, input=input) for step in steps)


def results(handle: Handle, jobs: Sequence[Any]) -> Any:
    """Put the jobs of steps in the place of their indexes."""
    if isinstance(handle, int):
        return jobs[handle]
    return [results(item, jobs) for item in handle]
