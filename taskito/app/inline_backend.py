"""A store in memory that runs what it is given, for ``Queue.test_mode``.

Each enqueue is followed by a miniature of a worker, which claims what it can, runs it where it is,
and settles it, until nothing is left. Time is not waited for: the clock of the store jumps to the
next due job.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskito.backends import BackendOptions, params
from taskito.backends.memory import MemoryBackend
from taskito.backends.params import ErrorKind
from taskito.connection import Connection
from taskito.exceptions import TaskitoError
from taskito.result import JobResult

if TYPE_CHECKING:
    from taskito.app.test_mode import Recorded, TestMode
    from taskito.worker.event_loop import ThreadLoop
    from taskito.worker.runner import OutcomeTypes, Runner

__all__ = ["InlineBackend"]

MAX_ATTEMPTS = 1_000
"""Attempts that one enqueue may lead to: a task that starts itself again would never end."""

_DAY_MS = 86_400_000


class InlineBackend(MemoryBackend):
    """A store that runs what it is given.

    Args:
        queue: Whose tasks are run.
        recorded: Takes down what was enqueued.

    Attributes:
        connection: The way of the queue to this store; set by whoever makes it.
    """

    connection: Connection

    def __init__(self, queue: TestMode, recorded: Recorded) -> None:
        self._clock = _JumpingClock()
        super().__init__("", BackendOptions(clock=self._clock))
        self._queue = queue
        self._recorded = recorded

    def enqueue(self, jobs: Sequence[params.NewJob]) -> list[params.Enqueued]:
        """Store a batch and run it."""
        answers = super().enqueue(jobs)
        for job, answer in zip(jobs, answers, strict=True):
            if not answer.duplicate:
                self._recorded.add(JobResult(self.connection, answer.id), job.task)
        self._run()
        return answers

    def replay(self, request: params.ReplayRequest) -> list[str | None]:
        """Store finished jobs again and run them."""
        answers = super().replay(request)
        for record in self.get([job_id for job_id in answers if job_id is not None]):
            if record is not None:
                self._recorded.add(JobResult(self.connection, record.id), record.task)
        self._run()
        return answers

    def resume(self, queue: str) -> None:
        """Resume a queue and run what has waited in it."""
        super().resume(queue)
        self._run()

    def _run(self) -> None:
        """Run all that can run; apart from the event loop of the caller, if there is one."""
        if not _in_event_loop():
            self._drain()
            return
        failed: list[BaseException] = []

        def drain() -> None:
            try:
                self._drain()
            except BaseException as error:  # noqa: BLE001 - raised where it was waited for
                failed.append(error)

        thread = threading.Thread(target=drain, name="taskito-test-mode")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]

    def _drain(self) -> None:
        from taskito.worker.event_loop import ThreadLoop

        # A worker of its own for each call: a task may enqueue, and wait for what it enqueued.
        known = self._queue._tasks  # noqa: SLF001 - a part of the queue
        tasks = {name: task for name, task in known.items() if not task.is_remote}
        worker = uuid.uuid4().hex
        runner = self._queue._make_runner(tasks, self, _outcomes(), worker)  # noqa: SLF001 - as above
        self.register(
            params.WorkerRegistration(
                id=worker,
                pid=os.getpid(),
                host="test mode",
                tasks=tuple(tasks),
                lease_ms=_DAY_MS * 10_000,
            )
        )
        loop = ThreadLoop()
        try:
            for _ in range(MAX_ATTEMPTS):
                job = self._claim(worker)
                if job is None:
                    return
                self._settle(worker, job, runner, loop)
        finally:
            runner.end_thread(loop)
            loop.close()
            runner.close()
            self.unregister(worker)
        raise TaskitoError(
            f"test mode has run {MAX_ATTEMPTS} attempts because of one call; a task enqueues or "
            f"snoozes itself without end"
        )

    def _claim(self, worker: str) -> params.ClaimedJob | None:
        """Claim the next job, letting the time pass until one is due."""
        while True:
            reply = self.exchange(params.ExchangeRequest(worker=worker, want=1))
            if reply.jobs:
                return reply.jobs[0]
            if reply.next_due_ms is None:
                return None
            self._clock.advance(max(1, reply.next_due_ms))

    def _settle(
        self, worker: str, job: params.ClaimedJob, runner: Runner, loop: ThreadLoop
    ) -> None:
        outcome = runner.run(_InlineRun(self, job), loop)
        settlement = params.Settlement(
            lease=job.lease, outcome=_stored(job, outcome), started_ago_ms=0
        )
        self.exchange(params.ExchangeRequest(worker=worker, settlements=(settlement,)))


# What the runner needs ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Success:
    result: bytes
    serializer: str


@dataclass(frozen=True, slots=True)
class _Failure:
    error: bytes
    kind: str
    retry: bool
    delay_ms: int | None


@dataclass(frozen=True, slots=True)
class _Snoozed:
    delay_ms: int


@dataclass(frozen=True, slots=True)
class _Aborted:
    reason: str


def _outcomes() -> OutcomeTypes:
    from taskito.worker.runner import OutcomeTypes

    return OutcomeTypes(_Success, _Failure, _Snoozed, _Aborted)  # type: ignore[arg-type]


def _stored(job: params.ClaimedJob, outcome: Any) -> params.Outcome:
    match outcome:
        case _Success(result, serializer):
            return params.OutcomeSuccess(result=result, serializer=serializer)
        case _Snoozed(delay_ms):
            return params.OutcomeSnooze(delay_ms=delay_ms)
        case _Aborted(reason):
            return params.OutcomeCancelled(reason=reason)
        case _Failure(error, kind, retry, delay_ms):
            if retry and job.attempt < job.max_retries:
                return params.OutcomeRetry(
                    error=error,
                    kind=ErrorKind(kind),
                    delay_ms=1_000 if delay_ms is None else delay_ms,
                )
            return params.OutcomeDead(error=error, kind=ErrorKind(kind))
    raise TypeError(f"{outcome!r} is not an outcome")


class _InlineRun:
    """One attempt, as a task sees it through ``current_job``."""

    def __init__(self, backend: MemoryBackend, job: params.ClaimedJob) -> None:
        self._backend = backend
        self._job = job
        self.id = job.lease.id
        self.token = job.lease.token
        self.task = job.task
        self.queue = job.queue
        self.metadata = job.metadata
        self.attempt = job.attempt
        self.max_retries = job.max_retries
        self.schedule = job.schedule
        self.fire_ms = job.fire_ms
        self.timeout_ms = job.timeout_ms
        self.payload = job.payload
        self.serializer = job.serializer
        self.inputs = job.inputs

    def cancel_requested(self) -> bool:
        """Whether somebody asked for the cancellation of this job."""
        [record] = self._backend.get([self.id])
        return record is not None and record.cancel_requested

    def abandoned(self) -> bool:
        """Whether the attempt is over; never while it is run where it was enqueued."""
        return False


class _JumpingClock:
    """The time of day, moved on by what was not waited for."""

    def __init__(self) -> None:
        self._jumped_ms = 0

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000 + self._jumped_ms

    def steady_ms(self) -> int:
        """Return milliseconds of a clock that nobody can set."""
        return time.monotonic_ns() // 1_000_000 + self._jumped_ms

    def advance(self, milliseconds: int) -> None:
        """Let so much time be over."""
        self._jumped_ms += milliseconds


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
