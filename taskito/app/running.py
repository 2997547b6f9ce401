"""The workers that a queue runs in this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from taskito import config
from taskito.backends.params import NewSchedule
from taskito.connection import Connection
from taskito.exceptions import ConfigurationError
from taskito.middleware import FunctionHooks, Middleware
from taskito.plugins.events import WorkerStarted, WorkerStopped
from taskito.plugins.manager import plugin_manager
from taskito.plugins.observing import Publisher
from taskito.resources import Definition
from taskito.task import Task

if TYPE_CHECKING:
    from taskito.backends.base import Backend
    from taskito.context import ProgressSink
    from taskito.worker import ScheduledWorker, Worker, WorkerConfig
    from taskito.worker.runner import OutcomeTypes, Runner

    Monitor: TypeAlias = Callable[[Worker | ScheduledWorker], object]

__all__ = ["Running", "RunningWorker"]

_GRACE = 2.0
"""Seconds beyond the drain time after which a closing queue waits no longer for its workers."""


class RunningWorker:
    """One worker of a queue, from its making to its end."""

    def __init__(self, worker: Worker | ScheduledWorker, others: list[RunningWorker]) -> None:
        self.worker = worker
        self.ended = threading.Event()
        self.pid = os.getpid()
        self._others = others
        others.append(self)

    def run(self, monitor: Monitor | None = None) -> None:
        """Run the worker until it stops; ``monitor`` is called with it before."""
        worker, events = self.worker, self.worker.config.events
        error: BaseException | None = None
        try:
            if monitor is not None:
                monitor(worker)
            if events is not None:
                config = worker.config
                events.publish(
                    WorkerStarted(_now(), worker.id, self.pid, config.queues, config.concurrency)
                )
            worker.run()
        except BaseException as raised:
            error = raised
            raise
        finally:
            if events is not None:
                reason = None if error is None else f"{type(error).__name__}: {error}"
                events.publish(WorkerStopped(_now(), worker.id, self.pid, reason))
            self._others.remove(self)
            self.ended.set()


class Running:
    """The part of ``Queue`` that runs workers."""

    _connection: Connection
    _tasks: dict[str, Task[..., Any]]
    _events: Publisher | None
    _middleware: tuple[Middleware, ...]
    _hooks: FunctionHooks
    _resources: dict[str, Definition]
    _schedules: dict[str, NewSchedule]
    _worker_settings: dict[str, Any]
    # Changed by single list operations only: a lock could be held by another thread at a fork.
    _running: list[RunningWorker]

    def run_worker(
        self,
        queues: Iterable[str] | None = None,
        *,
        pool: str = "thread",
        concurrency: int | None = None,
        async_concurrency: int | None = None,
        drain_timeout: float | None = None,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | str | None = None,
        preload: bool = False,
        owns_process: bool = False,
        monitor: Monitor | None = None,
    ) -> None:
        """Run tasks until ``shutdown`` is called or a signal arrives; blocks.

        Works in the main thread and in any other. In the main thread the first SIGTERM or Ctrl-C
        stops gracefully: nothing new starts, and running attempts get ``drain_timeout`` to end. A
        second one stops at once. What did not end runs again elsewhere without using up an attempt.

        Args:
            queues: The queues to serve; None serves all.
            pool: What runs plain functions: "thread", or "process": each attempt in a child
                process, of which there are ``concurrency``; a child imports the modules that define
                the tasks. ``async def`` tasks run on one event loop, whatever this says. "async"
                means that ``concurrency`` is theirs; plain functions then get as many threads as
                there are CPUs.
            concurrency: Attempts of plain functions at a time; None means the queue's ``workers``,
                0 the number of CPUs.
            async_concurrency: Attempts of ``async def`` tasks at a time; None means 100.
            drain_timeout: Seconds; None means the queue's.
            max_tasks_per_child: Replace a child process after so many attempts; None: never.
            max_memory_per_child: Replace a child process that has more resident memory than this
                between attempts, and kill one that has more during an attempt, which fails it.
                Bytes, or a text such as "512M"; None: no limit.
            preload: Import the application once, in a process that all children are forked from.
            owns_process: Whether the process exists for this worker only. It is then ended 2
                seconds after the drain time, whatever its threads are doing.
            monitor: Called with the worker before it runs. Its ``state`` says what it is doing, and
                its ``watch_state(listener)`` tells of each change: for a health check of your own.

        Raises:
            ConfigurationError: An argument is not allowed.
            WorkerError: The worker had to stop; the message says why.
            StorageError: The store could not be used from the start.

        Example:
            >>> threading.Thread(target=queue.run_worker, daemon=True).start()
        """
        running = self._make_worker(
            queues,
            pool=pool,
            concurrency=concurrency,
            async_concurrency=async_concurrency,
            drain_timeout=drain_timeout,
            max_tasks_per_child=max_tasks_per_child,
            max_memory_per_child=max_memory_per_child,
            preload=preload,
            owns_process=owns_process,
        )
        running.run(monitor)

    def check_worker(self, queues: Iterable[str] | None = None, **options: Any) -> WorkerConfig:
        """Check all that ``run_worker`` would check, and start nothing.

        The store is opened, which creates it if it is missing, and asked whether it works; options,
        serializers, plugins and schedules are looked at. Nothing is registered or claimed.

        Args:
            queues: As for ``run_worker``.
            options: Those of ``run_worker``.

        Returns:
            What the worker would be told: its queues, pool, concurrency, serializers and so on.

        Raises:
            ConfigurationError: An argument is not allowed, or a task is not set up right.
            StorageError: The store cannot be used.
            CapabilityError: The store lacks what the application needs.

        Example:
            >>> queue.check_worker(concurrency=8)
        """
        backend = self._connection.backend
        backend.counts()
        if self._schedules:
            self._connection.require("schedules", "queue.periodic")
            backend.schedules()
        # Making it checks the rest; without a start it leaves no trace.
        running = self._make_worker(queues, **options)
        self._running.remove(running)
        return running.worker.config

    def shutdown(self) -> None:
        """Ask all workers that this queue runs in this process to stop; returns at once.

        Each ``run_worker`` returns when its running attempts have ended, or the drain time has.
        """
        for running in self._own_workers():
            running.worker.stop()

    def _originals(self, job_id: str) -> Iterator[str]:
        """Return the jobs that a job replays, nearest first."""
        seen = {job_id}
        while True:
            record = self._connection.backend.get([job_id])[0]
            if record is None or record.original_id is None or record.original_id in seen:
                return
            job_id = record.original_id
            seen.add(job_id)
            yield job_id

    def _own_workers(self) -> list[RunningWorker]:
        return [running for running in list(self._running) if running.pid == os.getpid()]

    def _stop_workers(self) -> None:
        """Stop the workers and wait for their end."""
        stopping = self._own_workers()
        self.shutdown()
        longest = max((one.worker.config.drain_timeout for one in stopping), default=0.0)
        deadline = time.monotonic() + longest + _GRACE
        for running in stopping:
            running.ended.wait(max(0.0, deadline - time.monotonic()))

    def _make_worker(
        self,
        queues: Iterable[str] | None,
        *,
        pool: str = "thread",
        concurrency: int | None = None,
        async_concurrency: int | None = None,
        drain_timeout: float | None = None,
        owns_process: bool = False,
        handle_signals: bool = True,
        **settings: Any,
    ) -> RunningWorker:
        from taskito.app.child import application_of, refuse_in_child
        from taskito.worker import ScheduledWorker, Worker

        refuse_in_child()
        given = {
            "concurrency": concurrency,
            "async_concurrency": async_concurrency,
            "drain_timeout": drain_timeout,
        }
        settings |= {name: value for name, value in given.items() if value is not None}
        if (memory := settings.get("max_memory_per_child")) is not None:
            settings["max_memory_per_child"] = config.check_bytes("max_memory_per_child", memory)
        if pool == "process":
            settings["application"] = application_of(self)  # type: ignore[arg-type] # a part of it
            if not self._connection.shared:
                raise ConfigurationError(
                    "pool: 'process' needs a store that child processes can reach, and "
                    f"{self._connection.description} is in the memory of this one"
                )
        worker_config = self._worker_config(
            queues=None if queues is None else config.check_names("queues", queues),
            pool=pool,
            owns_process=config.check_boolean("owns_process", owns_process),
            handle_signals=handle_signals,
            events=self._events,
            **settings,
        )
        plugins = plugin_manager()
        middleware = [*plugins.middleware(), *self._middleware, self._hooks]
        schedules = tuple(self._schedules.values())
        parts = (self._connection.backend, dict(self._tasks), worker_config, middleware, schedules)
        scheduler = plugins.scheduler()
        if scheduler is not None and pool != "thread":
            raise ConfigurationError(
                f"pool: {pool!r} does not go with a scheduler from a plugin ({scheduler!r}), which "
                "runs attempts in its own threads; use pool='thread'"
            )
        worker = Worker(*parts) if scheduler is None else ScheduledWorker(scheduler, *parts)
        return RunningWorker(worker, self._running)

    def _make_runner(
        self,
        tasks: dict[str, Task[..., Any]],
        backend: Backend,
        outcomes: OutcomeTypes,
        worker: str,
    ) -> Runner:
        """Make what runs attempts without a worker around it."""
        from taskito.worker.progress import BackendSink
        from taskito.worker.runner import Runner

        return Runner(
            tasks,
            self._worker_config(),
            outcomes,
            sink=BackendSink(backend),
            worker=worker,
            middleware=[*self._middleware, self._hooks],
        )

    def _make_child_runner(
        self,
        sink: ProgressSink,
        outcomes: OutcomeTypes,
        worker: str,
        originals: Callable[[str], Iterable[str]],
    ) -> Runner:
        """Make what runs attempts in a child process, for a worker in another one."""
        from taskito.worker.runner import Runner

        return Runner(
            self._tasks,
            self._worker_config(originals=originals),
            outcomes,
            sink=sink,
            worker=worker,
            middleware=[*plugin_manager().middleware(), *self._middleware, self._hooks],
        )

    def _worker_config(self, **settings: Any) -> WorkerConfig:
        from taskito.worker import WorkerConfig

        codec = self._connection.codec
        return WorkerConfig(
            serializers=codec.accepted,
            serializer=codec.serializer,
            decode_metadata=codec.decode_metadata,
            max_result_bytes=codec.max_payload_bytes,
            **{
                "originals": self._originals,
                "resources": dict(self._resources),
                **self._worker_settings,
                **settings,
            },
        )


def _now() -> int:
    return time.time_ns() // 1_000_000
