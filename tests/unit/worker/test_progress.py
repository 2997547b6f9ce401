from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from taskito.backends.capabilities import Capabilities
from taskito.context import JobContext
from taskito.exceptions import CapabilityError
from taskito.worker.progress import BackendSink


class Backend:
    name = "sample"

    def __init__(self, *, capable=True, error=None) -> None:
        self.capabilities = Capabilities(progress_log=capable)
        self.error = error
        self.calls: list[tuple[object, ...]] = []
        self.called = threading.Event()

    def set_progress(self, id, token, percent):
        self.calls.append((id, token, percent))
        self.called.set()
        if self.error is not None:
            raise self.error
        return True

    def append_log(self, lease, level, message):
        self.calls.append((lease.id, lease.token, level, message))
        return True


def make_job(sink) -> JobContext:
    run = SimpleNamespace(id="job-1", token=7)
    return JobContext(run, sink, dict)


@pytest.fixture
def start():
    sinks = []

    def start(**options):
        backend = Backend(**options)
        sinks.append(BackendSink(backend))
        return backend, sinks[-1]

    yield start
    for sink in sinks:
        sink.stop()


def test_pending_progress_is_stored_within_a_second(start) -> None:
    backend, sink = start()
    job = make_job(sink)
    for percent in range(31):
        job.update_progress(percent)
    assert backend.called.wait(5)
    assert backend.calls == [("job-1", 7, 30)]


def test_log_lines_go_out_at_once_with_the_lease(start) -> None:
    backend, sink = start()
    make_job(sink).log("hello")
    assert backend.calls == [("job-1", 7, "info", "hello")]


def test_backend_without_progress_says_so_to_the_task(start) -> None:
    backend, sink = start(capable=False)
    job = make_job(sink)
    for use in (lambda: job.update_progress(1), lambda: job.log("hello")):
        with pytest.raises(CapabilityError, match="progress_log"):
            use()
    job.close()
    assert backend.calls == []


def test_store_that_fails_is_logged_and_does_not_end_the_thread(start, caplog) -> None:
    with caplog.at_level(logging.WARNING, "taskito.worker"):
        backend, sink = start(error=OSError("disk full"))
        for _ in range(2):
            backend.called.clear()
            make_job(sink).update_progress(5)
            assert backend.called.wait(5)
        sink.stop()
    assert caplog.text.count("disk full") == 2


def test_stopped_sink_leaves_the_last_value_to_the_job(start) -> None:
    backend, sink = start()
    sink.stop()
    job = make_job(sink)
    job.update_progress(9)
    job.close()
    assert backend.calls == [("job-1", 7, 9)]
