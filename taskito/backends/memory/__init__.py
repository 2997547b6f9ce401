"""A store in the memory of one process: the reference implementation of the seam.

Read it to learn what an operation promises. ``backend`` lists the operations, ``store`` holds the
data and what follows from each change of state; the other modules have one group of operations
each.
"""

from __future__ import annotations

from taskito.backends.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
