from __future__ import annotations

import asyncio
import contextvars
import threading
from types import SimpleNamespace

import pytest

from taskito import context
from taskito.context import JobContext, current_job
from taskito.exceptions import ConfigurationError, JobCancelledError, Snooze


class Sink:
    """Keeps what it is told; flushes when a test says so."""

    def __init__(self) -> None:
        self.progress: list[int] = []
        self.lines: list[tuple[str, str]] = []
        self.waiting: list[JobContext] = []
        self.alive = True

    def set_progress(self, job_id, token, percent):
        assert (job_id, token) == ("job-1", 7)
        self.progress.append(percent)
        return self.alive

    def append_log(self, job_id, token, level, message):
        self.lines.append((level, message))
        return True

    def flush_later(self, job):
        self.waiting.append(job)

    def flush(self):
        waiting, self.waiting = self.waiting, []
        for job in waiting:
            job.flush()


def make_run(**changes):
    values = {
        "id": "job-1",
        "token": 7,
        "task": "shop.resize",
        "queue": "images",
        "metadata": b"x",
        "attempt": 2,
        "timeout_ms": 0,
        "cancel_requested": lambda: False,
        "abandoned": lambda: False,
    }
    return SimpleNamespace(**{**values, **changes})


def make_job(sink=None, **changes) -> JobContext:
    return JobContext(make_run(**changes), sink or Sink(), lambda data: {"raw": data})


def in_job(job, function):
    def call():
        context.activate(job)
        return function()

    return contextvars.copy_context().run(call)


def test_outside_a_task_everything_is_a_runtime_error() -> None:
    for use in (
        lambda: current_job.id,
        lambda: current_job.metadata,
        lambda: current_job.update_progress(1),
        current_job.check_cancelled,
        lambda: current_job.snooze(1),
    ):
        with pytest.raises(RuntimeError, match="inside a running task"):
            use()
    assert repr(current_job) == "<current_job: none>"


def test_attributes_are_those_of_the_run() -> None:
    def look():
        job = current_job
        return job.id, job.task_name, job.queue_name, job.retry_count, job.metadata

    assert in_job(make_job(), look) == ("job-1", "shop.resize", "images", 2, {"raw": b"x"})
    assert in_job(make_job(metadata=None), lambda: current_job.metadata) == {}


def test_coroutines_and_threads_with_the_context_see_the_job() -> None:
    async def look():
        here = current_job.id
        child = await asyncio.create_task(asyncio.sleep(0, current_job.id))
        return here, child, await asyncio.to_thread(lambda: current_job.id)

    assert in_job(make_job(), lambda: asyncio.run(look())) == ("job-1",) * 3


def test_many_updates_are_one_write_and_the_last_one_counts() -> None:
    sink = Sink()
    job = make_job(sink)
    for percent in range(50):
        job.update_progress(percent)
    assert sink.progress == []
    assert len(sink.waiting) == 1
    sink.flush()
    assert sink.progress == [49]
    job.update_progress(60)
    job.close()
    assert sink.progress == [49, 60]
    sink.flush()
    job.update_progress(70)
    job.close()
    assert sink.progress == [49, 60]


@pytest.mark.parametrize(
    ("given", "stored"),
    [(-5, 0), (0, 0), (99.9, 99), (100, 100), (1e300, 100), (float("inf"), 100)],
)
def test_progress_is_clamped(given, stored) -> None:
    sink = Sink()
    job = make_job(sink)
    job.update_progress(given)
    job.close()
    assert sink.progress == [stored]


@pytest.mark.parametrize("given", ["50", None, float("nan"), True])
def test_progress_that_is_no_number_is_refused(given) -> None:
    with pytest.raises(ConfigurationError, match="progress"):
        make_job().update_progress(given)


def test_equal_values_are_written_once() -> None:
    sink = Sink()
    job = make_job(sink)
    for _ in range(3):
        job.update_progress(30)
        sink.flush()
    assert sink.progress == [30]


def test_after_a_lost_lease_nothing_more_is_written() -> None:
    sink = Sink()
    sink.alive = False
    job = make_job(sink)
    job.update_progress(10)
    sink.flush()
    job.update_progress(20)
    sink.flush()
    job.close()
    assert sink.progress == [10]


def test_refusal_of_the_sink_is_raised_at_every_call() -> None:
    class Refusing(Sink):
        def flush_later(self, job):
            raise NotImplementedError

    job = make_job(Refusing())
    for _ in range(2):
        with pytest.raises(NotImplementedError):
            job.update_progress(1)


def test_last_value_of_racing_threads_is_never_lost() -> None:
    sink = Sink()
    job = make_job(sink)
    stop = threading.Event()

    def flush() -> None:
        while not stop.is_set():
            sink.flush()

    flusher = threading.Thread(target=flush)
    flusher.start()
    for percent in range(101):
        for value in (0, percent):
            job.update_progress(value)
    stop.set()
    flusher.join()
    # Either it is written, or somebody has been asked to write it.
    sink.flush()
    assert sink.progress[-1] == 100


def test_log_lines_are_written_at_once() -> None:
    sink = Sink()
    job = make_job(sink)
    in_job(job, lambda: current_job.log("hello", level="warning"))
    assert sink.lines == [("warning", "hello")]
    with pytest.raises(ConfigurationError, match="level: 'loud'"):
        job.log("hello", level="loud")


def test_check_cancelled_raises_when_asked_or_over() -> None:
    make_job().check_cancelled()
    with pytest.raises(JobCancelledError, match="by request"):
        make_job(cancel_requested=lambda: True).check_cancelled()
    with pytest.raises(JobCancelledError, match="over"):
        make_job(abandoned=lambda: True).check_cancelled()


def test_check_timeout_raises_when_the_time_is_over(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(context.time, "monotonic", lambda: now[0])
    job, endless = make_job(timeout_ms=1_000), make_job(timeout_ms=0)
    now[0] = 100.9
    job.check_timeout()
    now[0] = 101.0
    endless.check_timeout()
    with pytest.raises(TimeoutError, match="1000 ms"):
        job.check_timeout()
    with pytest.raises(TimeoutError, match="over"):
        make_job(abandoned=lambda: True).check_timeout()


def test_snooze_raises_with_the_time() -> None:
    with pytest.raises(Snooze) as caught:
        make_job().snooze(2.5)
    assert caught.value.seconds == 2.5
