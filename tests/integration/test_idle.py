"""An idle system starts work at once and costs next to nothing."""

from __future__ import annotations

import statistics
import time

import pytest
from taskito_processes import report, wait_until
from taskito_processes.system import bytes_written, cpu_seconds

pytestmark = pytest.mark.process

SAMPLES = 30
MEDIAN_BOUND = 0.005
SLACK = 4
TASKS = """
@queue.task()
def work(number):
    note("start", number)
    return number

def enqueue_at(number):
    began = time.monotonic_ns()
    work.delay(number)
    return began / 1e9

def time_to_result(number):
    began = time.monotonic_ns()
    assert work.delay(number).result(timeout=10) == number
    return (time.monotonic_ns() - began) / 1e9
"""


@pytest.mark.timing
def test_a_job_starts_in_an_idle_worker_within_milliseconds(application):
    app = application(TASKS)
    app.worker(concurrency=1)
    producer = app.console("producer")
    delays = []
    for number in range(-3, SAMPLES):
        time.sleep(0.03)  # not to synchronise: the worker shall be idle
        began = producer.ask("enqueue_at(number)", number=number)
        [start] = app.evidence.wait_for("start", number)
        if number >= 0:
            delays.append(start.at - began)
    median = statistics.median(delays)
    report(f"enqueue to start: median {median * 1e3:.2f} ms, longest {max(delays) * 1e3:.2f} ms")
    assert median <= SLACK * MEDIAN_BOUND


@pytest.mark.timing
def test_a_result_reaches_the_caller_within_milliseconds(application):
    app = application(TASKS)
    app.worker(concurrency=1)
    producer = app.console("producer")
    times = []
    for number in range(-3, SAMPLES):
        time.sleep(0.03)  # not to synchronise: both sides shall be idle
        taken = producer.ask("time_to_result(number)", number=number)
        if number >= 0:
            times.append(taken)
    median = statistics.median(times)
    report(f"enqueue to result: median {median * 1e3:.2f} ms, longest {max(times) * 1e3:.2f} ms")
    assert median <= SLACK * MEDIAN_BOUND


@pytest.mark.timing
def test_an_idle_worker_uses_less_than_a_hundredth_of_a_core(application):
    app = application(TASKS)
    worker = app.worker(concurrency=4)
    app.ask("work.delay(1).result(timeout=10)")
    wait_until_nothing_is_written(app, worker)
    before, seconds = cpu_seconds(worker.pid), 5.0
    time.sleep(seconds)
    share = (cpu_seconds(worker.pid) - before) / seconds
    report(f"an idle worker uses {share:.2%} of a core")
    assert share <= SLACK * 0.01


def test_an_idle_worker_writes_nothing_to_the_disk(application):
    app = application(TASKS)
    worker = app.worker(concurrency=4)
    producer = app.console("producer")
    for number in range(20):
        producer.ask("time_to_result(number)", number=number)
    wait_until_nothing_is_written(app, worker)
    before = written(app, worker)
    time.sleep(5)
    assert written(app, worker) == before


def written(app, worker):
    """What would show a write: the kernel's count, and the size and time of every file."""
    files = sorted(path for path in app.folder.rglob("*") if path.name.startswith("tasks.db"))
    facts = {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}
    assert "tasks.db" in facts
    return bytes_written(worker.pid), facts


def wait_until_nothing_is_written(app, worker):
    """Wait until the last jobs have been checkpointed: nothing is written for a second."""
    last = [written(app, worker), time.monotonic()]

    def quiet():
        now = written(app, worker)
        if now != last[0]:
            last[:] = now, time.monotonic()
        return time.monotonic() - last[1] > 1

    wait_until(quiet, 20, lambda: f"quiet; the last change was {last}", step=0.05)
