"""The typed door to all plugins.

Nothing is loaded before something is asked for. Hooks are called plugin by plugin, so that one that
raises, or returns nonsense, is named in a warning and does not keep the others from being heard.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskito.backends.base import BACKEND_API
from taskito.exceptions import ConfigurationError
from taskito.middleware import Middleware
from taskito.plugins.events import Event
from taskito.plugins.loading import LoadedPlugin, Loader
from taskito.plugins.tracing import traced
from taskito.plugins.types import (
    BackendFactory,
    PluginInfo,
    PluginStatus,
    Scheduler,
    SerializerFactory,
)

if TYPE_CHECKING:
    import click

__all__ = ["Offer", "PluginManager", "plugin_manager"]

T = TypeVar("T")

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


@dataclass(frozen=True, slots=True)
class Offer(Generic[T]):
    """Something that a plugin offers, how messages name that plugin, and its distribution."""

    item: T
    plugin: str
    distribution: str


class PluginManager:
    """What all plugins together offer. Safe to use from several threads.

    Args:
        entry_points: What to load instead of the installed entry points of the group ``taskito``.
        disabled: Names to leave alone instead of those in ``TASKITO_DISABLED_PLUGINS``.

    Example:
        >>> sorted(PluginManager(entry_points=[]).backends())
        ['memory', 'sqlite']
    """

    def __init__(
        self,
        entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
        disabled: Iterable[str] | None = None,
    ) -> None:
        self._entry_points = entry_points
        self._disabled = disabled
        self._added: dict[str, object] = {}
        self._loader: Loader | None = None
        self._backends: Mapping[str, Offer[BackendFactory]] | None = None
        self._serializers: Mapping[str, Offer[SerializerFactory]] | None = None
        self._commands: Mapping[str, Offer[click.Command]] | None = None
        self._lock = threading.RLock()

    def add(self, name: str, plugin: object) -> None:
        """Add a plugin that no package offers, such as a module of the application.

        Args:
            name: What listings and ``TASKITO_DISABLED_PLUGINS`` call it.
            plugin: A module or an object with hook implementations.

        Raises:
            ConfigurationError: The plugins are loaded already: a queue was made, or something else
                was asked of them.

        Example:
            >>> plugin_manager().add("audit", taskito_audit)
        """
        with self._lock:
            if self._loader is not None:
                raise ConfigurationError(
                    f"name: plugin {name!r} comes too late, the plugins are loaded; add it before "
                    f"the first Queue is made"
                )
            self._added[name] = plugin

    def backends(self) -> Mapping[str, Offer[BackendFactory]]:
        """Return what is offered for each scheme."""
        with self._lock:
            if self._backends is None:
                self._backends = self._collect(
                    "taskito_register_backends",
                    BackendFactory,
                    "scheme",
                    _bad_scheme,
                    _other_backend_api,
                )
            return self._backends

    def serializers(self) -> Mapping[str, Offer[SerializerFactory]]:
        """Return the serializer that is offered under each name."""
        with self._lock:
            if self._serializers is None:
                self._serializers = self._collect(
                    "taskito_register_serializers", SerializerFactory, "name", _bad_name
                )
            return self._serializers

    def commands(self) -> Mapping[str, Offer[click.Command]]:
        """Return the command that is offered under each name."""
        import click

        with self._lock:
            if self._commands is None:
                self._commands = self._collect(
                    "taskito_register_commands", click.Command, "name", _bad_name
                )
            return self._commands

    def scheduler(self) -> Scheduler | None:
        """Ask for a scheduler; None means the native dispatcher."""
        for plugin, call in self._implementations("taskito_register_scheduler"):
            result = _guarded(plugin, "taskito_register_scheduler", call)
            if isinstance(result, Scheduler):
                return result
            if result is not None:
                plugin.complain(
                    f"taskito_register_scheduler returned {result!r}, "
                    "which lacks run(worker) or stop()"
                )
        return None

    def middleware(self) -> list[Middleware]:
        """Ask for the middleware of a new worker."""
        hook = "taskito_register_middleware"
        found: list[Middleware] = []
        for plugin, call in self._implementations(hook):
            for item in _guarded(plugin, hook, functools.partial(_as_list, call)) or ():
                if isinstance(item, Middleware):
                    found.append(item)
                else:
                    plugin.complain(f"{hook} returned {item!r}, which is no Middleware")
        return found

    def observers(self) -> list[tuple[str, Callable[[Sequence[Event]], object]]]:
        """Return who wants to know of events: how messages name it, and its hook."""
        return [(plugin.title, call) for plugin, call in self._implementations("taskito_on_events")]

    def plugins(self) -> list[PluginInfo]:
        """Return every plugin, also those that were left out, in the order of loading.

        Calls the hooks that register something, so that what is wrong with them shows.
        """
        with self._lock:
            self.backends()
            self.serializers()
            self.commands()
            loader = self._loaded()
            return [plugin.info() for plugin in (*loader.plugins.values(), *loader.refused)]

    def _loaded(self) -> Loader:
        with self._lock:
            if self._loader is None:
                loader = Loader(self._entry_points, self._disabled, self._added)
                loader.load()
                self._loader = loader
            return self._loader

    def _implementations(self, hook: str) -> Iterator[tuple[LoadedPlugin, Callable[..., Any]]]:
        """Return who implements a hook, in the order of loading."""
        loader = self._loaded()
        found = {
            implementation.plugin_name: implementation.function
            for implementation in getattr(loader.pluggy.hook, hook).get_hookimpls()
        }
        for name, plugin in loader.plugins.items():
            if name in found and plugin.status is PluginStatus.ACTIVE:
                yield plugin, found[name]

    def _collect(
        self,
        hook: str,
        kind: type[T],
        key_field: str,
        problem: Callable[[object], str | None],
        unusable: Callable[[T], str | None] = lambda _item: None,
    ) -> Mapping[str, Offer[T]]:
        """Call a hook of every plugin and gather what they return; the first of a name wins.

        What is unusable is kept, after a warning: whoever asks for it shall hear the reason.
        """
        offers: dict[str, Offer[T]] = {}
        for plugin, call in self._implementations(hook):
            for item in _guarded(plugin, hook, functools.partial(_as_list, call)) or ():
                if not isinstance(item, kind):
                    plugin.complain(f"{hook} returned {item!r}, which is no {kind.__name__}")
                    continue
                key = getattr(item, key_field)
                reason = problem(key)
                if reason is None and key in offers:
                    reason = f"is offered by the {offers[key].plugin} already"
                if reason is not None:
                    plugin.complain(f"{key_field} {key!r} is refused: it {reason}")
                    continue
                reason = unusable(item)
                if reason is not None:
                    plugin.complain(f"{key_field} {key!r} cannot be used: it {reason}")
                offers[key] = Offer(item, plugin.title, plugin.distribution)
        return MappingProxyType(offers)


@functools.cache
def plugin_manager() -> PluginManager:
    """Return the manager of this process."""
    return PluginManager()


def _as_list(call: Callable[[], Iterable[Any]]) -> list[Any]:
    """Exhaust what a hook returns, which may be a generator, while its errors are caught."""
    return list(call())


def _guarded(plugin: LoadedPlugin, hook: str, call: Callable[[], Any]) -> Any:
    """Call a plugin's hook; None if it raises, after a warning."""
    try:
        return traced(plugin.title, hook, call)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is a stranger's code
        plugin.complain(f"{hook} raised {type(error).__name__}: {error}")
        return None


def _bad_scheme(scheme: object) -> str | None:
    if not isinstance(scheme, str) or not _SCHEME.fullmatch(scheme):
        return "is not made of lower-case letters, digits, '+', '-' and '.', a letter first"
    return None


def _other_backend_api(factory: BackendFactory) -> str | None:
    if factory.api is None or factory.api == BACKEND_API:
        return None
    return f"is for BACKEND_API {factory.api!r}, this taskito has {BACKEND_API}"


def _bad_name(name: object) -> str | None:
    return None if isinstance(name, str) and name else "is not a name"
