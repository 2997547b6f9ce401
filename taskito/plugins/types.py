"""What plugins hand over: small frozen dataclasses, and what a scheduler has to be."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from taskito.backends.base import Backend, BackendOptions
from taskito.serializers.base import Serializer

__all__ = [
    "PLUGIN_API",
    "BackendFactory",
    "PluginInfo",
    "PluginStatus",
    "PluginWarning",
    "Scheduler",
    "SerializerFactory",
]


PLUGIN_API = 1
"""The version of the hooks. It grows when a hook changes so that old plugins would break.

A plugin may say which version it was written for, with a literal number named ``PLUGIN_API`` in the
module or object that its entry point names; another number leaves it out, with a message."""


class PluginWarning(UserWarning):
    """A plugin, or a part of it, was left out; the message names it, its version and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendFactory:
    """How to make a backend for the URLs of one scheme.

    Attributes:
        scheme: What stands before ``://``: lower-case letters, digits, ``+``, ``-`` and ``.``.
        factory: Called with the whole URL and the options of the queue. It returns a backend that
            is not open yet, and raises ``ConfigurationError`` for a URL that it cannot use.
        description: One line for listings.
        api: The ``BACKEND_API`` for which the backend was written, as a literal number, so that a
            mismatch is found before the backend is used. None skips the check.
    """

    scheme: str
    factory: Callable[[str, BackendOptions], Backend]
    description: str = ""
    api: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SerializerFactory:
    """How to make a serializer.

    Attributes:
        name: The name by which queues choose it; equal to the ``name`` of what ``factory`` makes.
        factory: Called without arguments.
        description: One line for listings.
    """

    name: str
    factory: Callable[[], Serializer]
    description: str = ""


@runtime_checkable
class Scheduler(Protocol):
    """Decides when the jobs of a worker run, in place of the native dispatcher."""

    def run(self, worker: Any) -> None:
        """Serve ``worker`` until ``stop`` is called; blocks."""

    def stop(self) -> None:
        """Ask ``run`` to return; called from another thread."""


class PluginStatus(enum.StrEnum):
    """What became of a plugin."""

    ACTIVE = "active"
    DISABLED = "disabled"
    """Blocked by ``TASKITO_DISABLED_PLUGINS``; its code was not loaded."""
    BROKEN = "broken"
    """Left out; ``PluginInfo.reason`` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One line of ``taskito plugins``.

    Attributes:
        name: The name of its entry point; it is what ``TASKITO_DISABLED_PLUGINS`` takes.
        distribution: The installed distribution it comes from.
        version: The version of that distribution, or "unknown".
        hooks: The names of the hooks that it implements, sorted.
        reason: Why it, or a part of it, was left out.
    """

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    status: PluginStatus
    reason: str | None = None
