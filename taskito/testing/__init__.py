"""Helpers for tests: a clock that a test moves, and the conformance kit for backends.

``VirtualClock`` replaces the clock of a store whose backend has the capability ``virtual_time``.
``taskito.testing.conformance`` holds any backend to the promises of the seam; it needs the extra
``taskito[testing]``.
"""

from __future__ import annotations

from taskito.testing.clock import VirtualClock

__all__ = ["VirtualClock"]
