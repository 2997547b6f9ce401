"""The hooks that a plugin can implement.

A plugin is a module, or any object, that a distribution names in the entry-point group
``taskito``::

    [project.entry-points.taskito]
    example = "taskito_example.plugin"

It marks its functions with ``taskito.hookimpl.hookimpl``. Plugins are loaded when they are needed
first, not when taskito is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pluggy

from taskito.hookimpl import PROJECT_NAME
from taskito.middleware import Middleware
from taskito.plugins.events import Event
from taskito.plugins.types import BackendFactory, Scheduler, SerializerFactory

if TYPE_CHECKING:
    import click

__all__ = [
    "taskito_on_events",
    "taskito_register_backends",
    "taskito_register_commands",
    "taskito_register_middleware",
    "taskito_register_scheduler",
    "taskito_register_serializers",
]

hookspec = pluggy.HookspecMarker(PROJECT_NAME)


@hookspec
def taskito_register_backends() -> Iterable[BackendFactory]:  # type: ignore[empty-body]
    """Offer backends by the scheme of their URL.

    Called once per process, when the first backend is opened by URL or the plugins are listed. The
    factory itself is called only for a URL of its scheme, so import the store's driver in there.

    Returns:
        One ``BackendFactory`` for each scheme. A scheme that another plugin offers already is
        refused with a warning; what taskito itself ships comes first.

    Example:
        >>> @hookimpl
        ... def taskito_register_backends():
        ...     yield BackendFactory(
        ...         scheme="example",
        ...         factory=ExampleBackend.from_url,
        ...         description="Jobs in an example store",
        ...         api=1,
        ...     )
    """


@hookspec
def taskito_register_serializers() -> Iterable[SerializerFactory]:  # type: ignore[empty-body]
    """Offer serializers by name.

    Called once per process, when the first serializer is looked up by name or the plugins are
    listed. The factory is called each time a queue or worker asks for that name.

    Returns:
        One ``SerializerFactory`` for each name. A name that is taken is refused with a warning.

    Example:
        >>> @hookimpl
        ... def taskito_register_serializers():
        ...     return [SerializerFactory(name="text", factory=TextSerializer)]
    """


@hookspec(firstresult=True)
def taskito_register_scheduler() -> Scheduler | None:
    """Replace the native dispatcher by a scheduler of your own.

    Called each time a worker starts, plugins in the order of their names. Stops at the first result
    that is not None. Hardly anybody needs this: the native dispatcher serves every backend.

    ``worker`` is a ``taskito.worker.ScheduledWorker``.

    Returns:
        A fresh object with ``run(worker)`` and ``stop()``, or None to leave the choice to others.

    Example:
        >>> @hookimpl
        ... def taskito_register_scheduler():
        ...     return RoundRobinScheduler() if os.environ.get("ROUND_ROBIN") else None
    """


@hookspec
def taskito_register_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Add commands to the ``taskito`` command line.

    Called once, when the command line starts or the plugins are listed.

    Returns:
        Click commands or groups, each with a name of its own. A name that is taken is refused with
        a warning.

    Example:
        >>> @hookimpl
        ... def taskito_register_commands():
        ...     return [export]
    """


@hookspec
def taskito_register_middleware() -> Iterable[Middleware]:  # type: ignore[empty-body]
    """Run code around every attempt of every worker.

    Called each time a worker is made. The middleware of plugins comes before that of the
    application, plugins in the order of their names. Whoever only wants to know what happens uses
    ``taskito_on_events``, which cannot slow a job down.

    Returns:
        ``Middleware`` objects, or an empty list.

    Example:
        >>> @hookimpl
        ... def taskito_register_middleware():
        ...     return [RestoreTraceContext()]
    """


@hookspec
def taskito_on_events(events: Sequence[Event]) -> None:
    """Take notice of what happened to jobs, workers and queues.

    Called with batches, on a thread of its own for each plugin, some 50 milliseconds after the
    first event of a batch; never on the thread of a job. The events of one job in one process come
    in order. A hook that raises is named in the log, and the next batch is delivered all the same.
    One that is too slow loses events when 10,000 are waiting for it; they are counted.

    Args:
        events: What happened; see ``taskito.plugins.events``.

    Returns:
        None; the result is ignored.

    Example:
        >>> @hookimpl
        ... def taskito_on_events(events):
        ...     for event in events:
        ...         if isinstance(event, JobDead):
        ...             print(event.task, event.error)
    """
