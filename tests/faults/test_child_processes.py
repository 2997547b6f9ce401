"""The process pool: what dies in a child costs that job alone, and no child outlives its worker."""

from __future__ import annotations

import os
import signal

import pytest
from taskito_processes import wait_until
from taskito_processes.system import children_of, is_gone, open_descriptors

pytestmark = pytest.mark.process

TASKS = """
from taskito import current_job

def die(how):
    if how == "exit":
        os._exit(3)
    if how == "exit-well":
        os._exit(0)
    if how == "abort":
        os.abort()
    if how == "segfault":
        ctypes.string_at(0)
    if how == "close-the-pipe":
        os.closerange(3, 1000)
        time.sleep(600)
    os.kill(os.getpid(), getattr(signal, how))

@queue.task(max_retries=0)
def once(how):
    note("start", how)
    if is_first(how):
        die(how)
    return os.getpid()

@queue.task(max_retries=0, max_crashes=2)
def always(how):
    note("start", how)
    die(how)

@queue.task(max_retries=0)
def neighbour():
    note("start", "neighbour")
    wait_for_file("go")
    note("end", "neighbour")
    return os.getpid()

@queue.task(max_retries=1, retry_backoff=0, retry_jitter=False, timeout=0.3)
def overdue():
    note("start", "overdue")
    # Its own process and those that it has started, in C code that no exception reaches.
    child = os.fork()
    note("child", child)
    ctypes.CDLL(None).sleep(600)

@queue.task(max_retries=0, timeout=0.3)
def stopped():
    note("start", "stopped")
    os.kill(os.getpid(), signal.SIGSTOP)

@queue.task(max_retries=0)
def stubborn():
    note("start", "stubborn")
    ctypes.CDLL(None).sleep(600)

@queue.task(max_retries=0)
def greedy(megabytes):
    note("start", megabytes)
    kept = b"x" * (megabytes << 20)
    if megabytes > 200:
        time.sleep(600)
    return os.getpid()

@queue.task()
def pid():
    return os.getpid()

@queue.task(max_retries=0)
def sleeper(key):
    note("start", key)
    time.sleep(600)
"""

DEATHS = {
    "exit": "exited with status 3",
    "exit-well": "exited with status 0",
    "abort": "was killed by SIGABRT",
    "segfault": "was killed by SIGSEGV",
    "SIGKILL": "was killed by SIGKILL",
    "SIGUSR1": "was killed by SIGUSR1",
    "close-the-pipe": "closed its connection to the worker",
}


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
def test_a_child_that_dies_costs_its_job_one_crash_and_nobody_else_anything(application, options):
    app = application(TASKS)
    worker = app.worker("--pool", "process", *options, concurrency=2)
    neighbour = app.ask("neighbour.delay().id")
    [start] = app.evidence.wait_for("start", "neighbour")
    for how, told in DEATHS.items():
        job = app.wait_for_status(app.ask("once.delay(how).id", how=how), "complete")
        first, second = app.evidence.starts(how)
        assert first.pid != second.pid
        assert second.at - first.at < 2
        assert job["retry_count"] == 0
        [crash] = job["errors"]
        assert (crash["kind"], crash["error"]) == ("crash", f"child process {first.pid} {told}")
    app.create("go")
    assert app.wait_for_status(neighbour, "complete")["errors"] == []
    assert app.result(neighbour) == start.pid
    assert worker.is_alive()


def test_a_job_that_always_kills_its_child_ends_as_a_dead_letter(application):
    app = application(TASKS)
    worker = app.worker("--pool", "process")
    job = app.wait_for_status(app.ask("always.delay('segfault').id"), "dead")
    assert [error["kind"] for error in job["errors"]] == ["crash", "crash"]
    assert job["retry_count"] == 0
    after = app.ask("pid.delay().id")
    app.wait_for_status(after, "complete")
    assert worker.is_alive()


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
def test_at_its_timeout_a_job_is_killed_with_all_that_it_started(application, options):
    app = application(TASKS)
    # One at a time: a thread that is stuck would stop such a worker.
    worker = app.worker("--pool", "process", *options)
    job = app.wait_for_status(app.ask("overdue.delay().id"), "dead")
    assert [error["kind"] for error in job["errors"]] == ["timeout", "timeout"]
    first, second = app.evidence.starts("overdue")
    assert 0.3 <= second.at - first.at < 5
    killed = {event.pid for event in app.evidence.events("child")}
    assert len(killed) == 4
    wait_until(lambda: all(map(is_gone, killed)), 2, "the end of all that was started")
    app.wait_for_status(app.ask("pid.delay().id"), "complete")
    assert worker.is_alive()
    assert "stuck" not in worker.log()


def test_a_child_that_was_stopped_is_killed_at_the_timeout_of_its_job(application):
    app = application(TASKS)
    worker = app.worker("--pool", "process")
    job = app.wait_for_status(app.ask("stopped.delay().id"), "dead")
    assert [error["kind"] for error in job["errors"]] == ["timeout"]
    app.wait_for_status(app.ask("pid.delay().id"), "complete")
    wait_until(lambda: len(children_of(worker.pid)) == 1, 5, "one child, no zombie")


