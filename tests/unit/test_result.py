"""``JobResult``: fresh state, and results that wake whoever waits."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import msgpack
import pytest

from taskito import (
    JobNotFoundError,
    MaxRetriesExceededError,
    Queue,
    QueueClosedError,
    ResultTimeoutError,
    SerializationError,
    StorageError,
    TaskCancelledError,
    TaskFailedError,
)
from taskito.backends import params
from taskito.backends.memory import MemoryBackend


@pytest.fixture
def queue(memory_queue):
    @memory_queue.task("add", max_retries=1)
    def add(a: int, b: int) -> int:
        return a + b

    return memory_queue


@pytest.fixture
def worker(queue, hand_worker):
    return hand_worker(queue)


def packed(value):
    return msgpack.packb(value)


def in_background(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def test_a_finished_job_has_its_result(queue, worker):
    job = queue.enqueue("add", (2, 3))
    [claimed] = worker.claim()
    assert msgpack.unpackb(claimed.payload) == [[2, 3], {}]
    assert job.status == "running"
    worker.succeed(claimed, packed(5))
    assert job.status == "complete"
    assert job.result(timeout=0) == 5
    assert job.result() == 5
    assert queue.get_job(job.id).result() == 5


def test_none_is_a_result(queue, worker):
    job = queue.enqueue("add", (2, 3))
    worker.succeed(worker.claim()[0], packed(None))
    assert job.result(timeout=0) is None


def test_the_status_is_always_fresh(queue, worker):
    job = queue.enqueue("add", (2, 3))
    assert job.status == "pending"
    [claimed] = worker.claim()
    assert job.status == "running"
    worker.retry(claimed, ValueError("no"))
    assert job.status == "failed"
    assert job.waiting_on == "retry"
    assert job.error == "ValueError: no"
    assert queue.cancel_job(job.id)
    assert job.status == "cancelled"
    assert job.error == "cancelled by request"


def test_a_waiting_thread_is_woken(queue, worker):
    job = queue.enqueue("add", (2, 3))
    results = []
    thread = in_background(lambda: results.append(job.result(timeout=30, poll_interval=20)))
    [claimed] = worker.claim()
    worker.succeed(claimed, packed(5))
    thread.join(20)
    assert results == [5]


def test_many_callers_share_one_waiting_thread(queue, worker):
    jobs = queue.enqueue_many("add", [(i, i) for i in range(50)])
    others = set(threading.enumerate())
    results = {}

    def wait(job):
        results[job.id] = job.result(timeout=30)

    threads = [in_background(wait, job) for job in jobs]
    while len(queue._connection.waiter._waiting) < len(jobs):
        time.sleep(0.001)
    new = [thread.name for thread in threading.enumerate() if thread not in others]
    assert new.count("taskito-waiter") == 1
    for index, claimed in enumerate(worker.claim(50)):
        worker.succeed(claimed, packed(index))
    for thread in threads:
        thread.join(30)
    assert sorted(results.values()) == list(range(50))


def test_the_waiting_thread_ends_when_nobody_waits(queue, worker, monkeypatch):
    monkeypatch.setattr("taskito.waiter._LINGER", 0.0)
    job = queue.enqueue("add", (2, 3))
    with pytest.raises(ResultTimeoutError):
        job.result(timeout=0.01)
    thread = queue._connection.waiter._thread
    if thread is not None:
        thread.join(10)
    assert queue._connection.waiter._thread is None
    worker.succeed(worker.claim()[0], packed(5))
    assert job.result() == 5


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_timeout_says_what_the_job_waits_for(hand_worker, timeout):
    with Queue(backend="memory://") as queue:
        queue.remote_task("elsewhere")
        job = queue.enqueue("elsewhere")
        with pytest.raises(ResultTimeoutError, match="no worker knows this task") as caught:
            job.result(timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
        assert job.id in str(caught.value)
        hand_worker(queue)
        with pytest.raises(ResultTimeoutError) as caught:
            job.result(timeout=timeout)
        assert "waits for" not in str(caught.value)


def remote_error():
    try:
        int("seven")
    except ValueError as error:
        return error


def test_a_job_without_retries_left_says_so(queue, worker):
    job = queue.enqueue("add", (2, 3), max_retries=0)
    worker.bury(worker.claim()[0], remote_error())
    with pytest.raises(MaxRetriesExceededError, match="ValueError: invalid literal") as caught:
        job.result()
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert error.job_id == job.id
    assert error.error_type == "ValueError"
    assert 'int("seven")' in error.remote_traceback
    assert 'int("seven")' in "".join(error.__notes__)
    assert "after 1 failed attempt:" in str(error)
    assert job.status == "dead"


def test_a_job_that_cannot_succeed_has_failed_without_its_retries(queue, worker):
    job = queue.enqueue("add", (2, 3))
    worker.bury(worker.claim()[0], ValueError("hopeless"), params.ErrorKind.REJECTED)
    with pytest.raises(TaskFailedError, match="hopeless") as caught:
        job.result()
    assert not isinstance(caught.value, MaxRetriesExceededError)


def test_errors_have_one_entry_for_each_attempt(queue, worker):
    job = queue.enqueue("add", (2, 3))
    worker.retry(worker.claim()[0], ValueError("first"), delay_ms=0)
    queue.backend.maintain(100)
    worker.bury(worker.claim()[0], OSError("second"))
    errors = job.errors
    assert [(error["attempt"], error["error"]) for error in errors] == [
        (0, "ValueError: first"),
        (1, "OSError: second"),
    ]
    assert all(error["job_id"] == job.id and error["kind"] == "failure" for error in errors)
    assert len({error["id"] for error in errors}) == 2
    assert all(isinstance(error["failed_at"], int) for error in errors)
    assert errors == queue.job_errors(job.id)
    assert job.to_dict()["retry_count"] == 1
    with pytest.raises(MaxRetriesExceededError, match="after 2 failed attempts"):
        job.result()


def test_an_interruption_is_no_error(queue, worker):
    job = queue.enqueue("add", (2, 3))
    worker.settle(worker.claim()[0], params.OutcomeRelease(interrupted=True))
    assert job.errors == []
    assert job.error is None
    assert [error["kind"] for error in queue.job_errors(job.id, interruptions=True)] == [
        "interrupted"
    ]


def test_a_cancelled_job_raises_its_reason(queue):
    job = queue.enqueue("add", (2, 3))
    waiting = threading.Event()
    caught = []

    def wait():
        waiting.set()
        try:
            job.result()
        except TaskCancelledError as error:
            caught.append(error)

    thread = in_background(wait)
    waiting.wait()
    queue.cancel_job(job.id)
    thread.join(20)
    assert caught[0].job_id == job.id
    assert "cancelled by request" in str(caught[0])


def test_a_result_of_an_unaccepted_serializer_is_not_decoded(queue, worker):
    job = queue.enqueue("add", (2, 3))
    worker.succeed(worker.claim()[0], b"cos\nsystem\n", serializer="pickle")
    with pytest.raises(SerializationError, match=r"'pickle'.*accept="):
        job.result()


def test_a_purged_job_is_not_found(queue, worker):
    job = queue.enqueue("add", (2, 3))
    worker.succeed(worker.claim()[0], packed(5))
    assert job.refresh() is job
    assert queue.purge_completed(older_than=0) == 1
    assert queue.get_job(job.id) is None
    for use in (job.refresh, job.result, job.to_dict, lambda: job.status, lambda: job.errors):
        with pytest.raises(JobNotFoundError, match=job.id) as caught:
            use()
        assert isinstance(caught.value, KeyError)


def test_to_dict_has_everything(queue, worker):
    job = queue.enqueue("add", (2, 3), priority=5, unique_key="k", metadata={"a": [1]}, timeout=2)
    found = job.to_dict()
    assert " ".join(found) == (
        "id queue task_name status priority progress retry_count max_retries created_at "
        "scheduled_at started_at completed_at error timeout_ms unique_key metadata namespace"
    )
    assert found["priority"] == 5
    assert found["unique_key"] == "k"
    assert found["metadata"] == job.metadata == {"a": [1]}
    assert found["timeout_ms"] == 2000
    assert found["namespace"] == "default"
    assert found["completed_at"] is None
    worker.succeed(worker.claim()[0], packed(5))
    assert job.to_dict()["completed_at"] >= found["created_at"]


def test_dependencies_are_visible_from_both_ends(queue):
    parent = queue.enqueue("add", (1, 1))
    child = queue.enqueue("add", (1, 1), depends_on=parent)
    assert child.dependencies == [parent.id]
    assert parent.dependents == [child.id]
    assert child.waiting_on == "dependencies"


def test_waiting_on_names_the_hindrance(queue, hand_worker):
    job = queue.enqueue("add")
    assert job.waiting_on == "no worker knows this task"
    hand_worker(queue, ("other",))
    assert job.waiting_on == "no worker knows this task"
    worker = hand_worker(queue)
    assert job.waiting_on is None
    queue.pause()
    assert job.waiting_on == "paused"
    queue.resume()
    assert queue.enqueue("add", delay=60).waiting_on == "delay"
    worker.claim()
    assert job.waiting_on is None


@pytest.mark.parametrize(
    "wrong", [{"timeout": -1}, {"poll_interval": 0}, {"max_poll_interval": "x"}, {"timeout": True}]
)
def test_wrong_times_are_refused(queue, wrong):
    job = queue.enqueue("add")
    with pytest.raises(ValueError, match=next(iter(wrong))):
        job.result(**wrong)


def test_closing_the_queue_ends_the_waiting(queue):
    job = queue.enqueue("add")
    caught = []

    def wait():
        try:
            job.result(timeout=None)
        except QueueClosedError as error:
            caught.append(error)

    thread = in_background(wait)
    while not queue._connection.waiter._waiting:
        time.sleep(0.001)
    queue.close()
    thread.join(20)
    assert caught
    with pytest.raises(QueueClosedError):
        job.result()


class Failing(MemoryBackend):
    """Reads fail once ``broken`` is set."""

    broken = False

    def get(self, ids):
        if self.broken:
            raise StorageError("the disk is on fire")
        return super().get(ids)


def test_what_the_store_raises_reaches_who_waits():
    backend = Failing()
    queue = Queue(backend=backend)
    job = queue.remote_task("x").delay()
    caught = []

    def wait():
        try:
            job.result()
        except StorageError as error:
            caught.append(error)

    thread = in_background(wait)
    while not queue._connection.waiter._waiting:
        time.sleep(0.001)
    backend.broken = True
    thread.join(20)
    assert "on fire" in str(caught[0])
    backend.broken = False
    queue.close()
    backend.close()


def test_jobs_are_equal_by_id_within_a_queue(queue):
    job = queue.enqueue("add")
    assert job == queue.get_job(job.id)
    assert len({job, queue.get_job(job.id)}) == 1
    assert job != queue.enqueue("add")
    assert job.id in repr(job)


# In coroutines ------------------------------------------------------------------------------------


def test_coroutines_wait_without_a_thread_each(queue, worker):
    # Threads of queues that other tests have left behind end a moment later.
    others = set(threading.enumerate())

    async def main():
        jobs = await queue.aenqueue_many("add", [(i, i) for i in range(200)])
        waiting = [asyncio.ensure_future(job.aresult(timeout=30)) for job in jobs]
        await asyncio.sleep(0)
        while len(queue._connection.waiter._waiting) < len(jobs):  # noqa: ASYNC110 - threads change it
            await asyncio.sleep(0.001)
        threads = [t for t in threading.enumerate() if t.name.startswith("taskito-")]
        assert len([thread for thread in threads if thread not in others]) <= 9
        for index, claimed in enumerate(worker.claim(200)):
            worker.succeed(claimed, packed(index))
        return await asyncio.gather(*waiting)

    assert sorted(asyncio.run(main())) == list(range(200))


def test_a_job_can_be_awaited(queue, worker):
    async def main():
        job = await queue.tasks["add"].adelay(1, 2)
        worker.succeed(worker.claim()[0], packed(3))
        return await job, await job.aresult(timeout=0)

    assert asyncio.run(main()) == (3, 3)


def test_coroutines_get_the_same_errors(queue, worker):
    async def main():
        job = await queue.aenqueue("add")
        for timeout in (0, 0.01):
            with pytest.raises(ResultTimeoutError, match=job.id):
                await job.aresult(timeout=timeout)
        worker.bury(worker.claim()[0], ValueError("no"))
        with pytest.raises(TaskFailedError, match="no"):
            await job

    asyncio.run(main())


def test_a_cancelled_wait_leaves_nothing_behind(queue):
    async def main():
        job = await queue.aenqueue("add")
        waiting = asyncio.ensure_future(job.aresult(timeout=None))
        while not queue._connection.waiter._waiting:  # noqa: ASYNC110 - threads change it
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not queue._connection.waiter._waiting

    asyncio.run(main())


def test_a_loop_that_was_closed_disturbs_nobody(queue, worker):
    async def give_up():
        job = await queue.aenqueue("add")
        waiter = queue._connection.waiter
        abandoned = asyncio.ensure_future(job.aresult(timeout=None))
        while not waiter._waiting:  # noqa: ASYNC110 - threads change it
            await asyncio.sleep(0.001)
        assert not abandoned.done()

    asyncio.run(give_up())
    job = queue.enqueue("add")
    for claimed in worker.claim(2):
        worker.succeed(claimed, packed(1))
    assert job.result() == 1


# In processes -------------------------------------------------------------------------------------

ABANDONED = """
import threading, time
from taskito import Queue
queue = Queue(backend="memory://")
job = queue.remote_task("x").delay()
threading.Thread(target=job.result, kwargs={"timeout": None}, daemon=True).start()
while not queue._connection.waiter._waiting:
    time.sleep(0.001)
"""


@pytest.mark.process
def test_a_process_ends_in_silence_while_somebody_waits():
    done = subprocess.run(
        [sys.executable, "-c", ABANDONED], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


INTERRUPTED = """
from taskito import Queue
queue = Queue(backend="memory://")
job = queue.remote_task("x").delay()
print("waiting", flush=True)
try:
    job.result(timeout=None)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.process
def test_ctrl_c_interrupts_the_waiting():
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGINT)
        assert process.communicate(timeout=20)[0] == "interrupted\n"
