"""A task that does not let any other Python code run keeps its lease."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.process

TASKS = """
@queue.task(max_retries=0)
def hold(key, seconds):
    note("start", key)
    # PyDLL calls C without releasing the interpreter: no Python thread of this worker runs.
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    note("end", key)
    return os.getpid()

@queue.task()
def quick(number):
    note("start", number)
"""


def assert_runs_once(app, seconds):
    holder = app.worker(name="holder", concurrency=2)
    job_id = app.ask(f"hold.delay('key', {seconds}).id")
    app.evidence.wait_for("start", "key")
    other = app.worker(name="other")
    # The other worker is there for the taking all the time.
    app.ask("[quick.delay(n).result(timeout=30) for n in range(5)] and 1", timeout=40)
    job = app.wait_for_status(job_id, "complete", timeout=seconds + 20)

    [start] = app.evidence.starts("key")
    [end] = app.evidence.ends("key")
    assert end.at - start.at >= seconds
    assert app.result(job_id) == start.pid == holder.pid
    assert (job["retry_count"], job["errors"], job["interruptions"]) == (0, [], [])
    assert holder.is_alive()
    assert other.is_alive()


def test_a_task_that_holds_the_interpreter_longer_than_its_lease_runs_once(application):
    assert_runs_once(application(TASKS, lease=1.0), 5)


def test_a_task_that_holds_the_interpreter_for_very_long_runs_once(application, thorough):
    assert_runs_once(application(TASKS, lease=2.0), 20 if thorough else 3)
