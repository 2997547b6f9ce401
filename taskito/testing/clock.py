"""A clock for tests, moved by hand."""

from __future__ import annotations

from taskito.backends.sqlite import VirtualClock

__all__ = ["VirtualClock"]
