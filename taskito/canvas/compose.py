"""Chains, groups and chords."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskito.canvas.signature import MAX_DEPTH, Canvas, Signature, Submitter
from taskito.config import check_integer
from taskito.exceptions import ConfigurationError

if TYPE_CHECKING:
    from taskito.task import Task

__all__ = ["Chain", "Chord", "Group", "chain", "chord", "chunks", "from_data", "group", "starmap"]


class _Composite(Canvas):
    """Something that has parts."""

    __slots__ = ("_depth", "_queue")

    def __init__(self, parts: Sequence[Canvas], name: str) -> None:
        for index, part in enumerate(parts):
            if not isinstance(part, Canvas):
                raise ConfigurationError(
                    f"{name}: part {index} is {part!r}; give signatures (task.s(...)), chains, "
                    f"groups or chords"
                )
        self._depth = 1 + max((part.depth for part in parts), default=0)
        if self._depth > MAX_DEPTH:
            raise ConfigurationError(
                f"{name}: it is nested more than {MAX_DEPTH} levels deep; a chain may have any "
                f"number of steps on one level"
            )
        queues = (part.queue for part in parts)
        self._queue = next((queue for queue in queues if queue is not None), None)

    @property
    def depth(self) -> int:
        """One more than the deepest part."""
        return self._depth

    @property
    def queue(self) -> Submitter | None:
        """The queue of the first part that belongs to one."""
        return self._queue

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.to_data() == other.to_data()

    __hash__ = None  # type: ignore[assignment]


class Chain(_Composite):
    """Steps one after the other; see ``chain``.

    Attributes:
        steps: The steps, chains among them dissolved.
    """

    __slots__ = ("steps",)

    def __init__(self, steps: Sequence[Canvas]) -> None:
        super().__init__(steps, "chain")
        flat: list[Canvas] = []
        for step in steps:
            flat += step.steps if isinstance(step, Chain) else (step,)
        if not flat:
            raise ConfigurationError("chain: it has no steps; give at least one signature")
        self.steps: tuple[Canvas, ...] = tuple(flat)
        self._depth = 1 + max(step.depth for step in flat)

    def to_data(self) -> dict[str, Any]:
        """Describe it with plain values."""
        return {"type": "chain", "steps": [step.to_data() for step in self.steps]}

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.steps))


class Group(_Composite):
    """Members side by side; see ``group``.

    Attributes:
        members: The members, in order.
        max_concurrency: How many run at a time; None means any number.
    """

    __slots__ = ("max_concurrency", "members")

    def __init__(self, members: Sequence[Canvas], max_concurrency: int | None = None) -> None:
        super().__init__(members, "group")
        self.members: tuple[Canvas, ...] = tuple(members)
        self.max_concurrency = (
            None
            if max_concurrency is None
            else check_integer("max_concurrency", max_concurrency, minimum=1)
        )

    def to_data(self) -> dict[str, Any]:
        """Describe it with plain values."""
        return {
            "type": "group",
            "members": [member.to_data() for member in self.members],
            "max_concurrency": self.max_concurrency,
        }

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        return f"group({', '.join(map(repr, self.members))})"


class Chord(_Composite):
    """A group and what happens to its results; see ``chord``.

    Attributes:
        header: The group.
        callback: Gets the list of results.
        allow_failures: Whether it gets a ``StepOutcome`` for each, however they end.
    """

    __slots__ = ("allow_failures", "callback", "header")

    def __init__(self, header: Group, callback: Canvas, *, allow_failures: bool = False) -> None:
        super().__init__((header, callback), "chord")
        self.header = header
        self.callback = callback
        self.allow_failures = allow_failures

    def to_data(self) -> dict[str, Any]:
        """Describe it with plain values."""
        return {
            "type": "chord",
            "header": self.header.to_data(),
            "callback": self.callback.to_data(),
            "allow_failures": self.allow_failures,
        }

    def __repr__(self) -> str:
        return f"chord({self.header!r}, {self.callback!r})"


def chain(*steps: Canvas) -> Chain:
    """Run steps one after the other; each gets the result of the one before as first argument.

    Every result is passed on, None as well. A group in a chain hands the list of its results to the
    next step, as a chord does. ``a | b`` is the same as ``chain(a, b)``.

    Args:
        steps: Signatures, groups, chords or chains; one list of them is taken, too.

    Example:
        >>> chain(add.s(2, 3), double.s()).apply().result(timeout=10)
        10
    """
    return Chain(_listed(steps))


def group(*members: Canvas, max_concurrency: int | None = None) -> Group:
    """Run members side by side. ``apply()`` returns a list, a job for each.

    Args:
        members: Signatures, chains, groups or chords; one list of them is taken, too.
        max_concurrency: So many lines: member n does not start before member
            ``n - max_concurrency`` has ended, however it ends.

    Example:
        >>> jobs = group(add.s(n, n) for n in range(3)).apply()
        >>> [job.result(timeout=10) for job in jobs]
        [0, 2, 4]
    """
    return Group(_listed(members), max_concurrency)


def chord(
    header: Group | Iterable[Canvas], callback: Canvas, *, allow_failures: bool = False
) -> Chord:
    """Run a group, and then the callback with the list of results, in the order of the group.

    If a member fails, the callback is cancelled; the other members run on.

    Args:
        header: A group, or its members.
        callback: A signature or anything else; its first steps get the list.
        allow_failures: Run the callback however the members end, with a list of ``StepOutcome``.

    Example:
        >>> chord(group(add.s(n, n) for n in range(3)), total.s()).apply().result(timeout=10)
        6
    """
    members = header if isinstance(header, Group) else Group(_listed((header,)))
    return Chord(members, callback, allow_failures=allow_failures)


def chunks(task: Task[..., Any], items: Iterable[Any], size: int) -> Group:
    """Cut items into pieces: a group of one job per piece, which gets the piece as a list.

    Celery's ``chunks`` calls the task once per item instead.

    Args:
        task: Its first parameter takes a list.
        items: Anything to go through.
        size: Items per piece; the last one may have fewer.

    Example:
        >>> jobs = chunks(store_rows, rows, 500).apply()
    """
    size = check_integer("size", size, minimum=1)
    whole = list(items)
    return Group([task.s(whole[start : start + size]) for start in range(0, len(whole), size)])


def starmap(task: Task[..., Any], args_list: Iterable[Iterable[Any]]) -> Group:
    """Call a task with each tuple of arguments: a group of one job per tuple.

    Celery's ``starmap`` makes all calls in one job instead.

    Example:
        >>> jobs = starmap(add, [(1, 2), (3, 4)]).apply()
    """
    return Group([task.s(*args) for args in args_list])


def from_data(data: Mapping[str, Any]) -> Canvas:
    """Make what ``to_data`` described; ``apply`` then needs ``queue=``.

    Raises:
        ConfigurationError: It is not such a description.

    Example:
        >>> from_data(chain(add.s(1, 2), double.s()).to_data()).apply(queue)
    """
    try:
        return _from_data(data, 0)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"data: this describes no workflow: {error!r}") from error


def _from_data(data: Mapping[str, Any], level: int) -> Canvas:
    if level > MAX_DEPTH:
        raise ConfigurationError(f"data: it is nested more than {MAX_DEPTH} levels deep")
    level += 1
    match data["type"]:
        case "signature":
            return Signature(
                data["task"],
                data["args"],
                data["kwargs"],
                data["options"],
                immutable=data["immutable"],
            )
        case "chain":
            return Chain([_from_data(step, level) for step in data["steps"]])
        case "group":
            members = [_from_data(member, level) for member in data["members"]]
            return Group(members, data["max_concurrency"])
        case "chord":
            header = _from_data(data["header"], level)
            if isinstance(header, Group):
                callback = _from_data(data["callback"], level)
                return Chord(header, callback, allow_failures=data["allow_failures"])
    raise ConfigurationError(f"data: {data['type']!r} is no part of a workflow")


def _listed(parts: Sequence[Any]) -> list[Any]:
    """Take parts one by one, or as one list, tuple or generator."""
    if len(parts) == 1 and not isinstance(parts[0], Canvas) and isinstance(parts[0], Iterable):
        return list(parts[0])
    return list(parts)
