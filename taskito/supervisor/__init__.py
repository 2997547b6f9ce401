"""What keeps workers running, and tells others how they are.

- ``supervisor``: the parent of several worker processes; ``slot``, ``child``, ``backoff`` and
  ``rolling`` are its parts, ``requests`` what it is asked for.
- ``channel``: how it and its workers talk.
- ``monitor``: the same for the worker of this process.
- ``health``, ``notify``: what orchestrators and systemd are told.
- ``reload``: restarts when the code changes.

Nothing here opens a store or imports an application: a supervisor stays small, and outlives both.
"""

from __future__ import annotations

from taskito.supervisor.channel import Channel
from taskito.supervisor.child import Child
from taskito.supervisor.health import Health, HealthServer, WorkerHealth
from taskito.supervisor.monitor import Monitor
from taskito.supervisor.notify import Notifier
from taskito.supervisor.reload import Reloader
from taskito.supervisor.requests import Request
from taskito.supervisor.supervisor import Supervisor

__all__ = [
    "Channel",
    "Child",
    "Health",
    "HealthServer",
    "Monitor",
    "Notifier",
    "Reloader",
    "Request",
    "Supervisor",
    "WorkerHealth",
]
