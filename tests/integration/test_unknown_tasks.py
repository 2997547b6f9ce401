"""During a rolling deploy, old workers leave the jobs of new tasks alone."""

from __future__ import annotations

import re
import time

import pytest
from taskito_processes import RemoteError

pytestmark = pytest.mark.process

OLD = """
@queue.task(name="known")
def known(number):
    note("start", f"known-{number}")

later = queue.remote_task("later")
"""
NEW = """
@queue.task(name="known")
def known(number):
    note("start", f"known-{number}")

@queue.task(name="later")
def later(number):
    note("start", f"later-{number}")
    return number
"""


def test_jobs_of_an_unknown_task_wait_for_a_worker_that_knows_it(application):
    old = application(OLD)
    new = application(NEW, module="newer")  # the same folder, database and evidence
    worker = old.worker(name="old")
    ids = old.ask("[later.delay(n).id for n in range(3)]")
    worker.wait_for_log(r"jobs wait for the task \W?later")
    more = old.ask("[later.delay(n).id for n in range(3, 6)]")
    # Upkeep sees them again and again meanwhile, and the worker goes on with what it knows.
    until = time.monotonic() + 3
    number = 0
    while time.monotonic() < until:
        old.ask("known.delay(number).result(timeout=10)", number=number)
        number += 1
        time.sleep(0.1)

    assert len(re.findall(r"jobs wait for the task \W?later", worker.log())) == 1, worker.log()
    for job_id in ids + more:
        job = old.job(job_id)
        assert (job["status"], job["retry_count"], job["errors"]) == ("pending", 0, [])
        assert job["waiting_on"] == "no worker knows this task"
    assert not [event for event in old.evidence.starts() if event.key.startswith("later")]

    knowing = new.worker(name="new")
    old.wait_for_stats(completed=number + 6)
    starts = [event for event in old.evidence.starts() if event.key.startswith("later")]
    assert sorted(event.key for event in starts) == [f"later-{n}" for n in range(6)]
    assert {event.pid for event in starts} == {knowing.pid}
    assert worker.is_alive()


def test_result_times_out_with_the_reason(application):
    app = application(OLD)
    app.worker()
    with pytest.raises(RemoteError, match="no worker knows this task") as timeout:
        app.ask("later.delay(1).result(timeout=0.2)")
    assert timeout.value.kinds[0] == "ResultTimeoutError"
