"""A fork leaves nothing behind that keeps a dead worker alive, and harms neither side."""

from __future__ import annotations

import time

import pytest
from taskito_processes import report

pytestmark = pytest.mark.process

RESTART_BOUND = 2.0
SLACK = 4
TASKS = """
def fork_sleeper():
    # A child that does nothing but keep what it inherited.
    child = os.fork()
    if child == 0:
        try:
            while True:
                time.sleep(60)
        finally:
            os._exit(0)
    return child

@queue.task(max_retries=0)
def forks(key):
    note("start", key)
    if is_first(key):
        note("child", fork_sleeper())
        time.sleep(60)
    note("end", key)
    return os.getpid()

@queue.task()
def work(key):
    note("start", key)
    return key
"""
BEFORE_AND_AFTER = """
acknowledge(*(work.delay(f"before-{n}").id for n in range(20)))
stop = threading.Event()

def enqueue_all_the_time():
    number = 0
    while not stop.is_set():
        acknowledge(work.delay(f"beside-{number}").id)
        number += 1

beside = threading.Thread(target=enqueue_all_the_time)
if BUSY:
    beside.start()
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        assert len(queue.list_jobs(limit=20)) == 20
        acknowledge(*(work.delay(f"child-{number}-{n}").id for n in range(20)))
        acknowledge(*(job.id for job in work.map([(f"map-{number}-{n}",) for n in range(20)])))
        print("child", work.delay(f"result-{number}").result(timeout=15), file=sys.stderr)
        ENDING
    children.append(child)
    acknowledge(*(work.delay(f"parent-{number}-{n}").id for n in range(20)))
for child in children:
    _, status = os.waitpid(child, 0)
    assert status == 0, status
stop.set()
if BUSY:
    beside.join()
acknowledge(*(work.delay(f"after-{n}").id for n in range(20)))
assert work.delay("last").result(timeout=15) == "last"
"""


def test_a_worker_that_left_a_child_behind_is_seen_to_die(application):
    app = application(TASKS)
    worker = app.worker(name="victim")
    job_id = app.ask("forks.delay('key').id")
    [child] = app.evidence.wait_for("child")
    app.processes.adopt(int(child.key))
    survivor = app.worker(name="survivor")

    worker.kill()
    killed = time.monotonic()
    second = app.evidence.wait_for("start", "key", times=2)[1]
    report(f"taken over {second.at - killed:.2f} s after the kill")
    assert second.at - killed <= SLACK * RESTART_BOUND
    assert second.pid == survivor.pid
    app.wait_for_status(job_id, "complete")
    assert app.result(job_id) == survivor.pid
    # The store can be written all the same, also by somebody new.
    assert app.console("new").ask("work.delay('new').result(timeout=10)") == "new"


def test_a_producer_that_left_a_child_behind_holds_nothing(application):
    app = application(TASKS)
    app.worker()
    producer = app.console("producer")
    producer.ask("work.delay('before').result(timeout=10)")
    app.processes.adopt(producer.ask("fork_sleeper()"))
    # Killed while it commits all the time: it may have held the lock.
    producer.send("[work.delay(n) for n in range(1_000_000)]")
    app.evidence.wait_for("start", times=100)
    producer.process.kill()
    began = time.monotonic()
    assert app.ask("work.delay('after').id", timeout=10)
    report(f"another producer could write after {time.monotonic() - began:.2f} s")
    assert app.console("new").ask("work.delay('new').result(timeout=20)") == "new"


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)"])
def test_a_queue_is_used_on_both_sides_of_a_fork(application, ending, busy):
    app = application(TASKS)
    app.worker(concurrency=2)
    script = app.script(BEFORE_AND_AFTER.replace("ENDING", ending).replace("BUSY", str(busy)))
    assert script.wait(40) == 0, script.log()
    said = sorted(script.log().splitlines())
    assert said == [f"child result-{number}" for number in range(3)]

    acknowledged = app.acknowledged()
    assert len(set(acknowledged)) == len(acknowledged) >= 20 + 3 * 60 + 20
    assert app.missing(acknowledged) == []
    total = len(acknowledged) + 4
    app.wait_for_stats(completed=total, pending=0, running=0)
    assert len(app.evidence.starts()) == total


def test_a_worker_in_a_forked_child_runs_jobs_of_its_parent(application):
    app = application(TASKS)
    script = app.script(
        """
        job = work.delay("before")
        child = os.fork()
        if child == 0:
            queue.run_worker()
            os._exit(0)
        note("worker", child)
        assert job.result(timeout=15) == "before"
        assert work.delay("after").result(timeout=15) == "after"
        os.kill(child, signal.SIGTERM)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert script.wait(40) == 0, script.log()
    [worker] = app.evidence.events("worker")
    assert {event.pid for event in app.evidence.starts()} == {int(worker.key)}
