"""The process pool from outside: a task in a child sees and does what it does in a thread."""

from __future__ import annotations

import signal

import pytest
from taskito_processes import wait_until
from taskito_processes.system import children_of, is_gone

pytestmark = pytest.mark.process

TASKS = """
import asyncio, logging
from taskito import Reject, Snooze, current_job
from taskito.exceptions import JobCancelledError

@queue.task()
def where():
    note("start", "where")
    return os.getpid()

@queue.task()
def about():
    job = current_job
    return [job.id, job.task_name, job.retry_count, job.queue_name, job.metadata]

@queue.task(bind=True)
def tells(job):
    for percent in range(51):
        job.update_progress(percent)
    job.log("half", level="warning")
    note("start", "tells")
    wait_for_file("go")
    job.update_progress(80)
    logging.getLogger("shop").warning("a line of %s", "logging")

@queue.task()
def asks():
    note("start", "asks")
    while True:
        current_job.check_cancelled()
        time.sleep(0.005)

@queue.task(timeout=0.2, max_retries=0)
def watches_the_clock():
    while True:
        current_job.check_timeout()

@queue.task(max_retries=1)
def steers(how):
    if not is_first(how):
        return "again"
    if how == "snooze":
        current_job.snooze(0)
    if how == "retry":
        raise Retry(delay=0)
    raise Reject("never")

@queue.task()
async def waits():
    await asyncio.sleep(0)
    return current_job.id

@queue.task()
def enqueues():
    return where.delay().id

class Unpicklable(Exception):
    def __init__(self, lock):
        super().__init__(lock)
    def __repr__(self):
        raise RuntimeError("no repr")
    __str__ = __repr__

def recurse():
    return recurse()

@queue.task(max_retries=0)
def fails(how):
    note("start", how)
    if how == "unpicklable":
        raise Unpicklable(threading.Lock())
    if how == "result":
        return threading.Lock()
    if how == "exit":
        sys.exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "memory":
        raise MemoryError
    if how == "recursion":
        recurse()
    if how == "large":
        return b"x" * (2 << 20)

@queue.task()
def add(left, right):
    return left + right

@queue.task()
def large(data):
    return len(data)

def leak():
    wait_for_file("grow")
    leak.kept = b"x" * (200 << 20)

@queue.task()
def leaves_a_leak():
    threading.Thread(target=leak, daemon=True).start()
    return os.getpid()

@queue.task(max_retries=0)
def sleeps(key, seconds):
    note("start", key)
    time.sleep(seconds)
    note("end", key)
    return key

@queue.on_success
def succeeded(task_name, args, kwargs, result):
    note("success", task_name)
"""

KINDS = {
    "unpicklable": "<unprintable>",
    "result": "cannot be encoded",
    "exit": "SystemExit: 3",
    "interrupt": "KeyboardInterrupt",
    "memory": "MemoryError",
    "recursion": "RecursionError",
    "large": "max_payload_bytes",
}


@pytest.fixture
def app(application):
    return application(TASKS)


@pytest.fixture
def worker(app):
    return app.worker("--pool", "process", concurrency=2)


def done(app, code, **names):
    """Enqueue a call, wait until it is complete, and return its result."""
    job_id = app.ask(f"{code}.id", **names)
    app.wait_for_status(job_id, "complete")
    return app.result(job_id)


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
def test_tasks_run_in_children(app, options):
    worker = app.worker("--pool", "process", *options, concurrency=2)
    pids = {done(app, "where.delay()") for _ in range(5)}
    children = set(children_of(worker.pid))
    children |= {pid for child in children for pid in children_of(child)}
    assert pids <= children
    assert app.evidence.count("success")[f"{app.module}.where"] == 5


def test_current_job_is_the_same_as_in_a_thread(app, worker):
    job_id = app.ask("about.apply_async(metadata={'customer': 7}).id")
    app.wait_for_status(job_id, "complete")
    assert app.result(job_id) == [
        *(job_id, f"{app.module}.about", 0, "default", {"customer": 7}),
    ]
    assert isinstance(done(app, "waits.delay()"), str)


def test_progress_and_log_lines_reach_the_store_while_the_task_runs(app, worker):
    job_id = app.ask("tells.delay().id")
    app.evidence.wait_for("start", "tells")
    wait_until(lambda: app.ask("queue.get_job(id).progress", id=job_id) == 50, 5, "50 %")
    logs = app.ask("[(line.level, line.message) for line in queue.backend.logs(id)]", id=job_id)
    assert [list(line) for line in logs] == [["warning", "half"]]
    app.create("go")
    assert app.wait_for_status(job_id, "complete")["progress"] == 80
    worker.wait_for_log(r"WARNING shop: a line of logging")


