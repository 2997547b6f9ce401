"""A lock whose holder dies is free after its time and not before; a busy holder keeps it."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.process

TASKS = """
@queue.task(max_retries=0)
def hold(ttl, seconds):
    with queue.lock("shared", ttl=ttl) as lock:
        note("start", lock.token)
        # PyDLL calls C without releasing the interpreter: no Python thread of this worker runs.
        ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
        lock.check()
        note("end", lock.token)
        return lock.token

@queue.task(max_retries=0)
def hold_until_killed(ttl):
    with queue.lock("shared", ttl=ttl) as lock:
        note("start", "killed")
        wait_for_file("never")
"""
TTL = 2.0


def test_a_lock_of_a_killed_worker_is_free_after_its_time_and_not_before(application):
    app = application(TASKS)
    worker = app.worker(name="holder")
    app.ask(f"hold_until_killed.delay({TTL}).id")
    app.evidence.wait_for("start", "killed")
    [held] = app.ask("queue.locks()")
    worker.kill()
    killed = time.monotonic()
    # It may have been extended just before: it lasts for what is left of that, at most the ttl.
    [left] = app.ask("queue.locks()")
    assert left["token"] == held["token"]
    wait = "(lambda lock: (lock.__enter__(), lock.token, lock.__exit__(None, None, None))[1])"
    token = app.ask(f"{wait}(queue.lock('shared', timeout=20))", timeout=30)
    assert token > held["token"]
    assert time.monotonic() - killed >= left["expires_in"] - 0.5


def test_a_holder_that_keeps_the_interpreter_busy_longer_than_the_ttl_keeps_its_lock(application):
    app = application(TASKS)
    app.worker(name="holder")
    job_id = app.ask(f"hold.delay(0.5, {TTL + 1}).id")
    app.evidence.wait_for("start")
    for _ in range(10):
        [held] = app.ask("queue.locks()")
        time.sleep(0.2)
    job = app.wait_for_status(job_id, "complete")
    assert job["errors"] == []
    assert app.result(job_id) == held["token"]
    assert app.ask("queue.locks()") == []
