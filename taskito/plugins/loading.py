"""Finding plugins and registering them, one by one and guarded.

pluggy's own loader stops at the first entry point that cannot be imported. Here each is loaded on
its own: a broken one is named in one warning and left out, and everything else goes on.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType

import pluggy

from taskito.deprecation import TaskitoDeprecationWarning
from taskito.hookimpl import PROJECT_NAME
from taskito.plugins import hookspecs
from taskito.plugins.builtin import BUILTIN_PLUGINS
from taskito.plugins.tracing import trace
from taskito.plugins.types import PLUGIN_API, PluginInfo, PluginStatus, PluginWarning

__all__ = ["APPLICATION", "DISABLED_VARIABLE", "LoadedPlugin", "Loader", "disabled_by_environment"]

DISABLED_VARIABLE = "TASKITO_DISABLED_PLUGINS"
"""Names of plugins that are not loaded, separated by commas."""

APPLICATION = "this application"
"""Stands for the distribution of a plugin that no package offers."""

_UNKNOWN = "unknown"


@dataclass(slots=True)
class LoadedPlugin:
    """What is known about one plugin while the process runs."""

    name: str
    distribution: str
    version: str
    status: PluginStatus = PluginStatus.ACTIVE
    hooks: tuple[str, ...] = ()
    reasons: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """How messages name it."""
        if self.distribution == APPLICATION:
            return f"plugin {self.name!r} of {APPLICATION}"
        return f"plugin {self.name!r} of {self.distribution} {self.version}"

    def complain(self, reason: str) -> None:
        """Warn, once for each reason, that a part of this plugin is left out."""
        if reason not in self.reasons:
            self.reasons.append(reason)
            trace(f"{self.title}: {reason}")
            warnings.warn(f"{self.title}: {reason}", PluginWarning, stacklevel=2)

    def leave_out(self, reason: str) -> None:
        """Warn that this plugin is left out as a whole."""
        self.status = PluginStatus.BROKEN
        self.hooks = ()
        self.complain(f"left out: {reason}")

    def info(self) -> PluginInfo:
        """Return what listings show."""
        return PluginInfo(
            name=self.name,
            distribution=self.distribution,
            version=self.version,
            hooks=self.hooks,
            status=self.status,
            reason="; ".join(self.reasons) or None,
        )


def disabled_by_environment() -> frozenset[str]:
    """Return the names in ``TASKITO_DISABLED_PLUGINS``."""
    names = os.environ.get(DISABLED_VARIABLE, "").split(",")
    return frozenset(name.strip() for name in names if name.strip())


class Loader:
    """Fills a pluggy manager: what taskito ships first, then entry points in the order of names.

    Args:
        entry_points: What to load instead of the installed entry points of the group ``taskito``.
        disabled: Names to leave alone instead of those in ``TASKITO_DISABLED_PLUGINS``.
        added: Plugins of the application itself, by name; loaded last.
        specifications: The module or object with the hooks that exist.
    """

    def __init__(
        self,
        entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
        disabled: Iterable[str] | None = None,
        added: Mapping[str, object] = MappingProxyType({}),
        specifications: ModuleType | type = hookspecs,
    ) -> None:
        self.pluggy = pluggy.PluginManager(PROJECT_NAME)
        self.pluggy.add_hookspecs(specifications)
        self._added = added
        self.plugins: dict[str, LoadedPlugin] = {}
        self.refused: list[LoadedPlugin] = []
        """Plugins whose name another one has."""
        self._entry_points = entry_points
        self._disabled = disabled_by_environment() if disabled is None else frozenset(disabled)

    def load(self) -> None:
        """Load and register everything; never raises because of a plugin."""
        version = _own_version()
        for name, plugin in BUILTIN_PLUGINS.items():
            known = LoadedPlugin(name, PROJECT_NAME, version)
            if self._admit(known):
                self._register(known, plugin)
        found: Iterable[importlib.metadata.EntryPoint]
        if self._entry_points is None:
            found = importlib.metadata.entry_points(group=PROJECT_NAME)
        else:
            found = self._entry_points
        for entry_point in sorted(found, key=lambda entry: (entry.name, entry.value)):
            self._load_one(entry_point)
        for name, plugin in self._added.items():
            known = LoadedPlugin(name, APPLICATION, _UNKNOWN)
            if self._admit(known):
                self._register(known, plugin)

    def _load_one(self, entry_point: importlib.metadata.EntryPoint) -> None:
        distribution = entry_point.dist
        known = LoadedPlugin(
            entry_point.name,
            distribution.name if distribution is not None else _UNKNOWN,
            distribution.version if distribution is not None else _UNKNOWN,
        )
        if not self._admit(known):
            return
        try:
            plugin = entry_point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is a stranger's code
            known.leave_out(f"{entry_point.value!r} cannot be loaded: {_describe(error)}")
            return
        self._register(known, plugin)

    def _admit(self, known: LoadedPlugin) -> bool:
        """Note a plugin; return whether its code is to be loaded."""
        holder = self.plugins.get(known.name)
        if holder is not None:
            self.refused.append(known)
            known.leave_out(f"its name is taken by the {holder.title}")
            return False
        self.plugins[known.name] = known
        if known.name in self._disabled:
            known.status = PluginStatus.DISABLED
            known.reasons.append(f"disabled by {DISABLED_VARIABLE}")
            trace(f"{known.title}: disabled by {DISABLED_VARIABLE}")
            return False
        return True

    def _register(self, known: LoadedPlugin, plugin: object) -> None:
        wrong = _wrong_version(plugin)
        if wrong is not None:
            known.leave_out(wrong)
            return
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", TaskitoDeprecationWarning)
                self.pluggy.register(plugin, name=known.name)
        except Exception as error:  # noqa: BLE001 - wrong arguments, or properties that raise
            self._unregister(known.name)
            known.leave_out(_describe(error))
            return
        for warning in caught:
            # pluggy knows the hook, not whose plugin it is.
            told = warning.message
            if isinstance(told, TaskitoDeprecationWarning):
                told = TaskitoDeprecationWarning(f"{known.title}: {told}")
            warnings.warn(told, stacklevel=2)
        callers = self.pluggy.get_hookcallers(plugin) or []
        known.hooks = tuple(sorted(caller.name for caller in callers))
        reason = None
        unknown = [caller.name for caller in callers if not caller.has_spec()]
        if unknown:
            close = difflib.get_close_matches(unknown[0], hookspecs.__all__, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            reason = f"there is no hook {unknown[0]!r}{hint}"
        elif not callers:
            reason = "it implements no hook; mark its functions with taskito.hookimpl.hookimpl"
        if reason is not None:
            self._unregister(known.name)
            known.leave_out(reason)
        else:
            trace(f"{known.title}: implements {', '.join(known.hooks)}")

    def _unregister(self, name: str) -> None:
        if self.pluggy.has_plugin(name):
            self.pluggy.unregister(name=name)


def _wrong_version(plugin: object) -> str | None:
    """Return why a plugin was written for other hooks than these, or None if it was not."""
    try:
        version = getattr(plugin, "PLUGIN_API", PLUGIN_API)
    except Exception as error:  # noqa: BLE001 - it is a stranger's object
        return f"its PLUGIN_API cannot be read: {_describe(error)}"
    if version == PLUGIN_API:
        return None
    older = "the plugin" if isinstance(version, int) and version < PLUGIN_API else "taskito"
    return (
        f"it was written for version {version!r} of the hooks, this taskito has version "
        f"{PLUGIN_API}; install a newer version of {older}"
    )


def _describe(error: BaseException) -> str:
    """Return an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _own_version() -> str:
    try:
        return importlib.metadata.version(PROJECT_NAME)
    except importlib.metadata.PackageNotFoundError:
        return _UNKNOWN
