"""SIGSTOP for longer than the lease: another worker takes over, the late outcome is refused."""

from __future__ import annotations

import re
import signal

import pytest
from taskito_processes import report, wait_until

pytestmark = pytest.mark.process

TASKS = """
def body(key, outcome):
    note("start", key)
    if is_first(key):
        wait_for_file("late")
        note("end", key)
        if outcome == "failure":
            raise ValueError("too late")
        return "too late"
    wait_for_file("second")
    note("end", key)
    return f"of {os.getpid()}"

@queue.task(max_retries=3)
def succeeds(key):
    return body(key, "success")

@queue.task(max_retries=3)
def fails(key):
    return body(key, "failure")

@queue.task()
def quick(key):
    note("start", key)
    return key
"""


def refused(worker, job_id):
    return re.search(rf"WARNING[^\n]*{job_id}", worker.log())


@pytest.mark.parametrize("task", ["succeeds", "fails"])
@pytest.mark.parametrize("second_ends", ["before", "after"])
def test_the_outcome_of_a_worker_that_lost_its_lease_is_refused(application, task, second_ends):
    app = application(TASKS, lease=1.0)
    stopped = app.worker(name="stopped")
    job_id = app.ask(f"{task}.delay('key').id")
    app.evidence.wait_for("start", "key")
    other = app.worker(name="other")

    stopped.signal(signal.SIGSTOP)
    [first, second] = app.evidence.wait_for("start", "key", times=2)
    assert (first.pid, second.pid) == (stopped.pid, other.pid)
    assert second.token > first.token
    report(f"taken over {second.at - first.at:.2f} s after the start, with a lease of 1 s")
    if second_ends == "before":
        app.create("second")
        app.wait_for_status(job_id, "complete")

    app.create("late")
    stopped.signal(signal.SIGCONT)
    app.evidence.wait_for("end", "key", times=1 if second_ends == "after" else 2)
    wait_until(lambda: refused(stopped, job_id), 20, stopped.log)
    if second_ends == "after":
        # The present run is not disturbed by the one before.
        assert app.job(job_id)["status"] == "running"
        app.create("second")
        app.wait_for_status(job_id, "complete")

    job = app.job(job_id)
    assert app.result(job_id) == f"of {other.pid}"
    assert job["retry_count"] == 0
    assert "too late" not in str(job)
    assert len(app.evidence.starts("key")) == 2
    # Both go on working, and the job stays as it is.
    keys = [f"after-{number}" for number in range(10)]
    app.ask("[quick.delay(key).result(timeout=10) for key in keys]", keys=keys)
    assert stopped.is_alive()
    assert other.is_alive()
    assert app.result(job_id) == f"of {other.pid}"


def test_a_worker_that_is_stopped_for_less_than_its_lease_keeps_its_job(application):
    app = application(TASKS, lease=30.0)
    stopped = app.worker(name="stopped")
    job_id = app.ask("succeeds.delay('key').id")
    app.evidence.wait_for("start", "key")
    app.worker(name="other")
    stopped.signal(signal.SIGSTOP)
    # Upkeep of the other one would have seen a dead worker by then.
    for number in range(25):
        app.ask("quick.delay(key).result(timeout=10) and time.sleep(0.1)", key=f"quick-{number}")
    stopped.signal(signal.SIGCONT)
    app.create("late")
    app.wait_for_status(job_id, "complete")
    assert app.result(job_id) == "too late"
    assert len(app.evidence.starts("key")) == 1
