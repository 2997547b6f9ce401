"""The queue and its task. Both the producer and the workers import this module."""

from __future__ import annotations

import os
from pathlib import Path

from measure import ModuleFigures, measure_module

from taskito import Queue

__all__ = ["EVIDENCE", "MAX_RETRIES", "index_module", "queue"]

# Set by index_stdlib.py for itself and for the workers that it starts.
_FOLDER = Path(os.environ["INDEX_STDLIB_FOLDER"])
EVIDENCE = _FOLDER / "starts.txt"
MAX_RETRIES = 2

queue = Queue(db_path=_FOLDER / "tasks.db")


@queue.task(max_retries=MAX_RETRIES, retry_backoff=0.1)
def index_module(name: str) -> ModuleFigures:
    """Index one module of the standard library."""
    _record_start(name)
    return measure_module(name)


def _record_start(name: str) -> None:
    """Write down, outside the queue, that this process starts on a module.

    One write to a file opened for appending is never torn or lost, whoever else writes.
    """
    descriptor = os.open(EVIDENCE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{os.getpid()} {name}\n".encode())
    finally:
        os.close(descriptor)