def test_a_task_that_asks_whether_it_is_cancelled_ends_by_itself(app, worker):
    job_id = app.ask("asks.delay().id")
    [start] = app.evidence.wait_for("start", "asks")
    app.ask("queue.cancel_running_job(id)", id=job_id)
    job = app.wait_for_status(job_id, "cancelled")
    assert "killed" not in job["error"]
    assert not is_gone(start.pid)


def test_a_task_can_end_itself_at_its_timeout(app, worker):
    job = app.wait_for_status(app.ask("watches_the_clock.delay().id"), "dead")
    assert len(job["errors"]) == 1
    assert "200 ms" in job["errors"][0]["error"]


def test_a_task_steers_its_job(app, worker):
    assert done(app, "steers.delay('snooze')") == "again"
    retried = app.wait_for_status(app.ask("steers.delay('retry').id"), "complete")
    assert retried["retry_count"] == 1
    rejected = app.wait_for_status(app.ask("steers.delay('reject').id"), "dead")
    assert [error["kind"] for error in rejected["errors"]] == ["rejected"]


@pytest.mark.parametrize("how", KINDS)
def test_what_a_task_does_to_itself_is_a_failure_of_that_job(app, worker, how):
    before = set(children_of(worker.pid))
    job = app.wait_for_status(app.ask("fails.delay(how).id", how=how), "dead")
    [error] = job["errors"]
    assert error["kind"] in {"failure", "rejected"}
    assert KINDS[how] in error["error"]
    assert set(children_of(worker.pid)) == before, "the child lives on"


def test_a_task_enqueues_through_a_connection_of_its_own(app, worker):
    inner = done(app, "enqueues.delay()")
    app.wait_for_status(inner, "complete")


def test_results_of_earlier_steps_reach_a_child(app, worker):
    code = "__import__('taskito').chain(add.s(1, 2), add.s(10)).apply()"
    assert done(app, code) == 13


def test_large_arguments_cross_the_pipe(app, worker):
    assert done(app, "large.delay(b'x' * 1_000_000)") == 1_000_000


def test_children_are_replaced_after_so_many_tasks(app):
    app.worker("--pool", "process", "--max-tasks-per-child", "2")
    pids = [done(app, "where.delay()") for _ in range(6)]
    assert pids[0::2] == pids[1::2]
    assert len(set(pids)) == 3


def test_a_child_that_has_grown_is_replaced_and_no_task_is_harmed(app):
    worker = app.worker("--pool", "process", "--max-memory-per-child", "150M")
    grown = done(app, "leaves_a_leak.delay()")
    app.create("grow")
    worker.wait_for_log(rf"child process {grown} is replaced: it uses \d+ MiB of memory")
    job = app.wait_for_status(app.ask("where.delay().id"), "complete")
    assert job["errors"] == []
    assert app.result(job["id"]) != grown


def test_a_drained_worker_lets_its_children_finish(app):
    worker = app.worker("--pool", "process", concurrency=2)
    job_id = app.ask("sleeps.delay('a', 1).id")
    app.evidence.wait_for("start", "a")
    children = children_of(worker.pid)
    worker.signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert app.evidence.ends("a")
    assert app.job(job_id)["status"] == "complete"
    assert all(map(is_gone, children))


def test_what_outlives_the_drain_time_is_killed_and_given_back(app):
    worker = app.worker("--pool", "process", "--drain-timeout", "0.3", concurrency=2)
    job_id = app.ask("sleeps.delay('a', 600).id")
    app.evidence.wait_for("start", "a")
    children = children_of(worker.pid)
    worker.signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    job = app.job(job_id)
    assert (job["status"], job["retry_count"], job["errors"]) == ("pending", 0, [])
    assert len(job["interruptions"]) == 1
    assert all(map(is_gone, children))


def test_a_second_signal_ends_children_at_once(app):
    worker = app.worker("--pool", "process", concurrency=1)
    job_id = app.ask("sleeps.delay('a', 600).id")
    app.evidence.wait_for("start", "a")
    worker.signal(signal.SIGINT)
    worker.wait_for_log("stopping; running attempts get")
    worker.signal(signal.SIGINT)
    assert worker.wait(10) == 1
    job = app.job(job_id)
    assert (job["status"], job["retry_count"]) == ("pending", 0)
