"""The queues of this process: a child of the process pool looks for the worker's one among them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskito.app.queue import Queue

__all__ = ["known_queues"]

known_queues: weakref.WeakSet[Queue] = weakref.WeakSet()
"""All that were made and are still used."""
