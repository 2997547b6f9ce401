"""One worker, from its start to its stop."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskito.backends.base import Backend
from taskito.backends.params import (
    NewSchedule,
)
from taskito.config import check_seconds, to_milliseconds
from taskito.exceptions import WorkerError
from taskito.middleware import Middleware
from taskito.task import Task, TaskOptions
from taskito.worker.config import WorkerConfig
from taskito.worker.executor import Executor
from taskito.worker.loop_executor import LoopExecutor
from taskito.worker.notices import log_notice
from taskito.worker.observed import ObservedRunner
from taskito.worker.processes.executor import ProcessExecutor
from taskito.worker.processes.runner import ObservedProcessRunner, ProcessRunner
from taskito.worker.progress import BackendSink
from taskito.worker.registration import registration
from taskito.worker.runner import OutcomeTypes, Runner
from taskito.worker.signals import StopSignals, repeats_count
from taskito.worker.state import StateHolder, WorkerPhase, WorkerState
from taskito.worker.thread_executor import ThreadExecutor

if TYPE_CHECKING:
    from taskito import _core

__all__ = ["Worker"]

_logger = logging.getLogger("taskito.worker")

_JITTER_MS = 500
# Between two notices there is nothing to do; the engine looks at signals by itself meanwhile.
_NOTICE_TIMEOUT = 3_600.0
# Idle threads end within milliseconds of the dispatcher; a busy one is waited for no longer.
_JOIN_TIMEOUT = 1.0
# With resources they may have something to tear down first.
_TEARDOWN_TIMEOUT = 5.0


class Worker:
    """Runs the tasks of one application until it is stopped. Runs once.

    Args:
        backend: An open backend.
        tasks: The tasks by name. Remote ones are left out: their code is elsewhere.
        config: Queues, concurrency, time limits, serializers.
        middleware: Called around each attempt, as ``Runner`` says.
        schedules: What its code declares; stored when it starts.

    Raises:
        ConfigurationError: A task names a serializer that does not exist, or asks for a resource
            that it cannot have.

    Example:
        >>> worker = Worker(backend, tasks, config)
        >>> threading.Thread(target=worker.run).start()
        >>> worker.stop()
    """

    def __init__(
        self,
        backend: Backend,
        tasks: Mapping[str, Task[..., Any]],
        config: WorkerConfig,
        middleware: Sequence[Middleware] = (),
        schedules: Sequence[NewSchedule] = (),
    ) -> None:
        # Imported here, so that nothing native is loaded before a worker is wanted.
        from taskito import _core

        self.id = uuid.uuid4().hex
        self.config = config
        self._backend = backend
        self._schedules = tuple(schedules)
        self._known = {name: task for name, task in tasks.items() if not task.is_remote}
        self._sink = BackendSink(backend)
        outcomes = OutcomeTypes(_core.Success, _core.Failure, _core.Snoozed, _core.Aborted)
        kills = config.pool == "process"

        def make(plain: type[Runner], observed: type[ObservedRunner]) -> Runner:
            runner = functools.partial(observed, config.events) if config.events else plain
            return runner(
                self._known,
                config,
                outcomes,
                sink=self._sink,
                worker=self.id,
                middleware=middleware,
            )

        coroutines = [name for name, task in self._known.items() if task.needs_event_loop]
        places = config.async_concurrency if coroutines else 0
        self._runner = (
            make(ProcessRunner, ObservedProcessRunner) if kills else make(Runner, ObservedRunner)
        )
        self._loop_runner: Runner | None = None
        if coroutines:
            self._loop_runner = make(Runner, ObservedRunner) if kills else self._runner
        self._dispatcher = _core.Dispatcher(
            backend.native_store or backend,  # type: ignore[arg-type] # only our own engine has one
            registration(self.id, self._known, config, self._schedules, places),
            [_policy(_core.TaskPolicy, name, task.options) for name, task in self._known.items()],
            to_milliseconds(config.maintain_interval),
            config.owns_process,
            to_milliseconds(config.drain_timeout),
            kills,
            coroutines,
            places,
        )
        self._process = os.getpid()
        self._started = False
        self._states = StateHolder()
        self._ended = threading.Event()
        self._drain_ms: int | None = None
        self._reason: str | None = None
        self._quiet = False

    def run(self) -> None:
        """Run tasks until ``stop`` is called or a signal arrives; blocks.

        In the main thread, the first SIGTERM or Ctrl-C stops gracefully: no new attempts, running
        ones get ``drain_timeout`` to end, what did not end runs again elsewhere without using up an
        attempt. A second signal stops at once.

        Raises:
            WorkerError: The worker had to stop (store gone or damaged, all threads in tasks that
                ignore their timeout) or was stopped by a second signal; the message says why.
            StorageError: The store could not be used from the start.
        """
        if self._started:
            raise WorkerError("this worker has run already; make another one")
        executors = self._make_executors()
        with contextlib.ExitStack() as stack:
            if self.config.handle_signals:
                stack.enter_context(StopSignals(self._first_signal, self._second_signal))
            for executor in executors:
                executor.prepare(lambda: self._drain_ms is not None)
                stack.callback(executor.join, 0)
            if self._schedules:
                self._backend.put_schedules(self._schedules)
            self._dispatcher.start()
            self._started = True
            _at_exit(self)
            stack.callback(self._finish, executors)
            try:
                for executor in executors:
                    executor.start()
                if self._drain_ms is not None:
                    self._dispatcher.stop(self._drain_ms)
                fatal = self._watch(executors)
            except BaseException:
                self._dispatcher.stop(0)
                raise
        self._raise_reason(executors, fatal)

    def stop(self, drain_timeout: float | None = None, *, reason: str | None = None) -> None:
        """Stop claiming, give back what has not started, and let running attempts end.

        Returns at once; ``run`` returns when all is done. May be called from any thread, from a
        signal handler, and again with a shorter time. Before ``run``, it makes it return at once.

        Args:
            drain_timeout: Seconds for running attempts; None means the configured time.
            reason: Makes ``run`` end with a ``WorkerError`` that says this.

        Raises:
            ConfigurationError: ``drain_timeout`` is not 0 or more seconds.
        """
        self._reason = self._reason if reason is None else reason
        seconds = self.config.drain_timeout if drain_timeout is None else drain_timeout
        self._drain_ms = to_milliseconds(check_seconds("drain_timeout", seconds))
        if self._started:
            self._dispatcher.stop(self._drain_ms)

    def statistics(self) -> dict[str, int]:
        """Return counters.

        claimed, started, settled, stale, exchanges, running, buffered, silent_ms.
        """
        return self._dispatcher.statistics()

    @property
    def state(self) -> WorkerState:
        """What the worker is doing, and why."""
        return self._states.current

    def watch_state(self, listener: Callable[[WorkerState], object]) -> None:
        """Call ``listener`` with the present state, then with each new one.

        It is called in the thread of ``run``, and has to return soon.
        """
        self._states.listen(listener)

    def silent_for(self) -> float:
        """Return for how many seconds the dispatcher has not come round.

        It does so about once a second, and at least every ten, unless the store does not answer.
        """
        return self.statistics()["silent_ms"] / 1_000

    def _make_executors(self) -> list[Executor]:
        daemon = threading.current_thread().daemon
        config, backend = self.config, self._backend
        executors: list[Executor] = []
        if isinstance(self._runner, ProcessRunner):
            executors.append(
                ProcessExecutor(
                    self._dispatcher,
                    self._runner,
                    config,
                    self._known,
                    backend=(backend.name, backend.capabilities.progress_log),
                    worker=self.id,
                    daemon=daemon,
                )
            )
        else:
            executors.append(
                ThreadExecutor(self._dispatcher, self._runner, config.concurrency, daemon=daemon)
            )
        if self._loop_runner is not None:
            executors.append(
                LoopExecutor(
                    self._dispatcher, self._loop_runner, config.async_concurrency, daemon=daemon
                )
            )
        return executors

    def _watch(self, executors: Sequence[Executor]) -> BaseException | None:
        while True:
            notice = self._dispatcher.next_notice(_NOTICE_TIMEOUT)
            if notice is None:
                continue
            log_notice(notice, quiet=self._quiet, killed=self.config.pool == "process")
            for runner in {self._runner, self._loop_runner}:
                if isinstance(runner, ObservedRunner):
                    runner.noticed(notice)
            self._states.noticed(notice.kind, notice.message)
            if notice.kind == "stopped":
                return notice.fatal
            if notice.slot is not None:
                self._steer(executors, notice.kind, notice.slot)

    def _steer(self, executors: Sequence[Executor], kind: str, slot: int) -> None:
        """Pass on what the dispatcher says about what a slot runs."""
        for executor in executors:
            if not executor.owns(slot):
                continue
            if kind == "timeout" and self._drain_ms is None:
                executor.replace(slot)
            elif kind in {"timeout", "lost", "cancelling"}:
                executor.cancel(slot)

    def _raise_reason(self, executors: Sequence[Executor], fatal: BaseException | None) -> None:
        """Raise why the worker had to stop, if it did not stop by request."""
        if fatal is not None:
            raise WorkerError(f"the worker had to stop: {fatal}") from fatal
        for executor in executors:
            if executor.broken is not None:
                raise WorkerError(
                    f"the worker had to stop: a thread failed: {executor.broken!r}"
                ) from executor.broken
        if self._reason is not None:
            raise WorkerError(self._reason)

    def _finish(self, executors: Sequence[Executor]) -> None:
        timeout = _TEARDOWN_TIMEOUT if self._runner.has_resources else _JOIN_TIMEOUT
        for executor in executors:
            if not executor.join(timeout) and not self._quiet:
                _logger.warning(
                    "still running at the end of the drain time: %s; these jobs run again "
                    "elsewhere",
                    ", ".join(executor.running()) or "code that does not let its thread end",
                )
        self._runner.close()
        if self._loop_runner is not None:
            self._loop_runner.close()
        self._sink.stop()
        self._states.become(WorkerPhase.STOPPED, "the worker has stopped")
        self._ended.set()

    def _first_signal(self, name: str) -> None:
        _logger.info(
            "%s: stopping; running attempts get %g s%s",
            name,
            self.config.drain_timeout,
            ". Send it again to stop at once" if repeats_count() else "",
        )
        self.stop()

    def _second_signal(self, name: str) -> None:
        self.stop(
            0,
            reason=f"stopped at once by a second signal ({name}); what had not ended runs again "
            "elsewhere",
        )

    def _stop_at_exit(self) -> None:
        """Stop without a word: the interpreter ends, and with it whatever still runs."""
        if self._process != os.getpid() or self._ended.is_set():
            return
        self._quiet = True
        self._dispatcher.stop(0)
        self._ended.wait(2 * _JOIN_TIMEOUT)


def _policy(make: type[_core.TaskPolicy], name: str, options: TaskOptions) -> _core.TaskPolicy:
    delays = options.retry_delays
    return make(
        name,
        to_milliseconds(options.retry_backoff),
        None if delays is None else [to_milliseconds(delay) for delay in delays],
        to_milliseconds(options.max_retry_delay),
        _JITTER_MS if options.retry_jitter else 0,
    )


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()
_registering = threading.Lock()


def _at_exit(worker: Worker) -> None:
    """Have ``worker`` stopped when the interpreter ends, before its daemon threads are cut off."""
    with _registering:
        # Registered anew for each one: functions run in reverse order, and whoever registered
        # something before the worker started may still need it afterwards.
        _workers.add(worker)
        atexit.unregister(_stop_all)
        atexit.register(_stop_all)


def _stop_all() -> None:
    for worker in tuple(_workers):
        worker._stop_at_exit()  # noqa: SLF001 - the hook belongs to the class
