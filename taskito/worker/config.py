"""What a worker is told about itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskito.config import check_boolean, check_choice, check_integer, check_names, check_seconds
from taskito.exceptions import ConfigurationError
from taskito.plugins.observing import Publisher
from taskito.resources import Definition
from taskito.serializers.base import Serializer
from taskito.worker.processes.application import Application

__all__ = ["POOLS", "WorkerConfig"]

POOLS = ("thread", "process", "async")
"""The kinds of executors that a worker can run plain functions with."""

DEFAULT_ASYNC_CONCURRENCY = 100
"""How many ``async def`` jobs are under way at a time unless told otherwise: most of them share
connections to something that does not want thousands."""

_MAX_CONCURRENCY = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """What a worker serves, with how many executors, and how it stops.

    Attributes:
        serializers: Those that payloads may be decoded with, by name. A payload of another one ends
            as a dead letter and its task does not run.
        serializer: The one that results are encoded with, unless the task names another one.
        decode_metadata: Turns stored metadata into a dict.
        queues: The queues to serve; None serves all.
        pool: What runs plain functions: "thread", or "process": each attempt in a child process,
            which can be killed alone. ``async def`` tasks run on the event loop, whatever this
            says; "async" only means that ``concurrency`` is theirs, and that plain functions get
            as many threads as there are CPUs.
        concurrency: Attempts of plain functions to run at a time; 0 means the number of CPUs.
        async_concurrency: Attempts of ``async def`` tasks to run at a time.
        drain_timeout: Seconds that running attempts get when the worker is asked to stop.
        lease: Seconds that a claim lasts without a renewal; the engine renews it in time.
        maintain_interval: Longest time in seconds between two steps of upkeep.
        owns_process: Whether the process is there for this worker only: then it is ended 2 seconds
            after ``drain_timeout``, whatever its threads are doing.
        handle_signals: Whether SIGTERM and Ctrl-C stop the worker, if it runs in the main thread.
        dead_letter_ttl: Seconds after which dead letters of the namespace are deleted; None: never.
        max_dead_letters: How many of them are kept; None keeps all.
        max_result_bytes: The largest encoded result.
        events: Where events go; None means that nobody observes them.
        originals: Returns the jobs that a job replays, nearest first.
        application: Where child processes find the tasks; needed by the process pool.
        max_tasks_per_child: After so many attempts a child process is replaced; None: never.
        max_memory_per_child: Bytes of resident memory. A child process that has more between
            attempts is replaced; one that has more during an attempt is killed, which fails the
            attempt. None: no limit.
        preload: Whether the application is imported once, in a process that all children are forked
            from.
        resources: What tasks may ask for, by name.

    Raises:
        ConfigurationError: A value is not allowed; the message names it.
    """

    serializers: Mapping[str, Serializer]
    serializer: Serializer
    decode_metadata: Callable[[bytes], dict[str, Any]]
    queues: tuple[str, ...] | None = None
    pool: str = "thread"
    concurrency: int = 0
    async_concurrency: int = DEFAULT_ASYNC_CONCURRENCY
    drain_timeout: float = 30.0
    lease: float = 30.0
    maintain_interval: float = 1.0
    owns_process: bool = False
    handle_signals: bool = True
    dead_letter_ttl: float | None = None
    max_dead_letters: int | None = None
    max_result_bytes: int = 1_048_576
    events: Publisher | None = None
    originals: Callable[[str], Iterable[str]] = lambda _job_id: ()
    application: Application | None = None
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    preload: bool = False
    resources: Mapping[str, Definition] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every value and fill in the number of CPUs."""
        if self.queues is not None:
            object.__setattr__(self, "queues", check_names("queues", self.queues))
        check_choice("pool", self.pool, POOLS)
        concurrency = check_integer("concurrency", self.concurrency, 0, 10_000)
        check_integer("async_concurrency", self.async_concurrency, 1, _MAX_CONCURRENCY)
        cpus = os.cpu_count() or 1
        if self.pool == "async" and concurrency:
            object.__setattr__(self, "async_concurrency", concurrency)
            concurrency = cpus
        object.__setattr__(self, "concurrency", concurrency or cpus)
        check_seconds("drain_timeout", self.drain_timeout)
        check_seconds("lease", self.lease, positive=True)
        check_seconds("maintain_interval", self.maintain_interval, positive=True)
        if self.dead_letter_ttl is not None:
            check_seconds("dead_letter_ttl", self.dead_letter_ttl)
        if self.max_dead_letters is not None:
            check_integer("max_dead_letters", self.max_dead_letters)
        check_integer("max_result_bytes", self.max_result_bytes, 1)
        self._check_children()
        if self.serializer.name not in self.serializers:
            raise ConfigurationError(
                f"serializers: {self.serializer.name!r}, which encodes the results, is missing"
            )

    def _check_children(self) -> None:
        if self.max_tasks_per_child is not None:
            check_integer("max_tasks_per_child", self.max_tasks_per_child, 1)
        if self.max_memory_per_child is not None:
            check_integer("max_memory_per_child", self.max_memory_per_child, 1)
        check_boolean("preload", self.preload)
        if self.pool == "process":
            if self.application is None:
                raise ConfigurationError("application: the process pool needs one")
            return
        for option in ("max_tasks_per_child", "max_memory_per_child", "preload"):
            if getattr(self, option) not in {None, False}:
                raise ConfigurationError(
                    f"{option}: {getattr(self, option)!r} needs pool='process'; pool "
                    f"{self.pool!r} has no child processes"
                )
