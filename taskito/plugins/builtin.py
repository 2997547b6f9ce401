"""What taskito ships, offered through the same hooks as a stranger's plugin.

Everything is named by a string and imported when it is asked for: a worker on SQLite never loads
the memory store, and nothing here reaches up to the command line until somebody uses it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from taskito.backends.base import BACKEND_API, Backend, BackendOptions
from taskito.hookimpl import hookimpl
from taskito.plugins.types import BackendFactory, SerializerFactory
from taskito.serializers.base import Serializer

if TYPE_CHECKING:
    import click

__all__ = ["BUILTIN_PLUGINS"]


def resolve(target: str) -> Any:
    """Import what ``"package.module:attribute.attribute"`` names."""
    module, _, attributes = target.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    return found


class BackendPlugin:
    """Offers one backend class, whose ``from_url`` makes the backend."""

    def __init__(self, scheme: str, target: str, description: str) -> None:
        self.scheme = scheme
        self.target = target
        self.description = description

    @hookimpl
    def taskito_register_backends(self) -> Iterable[BackendFactory]:
        """Offer the backend."""
        return [
            BackendFactory(
                scheme=self.scheme,
                factory=self._make,
                description=self.description,
                api=BACKEND_API,
            )
        ]

    def _make(self, url: str, options: BackendOptions) -> Backend:
        make: Callable[[str, BackendOptions], Backend] = resolve(self.target)
        return make(url, options)


class SerializerPlugin:
    """Offers one serializer class."""

    def __init__(self, name: str, target: str, description: str) -> None:
        self.name = name
        self.target = target
        self.description = description

    @hookimpl
    def taskito_register_serializers(self) -> Iterable[SerializerFactory]:
        """Offer the serializer."""
        return [SerializerFactory(name=self.name, factory=self._make, description=self.description)]

    def _make(self) -> Serializer:
        make: Callable[[], Serializer] = resolve(self.target)
        return make()


class CommandsPlugin:
    """Offers the commands of the ``taskito`` command line."""

    def __init__(self, target: str) -> None:
        self.target = target

    @hookimpl
    def taskito_register_commands(self) -> Iterable[click.Command]:
        """Offer the commands."""
        commands: Iterable[click.Command] = resolve(self.target)
        return commands


BUILTIN_PLUGINS: dict[str, object] = {
    "sqlite": BackendPlugin(
        "sqlite",
        "taskito.backends.sqlite:SqliteBackend.from_url",
        "One SQLite file, the default: sqlite:///tasks.db",
    ),
    "memory": BackendPlugin(
        "memory",
        "taskito.backends.memory:MemoryBackend.from_url",
        "The memory of this process: memory:// or memory://name",
    ),
    "msgpack": SerializerPlugin(
        "msgpack",
        "taskito.serializers.msgpack:MsgpackSerializer",
        "Compact and typed, the default",
    ),
    "json": SerializerPlugin(
        "json",
        "taskito.serializers.json:JsonSerializer",
        "Readable by everything; refuses what JSON would change",
    ),
    "pickle": SerializerPlugin(
        "pickle",
        "taskito.serializers.pickle:PickleSerializer",
        "Any Python object; reading it can run code, so a worker has to allow it",
    ),
    "commands": CommandsPlugin("taskito.cli.commands:COMMANDS"),
}
"""The plugins that taskito ships, by name; loaded before all others, in this order."""
