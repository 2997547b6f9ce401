"""A queue and the workers that it runs in this process."""

from __future__ import annotations

import asyncio
import threading

import pytest

from taskito import Queue, QueueClosedError, TaskFailedError, WorkerError


@pytest.fixture(params=["memory", "sqlite"])
def queue(request, tmp_path):
    place = (
        {"backend": "memory://"} if request.param == "memory" else {"db_path": tmp_path / "t.db"}
    )
    with Queue(workers=2, drain_timeout=5, **place) as queue:
        yield queue


@pytest.fixture
def running():
    """Start workers in threads, and see them end."""
    threads = []

    def start(queue, **options):
        thread = threading.Thread(target=queue.run_worker, kwargs=options)
        thread.start()
        threads.append((queue, thread))
        return thread

    yield start
    for queue, thread in threads:
        queue.shutdown()
        thread.join(20)
        assert not thread.is_alive()


def test_a_worker_runs_what_was_enqueued(queue, running):
    @queue.task()
    def add(a: int, b: int) -> int:
        return a + b

    @queue.task()
    async def multiply(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a * b

    early = add.delay(2, 3)
    thread = running(queue)
    assert early.result() == 5
    assert multiply.delay(2, 3).result() == 6
    assert [job.result() for job in add.map([(i, i) for i in range(20)])] == list(range(0, 40, 2))
    assert queue.stats()["completed"] == 22
    queue.shutdown()
    thread.join(20)
    assert not thread.is_alive()
    assert queue.workers() == []
    assert early.result() == 5


def test_queues_can_be_served_apart(queue, running):
    task = queue.task("x")(max)
    other = task.apply_async((1, 2), queue="other")
    default = task.delay(1, 2)
    running(queue, queues=["other"])
    assert other.result() == 2
    assert default.status == "pending"


def test_hooks_run_in_the_order_of_their_registration(queue, running):
    seen = []

    @queue.before_task
    def first(task_name, args, kwargs):
        seen.append(("first", task_name, list(args), dict(kwargs)))

    @queue.before_task
    def second(task_name, args, kwargs):
        seen.append("second")

    @queue.on_success
    def success(task_name, args, kwargs, result):
        seen.append(result)

    @queue.on_failure
    def failure(task_name, args, kwargs, error):
        seen.append(repr(error))

    @queue.after_task
    def after(task_name, args, kwargs, result, error):
        seen.append((result, type(error)))

    @queue.task("work", max_retries=0)
    def work(number: int, *, fail: bool = False) -> int:
        if fail:
            raise ValueError(number)
        return number

    running(queue)
    assert work.delay(1).result() == 1
    with pytest.raises(TaskFailedError, match="ValueError: 2"):
        work.delay(2, fail=True).result()
    assert seen == [
        ("first", "work", [1], {}),
        "second",
        1,
        (1, type(None)),
        ("first", "work", [2], {"fail": True}),
        "second",
        "ValueError(2)",
        (None, ValueError),
    ]


def test_closing_stops_the_workers(queue):
    queue.task("x")(max)
    threads = [threading.Thread(target=queue.run_worker) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(queue.workers()) < 2:
        threading.Event().wait(0.001)
    queue.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    with pytest.raises(QueueClosedError):
        queue.run_worker()


def test_workers_of_another_queue_go_on(running):
    with Queue(backend="memory://") as one, Queue(backend="memory://") as two:
        first, second = one.task("x")(max), two.task("x")(max)
        thread = running(one)
        running(two)
        assert first.delay(1, 2).result() == second.delay(1, 2).result() == 2
        one.shutdown()
        thread.join(20)
        assert second.delay(3, 4).result() == 4


def test_a_coroutine_runs_a_worker(queue):
    task = queue.task("x")(max)

    async def main():
        worker = asyncio.ensure_future(queue.arun_worker(concurrency=1))
        assert await (await task.adelay(1, 2)) == 2
        queue.shutdown()
        await worker
        cancelled = asyncio.ensure_future(queue.arun_worker())
        assert await (await task.adelay(3, 4)) == 4
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert await queue._connection.run(queue.workers) == []

    asyncio.run(main())


def test_what_stops_a_worker_reaches_who_runs_it(queue, monkeypatch):
    from taskito.worker import Worker

    def broken(self):
        raise WorkerError("the disk is gone")

    monkeypatch.setattr(Worker, "run", broken)
    with pytest.raises(WorkerError, match="the disk is gone"):
        queue.run_worker()
    with pytest.raises(WorkerError, match="the disk is gone"):
        asyncio.run(queue.arun_worker())
    assert queue._running == []
