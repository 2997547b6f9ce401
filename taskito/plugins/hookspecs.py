"""The hooks that a plugin can implement.

A plugin is a module, or any object, that a distribution names in the entry-point group
``taskito``::

    [project.entry-points.taskito]
    example = "taskito_example.plugin"

It marks its functions with ``taskito.hookimpl.hookimpl``. Plugins are loaded when they are needed
first, not when taskito is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from taskito.hookimpl import PROJECT_NAME
from taskito.plugins.types import BackendFactory, Scheduler, SerializerFactory

if TYPE_CHECKING:
    import click

__all__ = [
    "taskito_register_backends",
    "taskito_register_commands",
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
