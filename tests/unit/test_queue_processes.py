"""A ``Queue`` before and after a fork, and at the end of its process."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.process


def run(program, cwd):
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(program)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


FORK = """
    import os
    from taskito import Queue
    queue = Queue(db_path="jobs.db")
    queue.remote_task("x")
    {before}
    child = os.fork()
    if not child:
        job = queue.enqueue("x")
        assert queue.get_job(job.id).status == "pending"
        queue.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    queue.enqueue("x")
    print(queue.stats()["pending"])
"""


@pytest.mark.parametrize(
    ("before", "jobs"), [("", "2\n"), ("queue.enqueue('x')", "3\n")], ids=["unused", "used"]
)
def test_a_queue_works_on_both_sides_of_a_fork(tmp_path, before, jobs):
    assert run(FORK.format(before=before), tmp_path) == jobs


def test_a_store_of_one_process_is_refused_in_its_child(tmp_path):
    program = """
        import os
        from taskito import Queue, QueueClosedError
        for place in ({"backend": "memory://"}, {"db_path": ":memory:"}):
            queue = Queue(**place)
            queue.remote_task("x").delay()
            child = os.fork()
            if not child:
                try:
                    queue.stats()
                except QueueClosedError as error:
                    os._exit("fork" not in str(error))
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert queue.stats()["pending"] == 1
    """
    run(program, tmp_path)


def test_a_store_in_memory_may_be_opened_first_in_a_child(tmp_path):
    program = """
        import os
        from taskito import Queue
        queue = Queue(backend="memory://")
        queue.remote_task("x")
        child = os.fork()
        if not child:
            queue.enqueue("x")
            os._exit(queue.stats()["pending"] != 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert queue.stats()["pending"] == 0
    """
    run(program, tmp_path)


def test_a_fork_while_another_thread_waits_does_no_harm(tmp_path):
    program = """
        import os, sys, threading, time
        from taskito import Queue, ResultTimeoutError
        queue = Queue(db_path="jobs.db")
        job = queue.remote_task("x").delay()
        threading.Thread(target=job.result, kwargs={"timeout": None}, daemon=True).start()
        while not queue._connection.waiter._waiting:
            time.sleep(0.001)
        for _ in range(5):
            child = os.fork()
            if not child:
                try:
                    queue.get_job(job.id).result(timeout=0.05)
                except ResultTimeoutError:
                    sys.exit(0)  # With everything that runs at the end of a process.
                sys.exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert job.status == "pending"
    """
    run(program, tmp_path)


def test_a_process_with_an_open_queue_ends_in_silence(tmp_path):
    program = """
        import asyncio
        from taskito import Queue
        queue = Queue(db_path="jobs.db")
        queue.remote_task("x")
        async def main():
            job = await queue.aenqueue("x")
            try:
                await job.aresult(timeout=0.01)
            except TimeoutError:
                print("timeout")
        asyncio.run(main())
    """
    assert run(program, tmp_path) == "timeout\n"


def test_jobs_of_another_process_are_seen(tmp_path):
    producer = """
        from taskito import Queue
        with Queue(db_path="jobs.db") as queue:
            print(queue.remote_task("x").delay().id)
    """
    job_id = run(producer, tmp_path).strip()
    reader = f"""
        from taskito import Queue
        with Queue(db_path="jobs.db") as queue:
            print(queue.get_job({job_id!r}).status, queue.list_jobs()[0].id == {job_id!r})
    """
    assert run(reader, tmp_path) == "pending True\n"
    assert (tmp_path / "jobs.db").stat().st_mode & 0o077 == 0
