"""SIGTERM and Ctrl-C: nothing new starts, what runs may end, and nothing uses up an attempt."""

from __future__ import annotations

import signal
import time

import pytest
from taskito_processes import report

pytestmark = pytest.mark.process

# Beyond the drain timeout and its 2 s, for a machine that is busy with other tests.
TOLERANCE = 2.0
TASKS = """
@queue.task(max_retries=0)
def stubborn(key):
    note("start", key)
    if is_first(key):
        time.sleep(60)
    note("end", key)
    return os.getpid()

@queue.task(max_retries=0)
def waits(key):
    note("start", key)
    wait_for_file("go")
    note("end", key)
    return key
"""


def assert_interrupted(app, job_id):
    """The attempt is in the history as interrupted, and nothing else is held against the job."""
    job = app.job(job_id)
    assert [entry["kind"] for entry in job["interruptions"]] == ["interrupted"]
    assert job["errors"] == []
    assert job["retry_count"] == 0
    return job


def test_sigterm_ends_a_worker_whose_task_is_longer_than_the_drain_timeout(application):
    app = application(TASKS)
    worker = app.worker("--drain-timeout", "1")
    job_id = app.ask("stubborn.delay('key').id")
    app.evidence.wait_for("start", "key")

    worker.signal(signal.SIGTERM)
    began = time.monotonic()
    status = worker.wait(20)
    taken = time.monotonic() - began
    report(f"gone {taken:.2f} s after SIGTERM, with a drain timeout of 1 s")
    assert taken <= 1 + 2 + TOLERANCE
    assert status == 0, worker.log()
    assert "stubborn" in worker.log(), "it does not say which task it left"
    assert assert_interrupted(app, job_id)["status"] == "pending"

    second = app.worker(name="second")
    assert app.wait_for_status(job_id, "complete")["retry_count"] == 0
    assert app.result(job_id) == second.pid
    assert len(app.evidence.starts("key")) == 2
    assert_interrupted(app, job_id)


def test_a_waiting_worker_takes_over_what_the_shutdown_of_another_interrupts(application):
    app = application(TASKS)
    worker = app.worker("--drain-timeout", "0.5")
    job_id = app.ask("stubborn.delay('key').id")
    app.evidence.wait_for("start", "key")
    second = app.worker(name="second")

    worker.signal(signal.SIGTERM)
    worker.wait(20)
    assert app.wait_for_status(job_id, "complete")["retry_count"] == 0
    assert [event.pid for event in app.evidence.starts("key")] == [worker.pid, second.pid]
    assert_interrupted(app, job_id)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_tasks_end_and_starts_nothing_new(application, number):
    app = application(TASKS)
    worker = app.worker(concurrency=1)
    ids = app.ask("[waits.delay(n).id for n in range(6)]")
    app.evidence.wait_for("start", 0)

    worker.signal(number)
    worker.wait_for_log(r"claims no more jobs")
    app.create("go")
    assert worker.wait(20) == 0, worker.log()

    assert [event.key for event in app.evidence.starts()] == ["0"]
    assert [event.key for event in app.evidence.ends()] == ["0"]
    jobs = [app.job(job_id) for job_id in ids]
    assert [job["status"] for job in jobs] == ["complete", *["pending"] * 5]
    assert all(not job["errors"] and not job["interruptions"] for job in jobs)
    assert app.ask("queue.workers()") == []

    app.worker(name="second")
    app.wait_for_stats(completed=6)
    assert all(number == 1 for number in app.evidence.count("start").values())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_worker_at_once(application, number):
    app = application(TASKS)
    worker = app.worker("--drain-timeout", "60")
    job_id = app.ask("stubborn.delay('key').id")
    app.evidence.wait_for("start", "key")

    worker.signal(number)
    worker.wait_for_log(r"claims no more jobs")
    assert worker.is_alive()
    worker.signal(number)
    began = time.monotonic()
    status = worker.wait(20)
    taken = time.monotonic() - began
    report(f"gone {taken:.2f} s after the second signal")
    assert taken <= 2 + TOLERANCE
    assert status == 1, worker.log()
    assert "second signal" in worker.log()
    assert assert_interrupted(app, job_id)["status"] == "pending"


def test_an_idle_worker_ends_at_once(application):
    app = application(TASKS)
    worker = app.worker("--drain-timeout", "60", concurrency=4)
    worker.signal(signal.SIGTERM)
    assert worker.wait(10) == 0, worker.log()
    assert worker.log().rstrip().endswith("stopped")
