"""SIGKILL in the middle of the work: another worker finishes it, and it starts again at once."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from taskito_processes import report, wait_until

pytestmark = pytest.mark.process

JOBS = 200
RESTART_BOUND = 2.0
SLACK = 4
TASKS = """
@queue.task(max_retries=0)
def work(number):
    note("start", number)
    time.sleep(0.02)
    if number % 10 == 3 and is_first(number):
        time.sleep(60)
    note("end", number)
    return number

@queue.task(max_retries=0)
def fatal(key):
    note("start", key)
    if is_first(key):
        os.kill(os.getpid(), signal.SIGKILL)
    note("end", key)

@queue.task(max_retries=0, max_crashes=2)
def always_fatal(key):
    note("start", key)
    os.kill(os.getpid(), signal.SIGKILL)

@queue.task(max_retries=0)
def last_act(key):
    note("start", key)
    note("end", key)
    if is_first(key):
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"

@queue.task(max_retries=0)
def ends_while_the_store_is_locked(key):
    note("start", key)
    create("lock")
    wait_for_file("locked")
    note("end", key)
    return os.getpid()
"""
LOCK_WHEN_ASKED = """
import os, sqlite3, time
connection = sqlite3.connect(database, isolation_level=None, timeout=10)
connection.execute("PRAGMA wal_autocheckpoint = 0")
while not os.path.exists("lock"):
    time.sleep(0.001)
connection.execute("BEGIN IMMEDIATE")
open("locked", "w").close()
"""


def test_another_worker_finishes_the_jobs_of_a_killed_one(application):
    app = application(TASKS)
    victim = app.worker(name="victim", concurrency=4)
    ids = app.ask(f"[job.id for job in work.map([(n,) for n in range({JOBS})])]")
    # Each of its four threads comes to a job that it does not get out of; most are still to do.
    stuck = ["3", "13", "23", "33"]
    app.evidence.wait_for("end", times=30)
    app.evidence.wait_until(lambda: all((app.folder / f"first-{key}").exists() for key in stuck))
    for number in range(JOBS):
        app.create(f"first-{number}")  # nobody else gets stuck
    survivor = app.worker(name="survivor", concurrency=4)

    victim.kill()
    killed = time.monotonic()
    app.wait_for_stats(completed=JOBS, timeout=30)

    restarts = {}
    for key in stuck:
        first, second = app.evidence.starts(key)
        assert (first.pid, second.pid) == (victim.pid, survivor.pid)
        assert second.token > first.token
        restarts[key] = second.at - killed
        job = app.job(ids[int(key)])
        assert job["retry_count"] == 0
        [crash] = job["errors"]
        assert crash["kind"] == "crash"
        assert f"pid {victim.pid}" in crash["error"]
    report(f"the orphaned attempts started again after {max(restarts.values()):.2f} s at most")
    assert max(restarts.values()) <= SLACK * RESTART_BOUND
    assert all(app.evidence.ends(number) for number in range(JOBS))
    # Nobody else ran twice: what was only claimed was given back free of charge.
    assert sum(app.evidence.count("start").values()) == JOBS + len(stuck)
    untouched = [app.job(job_id) for number, job_id in enumerate(ids) if str(number) not in stuck]
    assert not [job for job in untouched if job["errors"] or job["retry_count"]]
    assert survivor.is_alive()


def test_a_task_that_kills_its_worker_once_completes_on_another(application):
    app = application(TASKS)
    victim = app.worker(name="victim")
    job_id = app.ask("fatal.delay('key').id")
    assert victim.wait(20) == -signal.SIGKILL
    app.worker(name="survivor")
    job = app.wait_for_status(job_id, "complete")
    assert (job["retry_count"], len(job["errors"])) == (0, 1)
    assert len(app.evidence.starts("key")) == 2


def test_a_task_that_always_kills_its_worker_ends_as_a_dead_letter(application):
    app = application(TASKS)
    job_id = app.ask("always_fatal.delay('key').id")
    workers = 0
    while app.ask("queue.get_job(id).status", id=job_id) != "dead":
        workers += 1
        assert workers <= 4, "it goes on killing workers"
        worker = app.worker(name=f"victim-{workers}", ready=False)
        wait_until(
            lambda worker=worker: (
                not worker.is_alive() or app.ask("queue.get_job(id).status", id=job_id) == "dead"
            ),
            20,
            "the end of the worker or of the job",
        )
    job = app.job(job_id)
    # The first death made it a suspect, uncharged; the next two were charged to it.
    assert len(app.evidence.starts("key")) == 3
    assert [error["kind"] for error in job["errors"]] == ["crash"] * 3
    assert job["retry_count"] == 0


def test_a_worker_killed_between_the_end_of_a_task_and_its_settlement_runs_it_once_more(
    application,
):
    app = application(TASKS)
    victim = app.worker(name="victim")
    job_id = app.ask("last_act.delay('key').id")
    assert victim.wait(20) == -signal.SIGKILL
    app.worker(name="survivor")
    app.wait_for_status(job_id, "complete")
    assert app.result(job_id) == "done"
    assert len(app.evidence.ends("key")) == 2


def test_a_run_whose_end_could_not_be_stored_leaves_a_trace_when_its_worker_is_killed(application):
    """Its outcome is lost with the worker; that it ran is not."""
    app = application(TASKS)
    victim = app.worker(name="victim")
    stranger = app.stranger()
    stranger.send(LOCK_WHEN_ASKED, statement=True, database=str(app.database))
    job_id = app.ask("ends_while_the_store_is_locked.delay('key').id")
    app.evidence.wait_for("end", "key")
    stranger.receive()
    # Nothing stays open that could be stored later: the slot is free again, the outcome waits.
    wait_until(lambda: idle(victim), 20, victim.log)
    victim.kill()
    stranger.run("connection.execute('ROLLBACK')")

    survivor = app.worker(name="survivor")
    job = app.wait_for_status(job_id, "complete")
    assert app.result(job_id) == survivor.pid
    assert [event.pid for event in app.evidence.starts("key")] == [victim.pid, survivor.pid]
    assert [error["kind"] for error in job["errors"]] == ["crash"]
    assert job["retry_count"] == 0


def idle(process):
    """Return whether no thread of a process is running: all of them sleep."""
    states = [
        path.read_text().rpartition(")")[2].split()[0]
        for path in Path(f"/proc/{process.pid}/task").glob("*/stat")
    ]
    return set(states) == {"S"}
