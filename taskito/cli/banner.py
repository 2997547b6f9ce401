"""What a worker prints about itself when it starts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from taskito.cli.check import durability

if TYPE_CHECKING:
    from taskito.app import Queue
    from taskito.worker import WorkerConfig

__all__ = ["banner"]

_OWN = "taskito"


def banner(queue: Queue, config: WorkerConfig) -> dict[str, object]:
    """Return what a worker serves, and with what."""
    backend = queue.backend
    tasks = sorted(name for name, task in queue.tasks.items() if not task.is_remote)
    others = sorted(set(config.serializers) - {config.serializer.name})
    return {
        "backend": f"{backend.name} {getattr(backend, 'path', '')}".strip(),
        "durability": durability(queue),
        "queues": "all" if config.queues is None else list(config.queues),
        "tasks": tasks or "none: is the module that defines them imported?",
        "pool": config.pool,
        "concurrency": config.concurrency,
        "plugins": _plugins() or "none",
        "serializers": [config.serializer.name, *others],
        "pid": os.getpid(),
    }


def _plugins() -> list[str]:
    """Return the plugins that others have installed."""
    from taskito.plugins.manager import plugin_manager
    from taskito.plugins.types import PluginStatus

    return [
        f"{plugin.name} {plugin.version}"
        for plugin in plugin_manager().plugins()
        if plugin.distribution != _OWN and plugin.status is PluginStatus.ACTIVE
    ]
