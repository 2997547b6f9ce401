"""A scheduler from a plugin, in place of the native dispatcher."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import pytest

from taskito import (
    MaxRetriesExceededError,
    Queue,
    Resource,
    Snooze,
    TaskCancelledError,
    WorkerError,
)
from taskito.backends.params import ExchangeRequest
from taskito.exceptions import JobCancelledError
from taskito.plugins import hookimpl
from taskito.plugins.manager import PluginManager


class OneByOne:
    """Runs one job after the other in the thread of the worker."""

    def __init__(self):
        self._stopped = threading.Event()
        self.performed = 0

    def run(self, worker):
        backend = worker.backend
        backend.register(worker.registration)
        settlements = ()
        seen = 0
        while not self._stopped.is_set() or settlements:
            backend.maintain(100)
            want = 0 if self._stopped.is_set() else 1
            reply = backend.exchange(
                ExchangeRequest(worker=worker.id, settlements=settlements, want=want)
            )
            settlements = tuple(worker.perform(job) for job in reply.jobs)
            self.performed += len(settlements)
            if not settlements:
                seen = backend.wait(seen, 0.02)
        backend.unregister(worker.id)

    def stop(self):
        self._stopped.set()


@pytest.fixture(params=["memory://", "sqlite://:memory:"])
def scheduled(request, plugin_entry_point, monkeypatch):
    scheduler = OneByOne()

    class Plugin:
        @hookimpl
        def taskito_register_scheduler(self):
            return scheduler

    plugins = PluginManager([plugin_entry_point("one", Plugin())])
    monkeypatch.setattr("taskito.app.running.plugin_manager", lambda: plugins)
    with Queue(backend=request.param, workers=1) as queue:
        queue.scheduler = scheduler
        yield queue


def test_jobs_run_under_the_scheduler_of_a_plugin(scheduled):
    answers = iter([Snooze(0), ValueError("once"), None])

    @scheduled.task(name="work", max_retries=1, retry_delays=[0], retry_jitter=False)
    def work(number):
        error = next(answers)
        if error is not None:
            raise error
        return 2 * number

    job = work.delay(21)
    thread = threading.Thread(target=scheduled.run_worker, daemon=True)
    thread.start()
    assert job.result(timeout=20) == 42
    assert scheduled.scheduler.performed == 3
    assert [error["error"] for error in job.errors] == ["ValueError: once"]
    scheduled.shutdown()
    thread.join(20)
    assert not thread.is_alive()


def test_failures_and_cancellations_end_as_with_the_dispatcher(scheduled):
    @scheduled.task(name="fail", max_retries=1, retry_backoff=0.0, retry_jitter=False)
    def fail():
        raise ValueError("always")

    @scheduled.task(name="give_up")
    def give_up():
        raise JobCancelledError("enough")

    failing, cancelled = fail.delay(), give_up.delay()
    threading.Thread(target=scheduled.run_worker, daemon=True).start()
    with pytest.raises(MaxRetriesExceededError, match="always"):
        failing.result(timeout=20)
    with pytest.raises(TaskCancelledError, match="enough"):
        cancelled.result(timeout=20)


def test_a_signal_asks_the_scheduler_to_return(scheduled):
    seen = []

    def changed(state):
        seen.append(state.phase)
        if state.ready:
            signal.raise_signal(signal.SIGTERM)

    scheduled.run_worker(monitor=lambda worker: worker.watch_state(changed))
    assert seen == ["starting", "ready", "draining", "stopped"]
    assert scheduled.scheduler._stopped.is_set()


def test_a_second_signal_does_not_wait_for_the_scheduler(scheduled, monkeypatch):
    def run(_worker):
        signal.raise_signal(signal.SIGINT)
        assert scheduled.scheduler._stopped.is_set()
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(scheduled.scheduler, "run", run)
    with pytest.raises(WorkerError, match="second signal"):
        scheduled.run_worker()


def test_resources_live_as_long_as_the_thread_of_the_scheduler(scheduled):
    lines = []

    @scheduled.resource("plain", scope="worker")
    def plain() -> Iterator[int]:
        lines.append("+plain")
        yield 1
        lines.append("-plain")

    @scheduled.resource("client", scope="thread")
    async def client(plain: Annotated[int, Resource("plain")]) -> AsyncIterator[int]:
        lines.append("+client")
        yield plain + 1
        lines.append("-client")

    @scheduled.task()
    def function(plain: Annotated[int, Resource("plain")]) -> int:
        return plain

    @scheduled.task()
    async def coroutine(client: Annotated[int, Resource("client")]) -> int:
        return client

    with scheduled.worker():
        jobs = [function.delay(), coroutine.delay(), coroutine.delay()]
        assert [job.result(timeout=20) for job in jobs] == [1, 2, 2]
    assert lines == ["+plain", "+client", "-client", "-plain"]
