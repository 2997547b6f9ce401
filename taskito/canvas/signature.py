"""``Signature``: a call of a task that is not made yet, and what all parts of a workflow share."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from taskito.exceptions import ConfigurationError

if TYPE_CHECKING:
    from taskito.canvas.compose import Chain

__all__ = ["MAX_DEPTH", "Canvas", "Signature", "Submitter"]

MAX_DEPTH = 100
"""How deep workflows may be nested. A chain is one level, however long it is."""


class Submitter(Protocol):
    """Who stores workflows: a ``Queue``."""

    def submit_workflow(self, canvas: Canvas, on_error: Signature | None) -> Any:
        """Store all steps in one atom; return the job, or the jobs as lists, of the last step."""

    async def asubmit_workflow(self, canvas: Canvas, on_error: Signature | None) -> Any:
        """Do the same without blocking the event loop."""


class Canvas(abc.ABC):
    """A part of a workflow: a signature, or something put together from signatures.

    Parts are values: putting one into another changes neither.
    """

    __slots__ = ("__weakref__",)

    @property
    @abc.abstractmethod
    def depth(self) -> int:
        """How many levels it has; a signature has one."""

    @property
    @abc.abstractmethod
    def queue(self) -> Submitter | None:
        """The queue of its first task that belongs to one."""

    @abc.abstractmethod
    def to_data(self) -> dict[str, Any]:
        """Describe it with plain dicts, lists and the arguments, to be stored or sent.

        ``taskito.canvas.from_data`` makes it again.
        """

    def apply(self, queue: Submitter | None = None, *, on_error: Signature | None = None) -> Any:
        """Store all steps in one atom and return at once; workers do the rest.

        Args:
            queue: Where; None means the queue that the tasks belong to.
            on_error: Called once if the workflow fails, when all of its last steps have ended: with
                the id of the workflow as its first argument, unless it is immutable.

        Returns:
            The job of the last step; for a group, also one at the end of a chain, a list.

        Raises:
            TaskNotRegisteredError: A step is of a task that the queue does not know.
            ConfigurationError: An option of a step is not allowed; or no queue is known.
            SerializationError: The arguments of a step cannot be encoded, or are too large.
            CapabilityError: The backend cannot store workflows.
            StorageError: The workflow could not be stored. In every case nothing was stored.

        Example:
            >>> job = chain(fetch.s(url), parse.s()).apply()
            >>> job.result(timeout=10)
        """
        return self._submitter(queue).submit_workflow(self, on_error)

    async def apply_async(
        self, queue: Submitter | None = None, *, on_error: Signature | None = None
    ) -> Any:
        """Do what ``apply`` does without blocking the event loop."""
        return await self._submitter(queue).asubmit_workflow(self, on_error)

    def delay(self) -> Any:
        """Do what ``apply`` does."""
        return self.apply()

    def __or__(self, other: Canvas) -> Chain:
        """Return the chain of this and the other."""
        from taskito.canvas.compose import chain

        if not isinstance(other, Canvas):
            return NotImplemented
        return chain(self, other)

    def _submitter(self, queue: Submitter | None) -> Submitter:
        found = self.queue if queue is None else queue
        if found is None:
            raise ConfigurationError(
                "queue: no step belongs to a queue (there is none, or they were made from data); "
                "give queue="
            )
        return found


class Signature(Canvas):
    """One call of a task, to be made later. ``task.s(...)`` and ``task.si(...)`` make them.

    Attributes:
        task: The task's name.
        args: Positional arguments. The result of the step before comes in front of them, unless
            the signature is immutable.
        kwargs: Keyword arguments.
        options: Those of ``apply_async``, by name.
        immutable: Whether it leaves the result of the step before alone.

    Example:
        >>> add.s(2).set(priority=5, max_retries=0)
        Signature('shop.tasks.add', 2)
    """

    __slots__ = ("_queue", "args", "immutable", "kwargs", "options", "task")

    def __init__(
        self,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        queue: Submitter | None = None,
    ) -> None:
        self.task = task
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        self.options = dict(options or {})
        self.immutable = immutable
        self._queue = queue

    @property
    def depth(self) -> int:
        """One."""
        return 1

    @property
    def queue(self) -> Submitter | None:
        """The queue of its task; None if it was made from data."""
        return self._queue

    def set(self, **options: Any) -> Signature:
        """Return the same call with these options of ``apply_async`` in addition.

        Example:
            >>> add.s(1, 2).set(queue="slow", delay=60)
        """
        return self._with(options={**self.options, **options})

    def clone(self, args: Sequence[Any] = (), **kwargs: Any) -> Signature:
        """Return the same call with these arguments in front, and these keywords in addition."""
        return self._with(args=(*args, *self.args), kwargs={**self.kwargs, **kwargs})

    def to_data(self) -> dict[str, Any]:
        """Describe it with plain values."""
        return {
            "type": "signature",
            "task": self.task,
            "args": list(self.args),
            "kwargs": dict(self.kwargs),
            "options": dict(self.options),
            "immutable": self.immutable,
        }

    def _with(self, **changes: Any) -> Signature:
        fields = {
            "args": self.args,
            "kwargs": self.kwargs,
            "options": self.options,
            **changes,
        }
        return Signature(self.task, **fields, immutable=self.immutable, queue=self._queue)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and self.to_data() == other.to_data()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = [repr(self.task), *map(repr, self.args)]
        parts += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"Signature({', '.join(parts)})"
