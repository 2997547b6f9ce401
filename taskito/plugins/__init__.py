"""Plugins: backends, serializers, commands and schedulers that come from other distributions.

A plugin marks functions with ``hookimpl`` and is named in the entry-point group ``taskito``. The
hooks are in ``taskito.plugins.hookspecs``. A complete plugin::

    # taskito_example/plugin.py;  [project.entry-points.taskito]  example = "taskito_example.plugin"
    from taskito.plugins import SerializerFactory, hookimpl

    @hookimpl
    def taskito_register_serializers():
        return [SerializerFactory(name="text", factory=TextSerializer)]
"""

from __future__ import annotations

from taskito.hookimpl import hookimpl
from taskito.plugins.types import (
    PLUGIN_API,
    BackendFactory,
    PluginInfo,
    PluginStatus,
    PluginWarning,
    Scheduler,
    SerializerFactory,
)

__all__ = [
    "PLUGIN_API",
    "BackendFactory",
    "PluginInfo",
    "PluginStatus",
    "PluginWarning",
    "Scheduler",
    "SerializerFactory",
    "hookimpl",
]
