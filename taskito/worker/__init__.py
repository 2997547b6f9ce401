"""What runs tasks: a dispatcher of the engine, and executors that take attempts from it.

- ``config``: what a worker is told.
- ``worker``: one worker from start to stop.
- ``runner``: one attempt, from its payload to its outcome.
- ``attempt``: what it runs: a task as it needs it, and one attempt that is ready to be called.
- ``executor``: what the worker expects of an executor.
- ``thread_executor``: threads, for plain functions.
- ``processes``: child processes in their place.
- ``loop_executor``, ``loop_watchdog``: an event loop, for ``async def`` tasks, and who watches it.
- ``event_loop``: the loop of a thread whose function returned a coroutine.
- ``soft_timeout``: ``SoftTimeoutError`` in a thread or a coroutine.
- ``batching``: jobs that wait for each other and run in one call.
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
