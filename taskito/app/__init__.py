"""What an application holds: the queue, one module for each kind of thing that it can be asked."""

from __future__ import annotations

from taskito.app.queue import Queue

__all__ = ["Queue"]
