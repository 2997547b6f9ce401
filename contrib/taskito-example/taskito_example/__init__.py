"""An example of a taskito plugin: a backend that keeps its jobs in a plain directory.

Example:
    >>> from taskito import Queue
    >>> queue = Queue(backend="directory:///var/lib/jobs")  # doctest: +SKIP
"""

from __future__ import annotations

from taskito_example.backend import DirectoryBackend

__all__ = ["DirectoryBackend"]
