"""A worker whose scheduler comes from a plugin, in place of the native dispatcher."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from taskito.backends import params
from taskito.backends.base import Backend
from taskito.backends.params import ClaimedJob, ErrorKind, NewSchedule, Settlement
from taskito.config import to_milliseconds
from taskito.exceptions import WorkerError
from taskito.middleware import Middleware
from taskito.plugins.types import Scheduler
from taskito.task import Task, TaskOptions
from taskito.worker.config import WorkerConfig
from taskito.worker.event_loop import ThreadLoop
from taskito.worker.observed import ObservedRunner
from taskito.worker.progress import BackendSink
from taskito.worker.registration import registration
from taskito.worker.runner import OutcomeTypes, Runner
from taskito.worker.signals import StopSignals
from taskito.worker.state import StateHolder, WorkerPhase, WorkerState

if TYPE_CHECKING:
    from taskito import _core

__all__ = ["ScheduledWorker"]

_logger = logging.getLogger("taskito.worker")

_JITTER_MS = 500


class ScheduledWorker:
    """What a ``Scheduler`` serves: it claims, performs and settles, when and how it likes.

    The scheduler calls ``backend.register(worker.registration)``, then ``backend.exchange`` to
    claim, ``worker.perform`` for each job, ``backend.exchange`` with what that returns, and in the
    end ``backend.unregister``. Renewing leases and calling ``backend.maintain`` is up to it, too.

    Args:
        scheduler: Serves this worker.
        backend: An open backend.
        tasks: The tasks by name; remote ones are left out.
        config: As for ``Worker``.
        middleware: As for ``Worker``.
        schedules: As for ``Worker``.

    Attributes:
        id: The worker's id.
        backend: As given.
        config: As given.
        registration: How the worker announces itself.

    Example:
        >>> class OneByOne:
        ...     def run(self, worker):
        ...         worker.backend.register(worker.registration)
        ...         ...
    """

    def __init__(  # noqa: PLR0917 - as Worker
        self,
        scheduler: Scheduler,
        backend: Backend,
        tasks: Mapping[str, Task[..., Any]],
        config: WorkerConfig,
        middleware: Sequence[Middleware] = (),
        schedules: Sequence[NewSchedule] = (),
    ) -> None:
        self.id = uuid.uuid4().hex
        self.backend = backend
        self.config = config
        self._scheduler = scheduler
        self._states = StateHolder()
        known = {name: task for name, task in tasks.items() if not task.is_remote}
        self._options = {name: task.options for name, task in known.items()}
        self._schedules = tuple(schedules)
        self.registration = registration(self.id, known, config, self._schedules)
        self._sink = BackendSink(backend)
        self._thread: int | None = None
        self._loop = ThreadLoop()
        # What the runner makes is looked at here only; the dispatcher's classes are not needed.
        outcomes = OutcomeTypes(_Success, _Failure, _Snoozed, _Aborted)  # type: ignore[arg-type]
        keywords: dict[str, Any] = {
            "sink": self._sink,
            "worker": self.id,
            "middleware": middleware,
        }
        if config.events is None:
            self._runner = Runner(known, config, outcomes, **keywords)
        else:
            self._runner = ObservedRunner(config.events, known, config, outcomes, **keywords)

    def run(self) -> None:
        """Let the scheduler serve this worker; blocks until it returns."""
        if self._schedules:
            self.backend.put_schedules(self._schedules)
        self._thread = threading.get_ident()
        with contextlib.ExitStack() as stack:
            if self.config.handle_signals:
                stack.enter_context(StopSignals(self._first_signal, _second_signal))
            self._states.become(WorkerPhase.READY, "the scheduler of a plugin runs")
            stack.callback(
                self._states.become, WorkerPhase.STOPPED, "the scheduler of a plugin has returned"
            )
            stack.callback(self._sink.stop)
            stack.callback(self._runner.close)
            stack.callback(self._end_own_thread)
            self._scheduler.run(self)

    def stop(self, drain_timeout: float | None = None, *, reason: str | None = None) -> None:
        """Ask the scheduler to return; how long it drains is up to it."""
        del drain_timeout
        self._states.become(WorkerPhase.DRAINING, reason or "the worker was asked to stop")
        self._scheduler.stop()

    @property
    def state(self) -> WorkerState:
        """What the worker is doing, as far as it can be told from outside the scheduler."""
        return self._states.current

    def watch_state(self, listener: Callable[[WorkerState], object]) -> None:
        """Call ``listener`` with the present state, then with each new one."""
        self._states.listen(listener)

    def silent_for(self) -> float:
        """Return 0: nobody but the scheduler knows."""
        return 0.0

    def perform(self, job: ClaimedJob) -> Settlement:
        """Run one attempt in the calling thread and return what to tell the store.

        In the thread of ``run``, what belongs to a thread is kept until ``run`` ends: the event
        loop of coroutines, and resources of the scope "thread". Of other threads nobody knows how
        long they live, so there it is kept for one attempt.

        The task's retry policy is applied: ``min(max_retry_delay, retry_backoff * 2**attempt)``, or
        ``retry_delays``, plus up to 500 ms of jitter. Time limits are not: a scheduler that wants
        them has to run attempts where it can stop them.

        Args:
            job: As ``backend.exchange`` returned it.
        """
        start = time.monotonic()
        stays = self._thread == threading.get_ident()
        loop = self._loop if stays else ThreadLoop()
        try:
            run = cast("_core.Run", _ClaimedRun(job))
            outcome = cast("_Outcome", self._runner.run(run, loop)).settled(self._policy(job), job)
        finally:
            if not stays:
                self._end(loop)
        started_ago_ms = round((time.monotonic() - start) * 1000)
        return Settlement(lease=job.lease, outcome=outcome, started_ago_ms=started_ago_ms)

    def _end_own_thread(self) -> None:
        self._thread = None
        self._end(self._loop)

    def _end(self, loop: ThreadLoop) -> None:
        try:
            self._runner.end_thread(loop)
        finally:
            loop.close()

    def _first_signal(self, name: str) -> None:
        _logger.info("%s: asking the scheduler to return. Send it again to stop at once", name)
        self.stop()

    def _policy(self, job: ClaimedJob) -> TaskOptions:
        return self._options.get(job.task) or TaskOptions()


def _second_signal(name: str) -> None:
    raise WorkerError(f"stopped at once by a second signal ({name})")


class _ClaimedRun:
    """A claimed job as the runner sees it; nobody asks it to stop, and its lease is not watched."""

    def __init__(self, job: ClaimedJob) -> None:
        self.id = job.lease.id
        self.token = job.lease.token
        self.task = job.task
        self.queue = job.queue
        self.payload = job.payload
        self.serializer = job.serializer
        self.metadata = job.metadata
        self.attempt = job.attempt
        self.max_retries = job.max_retries
        self.priority = job.priority
        self.timeout_ms = job.timeout_ms

    def cancel_requested(self) -> bool:
        return False

    def abandoned(self) -> bool:
        return False


class _Outcome:
    """Base of the outcomes that ``perform`` turns into those of the store."""

    def settled(self, options: TaskOptions, job: ClaimedJob) -> params.Outcome:
        raise NotImplementedError


class _Success(_Outcome):
    def __init__(self, result: bytes, serializer: str) -> None:
        self._outcome = params.OutcomeSuccess(result=result, serializer=serializer)

    def settled(self, options: TaskOptions, job: ClaimedJob) -> params.Outcome:
        del options, job
        return self._outcome


class _Failure(_Outcome):
    def __init__(self, error: bytes, kind: str, retry: bool, delay_ms: int | None) -> None:
        self._error = error
        self._kind = ErrorKind(kind)
        self._retry = retry
        self._delay_ms = delay_ms

    def settled(self, options: TaskOptions, job: ClaimedJob) -> params.Outcome:
        if not self._retry or job.attempt >= job.max_retries:
            return params.OutcomeDead(error=self._error, kind=self._kind)
        delay_ms = self._delay_ms
        if delay_ms is None:
            delay_ms = _retry_delay_ms(options, job.attempt)
        return params.OutcomeRetry(error=self._error, kind=self._kind, delay_ms=delay_ms)


class _Snoozed(_Outcome):
    def __init__(self, delay_ms: int) -> None:
        self._outcome = params.OutcomeSnooze(delay_ms=delay_ms)

    def settled(self, options: TaskOptions, job: ClaimedJob) -> params.Outcome:
        del options, job
        return self._outcome


class _Aborted(_Outcome):
    def __init__(self, reason: str) -> None:
        self._outcome = params.OutcomeCancelled(reason=reason)

    def settled(self, options: TaskOptions, job: ClaimedJob) -> params.Outcome:
        del options, job
        return self._outcome


def _retry_delay_ms(options: TaskOptions, attempt: int) -> int:
    if options.retry_delays is not None:
        seconds = options.retry_delays[min(attempt, len(options.retry_delays) - 1)]
    else:
        # Bounded before it is used: a large attempt makes a number that no float holds.
        doubled = options.retry_backoff * 2.0 ** min(attempt, 64)
        seconds = min(options.max_retry_delay, doubled)
    jitter = random.randrange(_JITTER_MS + 1) if options.retry_jitter else 0
    return to_milliseconds(seconds) + jitter
