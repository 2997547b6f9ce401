"""What runs tasks: a dispatcher of the engine, and Python threads that take attempts from it.

- ``config``: what a worker is told.
- ``worker``: one worker from start to stop.
- ``runner``: one attempt, from its payload to its outcome.
- ``thread_executor``: the threads.
- ``observed``: a runner whose attempts plugins are told of.
- ``scheduled``: a worker whose scheduler is a plugin.
- ``progress``: progress and log lines on their way to the store.
- ``signals``: SIGTERM and Ctrl-C.
- ``state``: what a worker is doing, for whoever watches over it.

Nothing here knows ``Queue``: a worker takes a backend, the tasks and a ``WorkerConfig``.
"""

from __future__ import annotations

from taskito.worker.config import WorkerConfig
from taskito.worker.scheduled import ScheduledWorker
from taskito.worker.state import WorkerPhase, WorkerState
from taskito.worker.worker import Worker

__all__ = ["ScheduledWorker", "Worker", "WorkerConfig", "WorkerPhase", "WorkerState"]