def test_a_cancelled_job_that_does_not_end_by_itself_is_killed(application):
    app = application(TASKS)
    worker = app.worker("--pool", "process")
    job_id = app.ask("stubborn.delay().id")
    [start] = app.evidence.wait_for("start", "stubborn")
    assert app.ask("queue.cancel_running_job(id)", id=job_id)
    job = app.wait_for_status(job_id, "cancelled", timeout=10)
    assert job["errors"] == []
    assert "its process was killed" in job["error"]
    wait_until(lambda: is_gone(start.pid), 2, "the end of the child")
    app.wait_for_status(app.ask("pid.delay().id"), "complete")
    assert worker.is_alive()


def test_a_job_beyond_the_memory_limit_is_killed_and_says_so(application):
    app = application(TASKS)
    worker = app.worker("--pool", "process", "--max-memory-per-child", "200M")
    job = app.wait_for_status(app.ask("greedy.delay(300).id"), "dead")
    [error] = job["errors"]
    assert error["kind"] == "failure"
    assert error["error"].startswith("MemoryError: child process")
    assert "max_memory_per_child is 200 MiB" in error["error"]
    app.wait_for_status(app.ask("pid.delay().id"), "complete")
    assert worker.is_alive()


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
def test_children_end_with_a_worker_that_is_killed(application, options):
    app = application(TASKS)
    worker = app.worker("--pool", "process", *options, concurrency=2)
    app.ask("sleeper.delay('a').id")
    [start] = app.evidence.wait_for("start", "a")
    children = set(children_of(worker.pid))
    children |= {pid for child in children for pid in children_of(child)}
    assert start.pid in children
    worker.kill()
    wait_until(lambda: all(map(is_gone, children)), 2, "the end of the children")


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("options", "count"), [((), 20), (("--preload",), 50)], ids=["plain", "preload"]
)
def test_many_replacements_leave_no_process_and_no_descriptor(application, options, count):
    app = application(TASKS)
    worker = app.worker("--pool", "process", *options, "--max-tasks-per-child", "1", concurrency=2)

    def run(count):
        ids = app.ask("[job.id for job in pid.map([()] * count)]", count=count)
        app.wait_for_stats(timeout=100, pending=0, running=0)
        return {app.result(job_id) for job_id in ids}

    def settled():
        children = children_of(worker.pid)
        expected = 1 if options else 2
        return len(children) == expected and "Z" not in children.values()

    run(4)
    wait_until(settled, 10, lambda: str(children_of(worker.pid)))
    before = open_descriptors(worker.pid)
    assert len(run(count)) == count
    wait_until(settled, 10, lambda: str(children_of(worker.pid)))
    if options:
        [template] = children_of(worker.pid)
        wait_until(lambda: len(children_of(template)) == 2, 10, "two children")
        assert "Z" not in children_of(template).values()
        assert open_descriptors(template) < 20
    wait_until(
        lambda: open_descriptors(worker.pid) <= before,
        10,
        lambda: f"{before} descriptors; there are {open_descriptors(worker.pid)}",
    )


def test_a_child_that_dies_idle_is_replaced_and_leaves_no_zombie(application):
    app = application(TASKS)
    worker = app.worker("--pool", "process")
    [child] = wait_until(lambda: children_of(worker.pid), 10, "a child")
    app.wait_for_status(app.ask("pid.delay().id"), "complete")
    os.kill(child, signal.SIGKILL)
    worker.wait_for_log(f"child process {child} was killed by SIGKILL while it had nothing to do")
    wait_until(lambda: child not in children_of(worker.pid), 5, "the zombie's end")
    job_id = app.ask("pid.delay().id")
    assert app.wait_for_status(job_id, "complete")["errors"] == []
    assert app.result(job_id) in children_of(worker.pid)


def test_a_template_that_dies_is_replaced(application):
    app = application(TASKS)
    worker = app.worker("--pool", "process", "--preload")
    [template] = children_of(worker.pid)
    os.kill(template, signal.SIGKILL)
    wait_until(lambda: template not in children_of(worker.pid), 10, "another template")
    app.wait_for_status(app.ask("pid.delay().id"), "complete")
    assert worker.is_alive()


def test_a_worker_whose_children_cannot_start_any_more_says_so_and_ends(application):
    app = application(TASKS + "\nif exists('broken'): raise ImportError('the module is broken')\n")
    worker = app.worker("--pool", "process")
    job_id = app.ask("always.delay('SIGKILL').id")
    app.create("broken")
    assert worker.wait(20) == 1
    assert "child processes cannot be started any more" in worker.log()
    assert "the module is broken" in worker.log()
    assert app.ask("queue.get_job(id).status", id=job_id) in {"failed", "pending", "dead"}


def test_signals_to_a_child_are_left_to_its_worker(application):
    app = application(TASKS)
    worker = app.worker("--pool", "process")
    job_id = app.ask("neighbour.delay().id")
    [start] = app.evidence.wait_for("start", "neighbour")
    os.kill(start.pid, signal.SIGTERM)
    os.kill(start.pid, signal.SIGINT)
    app.create("go")
    assert app.wait_for_status(job_id, "complete")["errors"] == []
    assert worker.is_alive()
