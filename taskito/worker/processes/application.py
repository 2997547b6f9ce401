"""Where a child process finds the tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from taskito.task import Task

__all__ = ["MAIN_MODULES", "Application"]

MAIN_MODULES = ("__main__", "__mp_main__")
"""What the module of a script is called, in the process that runs it and in its children."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What a child has to import, and how it knows that it has found everything.

    Attributes:
        entry: ``module:function`` that the child calls with the number of its descriptor.
        main: How to make the worker's main module again, as ``multiprocessing`` describes it, if a
            task or the queue is defined in it; else None.
        modules: What defines the tasks, in the order in which the worker's process imported it.
        place: Module and attribute that hold the queue, if a module does.
        tasks: The names of the tasks that must be there.
    """

    entry: str
    main: Mapping[str, str] | None
    modules: tuple[str, ...]
    place: tuple[str, str] | None
    tasks: tuple[str, ...]

    def packed(self) -> dict[str, Any]:
        """Return it as plain data for the pipe."""
        return asdict(self)

    @classmethod
    def unpacked(cls, data: Mapping[str, Any]) -> Application:
        """Return what ``packed`` made, after its way through the pipe."""
        place = data["place"]
        return cls(
            entry=data["entry"],
            main=data["main"],
            modules=tuple(data["modules"]),
            place=None if place is None else (place[0], place[1]),
            tasks=tuple(data["tasks"]),
        )

    def why_missing(self, task: Task[..., Any]) -> str:
        """Say why a child has not found a task, and what to do about it."""
        function = task.function
        module = getattr(function, "__module__", None)
        name = getattr(function, "__qualname__", "")
        if "<locals>" in name:
            return f"it is defined inside a function ({name}); define it at the top of a module"
        if module in MAIN_MODULES and self.main is None:
            return "it is defined in an interactive session; put it into a file"
        return (
            f"importing {module} does not define it; define it at the top of that module, and not "
            "under if __name__ == '__main__'"
        )
