"""Cancellations that race with the ends of jobs: one of them wins, and everybody sees the same."""

from __future__ import annotations

import signal

import pytest

pytestmark = pytest.mark.process

JOBS = 300
TASKS = """
@queue.task(max_retries=3, retry_backoff=0, retry_jitter=False)
def work(number):
    note("start", number)
    time.sleep(0.002 * (number % 3))
    if number % 4 == 1:
        raise LookupError("it would be tried again")
    note("end", number)
    return number

def cancel_all(ids, running):
    cancel = queue.cancel_running_job if running else queue.cancel_job
    return [cancel(id) for id in ids]

def observe(ids):
    return [
        (job.status, job.to_dict()["completed_at"], job.to_dict()["error"])
        for job in map(queue.get_job, ids)
    ]
"""
FINAL = {"complete", "dead", "cancelled"}


def test_one_outcome_wins_and_every_observer_sees_it(application):
    app = application(TASKS)
    workers = [app.worker(name=f"worker {n}", concurrency=2) for n in range(2)]
    ids = app.ask(f"[job.id for job in work.map([(n,) for n in range({JOBS})])]")
    app.evidence.wait_for("start", times=10)
    cancelled_at_once = app.ask("cancel_all(ids[::2], False)", ids=ids, timeout=60)
    app.ask("cancel_all(ids[1::2], True)", ids=ids, timeout=60)
    observers = [app.console("first"), app.console("second")]
    app.wait_for_stats(pending=0, running=0, failed=0, timeout=60)

    seen = [observer.ask("observe(ids)", ids=ids, timeout=60) for observer in observers]
    starts = len(app.evidence.starts())
    assert seen[0] == seen[1]
    statuses = [status for status, _, _ in seen[0]]
    assert set(statuses) <= FINAL
    # Both sides of the race have won, or this has shown nothing.
    assert {"complete", "cancelled"} <= set(statuses)
    for number, job_id, done in zip(range(0, JOBS, 2), ids[::2], cancelled_at_once, strict=True):
        # What was cancelled before it began never runs, nor does its retry; nothing else is.
        assert (statuses[number] == "cancelled") == done, job_id
    for number, status in enumerate(statuses):
        ends = len(app.evidence.ends(str(number)))
        assert ends <= 1
        assert status != "complete" or ends == 1

    # Nothing changes any more, whatever the workers still say.
    for worker in workers:
        worker.signal(signal.SIGTERM)
        worker.wait(30)
    assert observers[0].ask("observe(ids)", ids=ids, timeout=60) == seen[0]
    assert len(app.evidence.starts()) == starts
