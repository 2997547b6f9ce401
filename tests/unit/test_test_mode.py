"""``queue.test_mode()``: tasks run where they are enqueued, and the store stays as it is."""

from __future__ import annotations

import asyncio
import threading

import pytest

from taskito import (
    JobCancelledError,
    MaxRetriesExceededError,
    Queue,
    Reject,
    Retry,
    Snooze,
    TaskCancelledError,
    TaskFailedError,
    TaskitoError,
    current_job,
)


@pytest.fixture
def queue(memory_queue):
    return memory_queue


def test_calls_run_at_once_and_are_recorded(queue):
    @queue.task("add")
    def add(a, b):
        return a + b

    with queue.test_mode() as recorded:
        job = add.delay(1, 2)
        assert job.status == "complete"
        assert job.result(timeout=0) == 3
        add.map([(1, 1), (2, 2)])
        queue.enqueue("add", (5, 5))
    assert [job.result(timeout=0) for job in recorded] == [3, 2, 4, 10]
    assert len(recorded) == len(recorded.calls(add)) == len(recorded.calls("add")) == 4
    assert recorded.calls("other") == []


def test_nothing_is_written_to_the_store(tmp_path):
    path = tmp_path / "folder" / "tasks.db"
    queue = Queue(db_path=path)

    @queue.task
    def add(a, b):
        return a + b

    with queue.test_mode():
        add.delay(1, 2)
        with queue.lock("a"):
            pass
        assert queue.stats()["completed"] == 1
    assert not path.parent.exists()
    assert queue.stats()["completed"] == 0
    queue.close()


def test_retries_follow_the_options_and_wait_for_nothing(queue):
    attempts = []

    @queue.task(max_retries=3, retry_backoff=3_600, max_retry_delay=100_000)
    def flaky():
        attempts.append(current_job.retry_count)
        if len(attempts) < 3:
            raise LookupError("not yet")
        return "done"

    with queue.test_mode():
        job = flaky.delay()
        assert job.result(timeout=0) == "done"
        assert [error["attempt"] for error in job.errors] == [0, 1]
    assert attempts == [0, 1, 2]


def test_an_exception_stays_in_the_job(queue):
    @queue.task(max_retries=1)
    def broken():
        raise LookupError("no")

    with queue.test_mode() as recorded:
        job = broken.delay()
    assert recorded.jobs == [job]
    assert job.status == "dead"
    with pytest.raises(MaxRetriesExceededError, match="LookupError: no"):
        job.result(timeout=0)


def test_snooze_retry_reject_and_cancel_steer(queue):
    seen = []

    @queue.task(max_retries=1)
    def steered(how):
        seen.append(how)
        if seen.count(how) > 1:
            return "second"
        raise {"snooze": Snooze(3_600), "retry": Retry(delay=3_600), "reject": Reject("no")}[how]

    @queue.task
    def stopped():
        raise JobCancelledError("enough")

    with queue.test_mode():
        assert steered.delay("snooze").result(timeout=0) == "second"
        assert steered.delay("retry").result(timeout=0) == "second"
        with pytest.raises(TaskFailedError, match="no"):
            steered.delay("reject").result(timeout=0)
        with pytest.raises(TaskCancelledError, match="enough"):
            stopped.delay().result(timeout=0)


def test_delays_and_dependencies_are_followed_in_order(queue):
    order = []

    @queue.task
    def note(name):
        order.append(name)

    with queue.test_mode():
        first = note.apply_async(("first",), delay=86_400)
        note.apply_async(("second",), depends_on=[first])
    assert order == ["first", "second"]


def test_a_task_may_enqueue_and_wait_for_it(queue):
    @queue.task
    def inner(n):
        return n + 1

    @queue.task
    def outer(n):
        return inner.delay(n).result(timeout=5) * 10

    with queue.test_mode() as recorded:
        assert outer.delay(1).result(timeout=0) == 20
    assert len(recorded.calls(inner)) == 1


def test_blocks_nest(queue):
    @queue.task
    def work():
        return 1

    with queue.test_mode() as outer:
        work.delay()
        with queue.test_mode() as inner:
            work.delay(), work.delay()
            assert queue.stats()["completed"] == 2
        work.delay()
        assert queue.stats()["completed"] == 2
    assert (len(outer), len(inner)) == (2, 2)
    assert queue.stats()["completed"] == 0


def test_the_block_is_left_by_an_exception_too(queue):
    @queue.task
    def work():
        return 1

    with pytest.raises(ZeroDivisionError), queue.test_mode():
        raise ZeroDivisionError
    assert work.delay().status == "pending"


def test_other_threads_are_in_test_mode_too(queue):
    @queue.task
    def work(n):
        return n

    with queue.test_mode() as recorded:
        threads = [threading.Thread(target=work.delay, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        results = sorted(job.result(timeout=10) for job in recorded)
    assert results == list(range(8))


def test_coroutines_as_tasks_and_as_callers(queue):
    @queue.task
    async def work(n):
        await asyncio.sleep(0)
        return n + 1

    async def main():
        first = await work.adelay(1)
        second = work.delay(2)
        return await first, await second

    with queue.test_mode():
        assert work.delay(0).result(timeout=0) == 1
        assert asyncio.run(main()) == (2, 3)


def test_hooks_and_progress_work(queue):
    called = []

    @queue.before_task
    def before(name, args, kwargs):
        called.append((name, args))

    @queue.task("work", bind=True)
    def work(job, n):
        job.update_progress(n)
        job.log("here")

    with queue.test_mode():
        assert work.delay(40).progress == 40
    assert called == [("work", [40])]


def test_a_remote_task_stays_pending(queue):
    remote = queue.remote_task("elsewhere")
    with queue.test_mode() as recorded:
        assert remote.delay(1).status == "pending"
    assert len(recorded) == 1


def test_a_duplicate_is_not_recorded_twice(queue):
    with queue.test_mode() as recorded:
        remote = queue.remote_task("elsewhere")
        first = remote.apply_async(unique_key="k")
        assert remote.apply_async(unique_key="k") == first
    assert recorded.jobs == [first]


def test_a_task_without_end_is_stopped(queue):
    @queue.task
    def forever():
        raise Snooze(1)

    with queue.test_mode(), pytest.raises(TaskitoError, match="without end"):
        forever.delay()
