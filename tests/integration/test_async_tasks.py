"""``async def`` tasks on the event loop of a worker."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from taskito import (
    MaxRetriesExceededError,
    Queue,
    SoftTimeoutError,
    TaskCancelledError,
    current_job,
)


@pytest.fixture(params=["sqlite", "memory"])
def queue(request, tmp_path):
    place = (
        {"backend": "memory://"} if request.param == "memory" else {"db_path": tmp_path / "t.db"}
    )
    with Queue(workers=1, drain_timeout=5, default_retry=0, **place) as queue:
        yield queue


class Meeting:
    """Counts coroutines that are inside it, and lets them go together."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.opened = threading.Event()

    async def attend(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        while not self.opened.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.005)
        self.inside -= 1


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_as_many_are_under_way_as_asked_for_and_no_more(queue):
    meeting = Meeting()

    @queue.task()
    async def attend(n: int) -> int:
        await meeting.attend()
        return n

    with queue.worker(async_concurrency=50):
        jobs = attend.map([(n,) for n in range(120)])
        until(lambda: meeting.inside == 50)
        time.sleep(0.05)
        assert meeting.inside == 50
        meeting.opened.set()
        assert [job.result() for job in jobs] == list(range(120))
    assert meeting.most == 50


def test_the_pool_async_gives_its_concurrency_to_coroutines(queue):
    meeting = Meeting()

    @queue.task()
    async def attend() -> None:
        await meeting.attend()

    with queue.worker(pool="async", concurrency=7):
        jobs = attend.map([()] * 20)
        until(lambda: meeting.inside == 7)
        meeting.opened.set()
        for job in jobs:
            job.result()
    assert meeting.most == 7


def test_functions_and_coroutines_do_not_wait_for_each_other(queue):
    meeting = Meeting()

    @queue.task()
    async def attend() -> None:
        await meeting.attend()

    @queue.task()
    def add(a: int, b: int) -> tuple[int, str]:
        return a + b, threading.current_thread().name

    with queue.worker(async_concurrency=3):
        waiting = attend.map([()] * 10)
        until(lambda: meeting.inside == 3)
        results = [job.result() for job in add.map([(n, 1) for n in range(20)])]
        assert [total for total, _ in results] == list(range(1, 21))
        assert {name for _, name in results} == {"taskito-0"}
        meeting.opened.set()
        for job in waiting:
            job.result()


def test_each_coroutine_has_its_own_current_job(queue):
    meeting = Meeting()

    @queue.task()
    async def report(n: int) -> tuple[str, int]:
        current_job.update_progress(n)
        await meeting.attend()
        return current_job.id, current_job.metadata["n"]

    with queue.worker():
        jobs = [report.apply_async((n,), metadata={"n": n}) for n in range(30)]
        until(lambda: meeting.inside == 30)
        meeting.opened.set()
        assert [job.result() for job in jobs] == [(job.id, n) for n, job in enumerate(jobs)]
    assert [job.refresh().progress for job in jobs] == list(range(30))


def test_a_cancelled_job_is_cancelled_in_its_coroutine(queue):
    meeting = Meeting()
    seen = []

    @queue.task()
    async def attend() -> None:
        try:
            await meeting.attend()
        except asyncio.CancelledError as error:
            seen.append(str(error))
            raise

    with queue.worker():
        one, other = attend.map([(), ()])
        until(lambda: meeting.inside == 2)
        assert queue.cancel_running_job(one.id)
        with pytest.raises(TaskCancelledError, match="cancelled by request while running"):
            one.result()
        assert seen == ["cancelled by request while running"]
        meeting.opened.set()
        assert other.result() is None


def test_a_timeout_cancels_the_coroutine_and_gives_its_place_to_another(queue, caplog):
    ended = threading.Event()

    @queue.task(timeout=0.2)
    async def sleepy() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    @queue.task()
    async def quick() -> str:
        return "done"

    with queue.worker(async_concurrency=1):
        late = sleepy.delay()
        with pytest.raises(MaxRetriesExceededError, match="200 ms"):
            late.result()
        assert ended.wait(20)
        assert [quick.delay().result() for _ in range(5)] == ["done"] * 5
    assert late.errors[0]["kind"] == "timeout"


def test_a_soft_timeout_lets_function_and_coroutine_clean_up(queue):
    @queue.task(soft_timeout=0.1)
    async def coroutine() -> str:
        try:
            await asyncio.sleep(60)
        except SoftTimeoutError:
            await asyncio.sleep(0)
            return "coroutine"

    @queue.task(soft_timeout=0.1)
    def function() -> str:
        try:
            while True:
                sum(range(100))
        except SoftTimeoutError:
            return "function"

    @queue.task(soft_timeout=0.1, max_retries=1, retry_delays=[0], retry_jitter=False)
    async def careless() -> None:
        await asyncio.sleep(60)

    with queue.worker():
        assert [coroutine.delay().result(), function.delay().result()] == ["coroutine", "function"]
        job = careless.delay()
        with pytest.raises(MaxRetriesExceededError, match="soft_timeout"):
            job.result()
    assert [error["kind"] for error in job.errors] == ["timeout", "timeout"]


def test_whoever_blocks_the_loop_is_named(queue, caplog):
    caplog.set_level(logging.WARNING, "taskito.worker")
    named = threading.Event()

    class Watch(logging.Handler):
        def emit(self, record):
            if "blocked the event loop" in record.getMessage():
                named.set()

    watch = Watch()
    logging.getLogger("taskito.worker").addHandler(watch)

    @queue.task(name="app.stubborn")
    async def stubborn() -> bool:
        return named.wait(20)

    @queue.task()
    async def polite() -> None:
        await asyncio.sleep(0)

    try:
        with queue.worker():
            job = stubborn.delay()
            others = polite.map([()] * 3)
            assert job.result()
            for other in others:
                other.result()
    finally:
        logging.getLogger("taskito.worker").removeHandler(watch)
    [message] = [text for text in caplog.messages if "blocked the event loop" in text]
    assert f"task 'app.stubborn' (job {job.id})" in message
    assert "named.wait(20)" in message


@pytest.mark.parametrize("drain", [5, 0.1])
def test_a_stopping_worker_waits_for_coroutines_and_then_gives_them_back(queue, drain):
    meeting = Meeting()
    cancelled = threading.Event()

    @queue.task()
    async def attend() -> str:
        try:
            await meeting.attend()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "stayed"

    with queue.worker(drain_timeout=drain):
        job = attend.delay()
        until(lambda: meeting.inside == 1)
        if drain == 5:
            meeting.opened.set()
    if drain == 5:
        assert job.result(timeout=0) == "stayed"
    else:
        assert cancelled.wait(20)
        record = job.refresh()
        assert (record.status, record.to_dict()["retry_count"]) == ("pending", 0)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, MemoryError, RecursionError, GeneratorExit]
)
def test_whatever_a_coroutine_raises_is_a_failure_of_its_job_only(queue, error):
    @queue.task()
    async def bad() -> None:
        await asyncio.sleep(0)
        raise error("out")

    @queue.task()
    async def good() -> int:
        return 5

    with queue.worker():
        job = bad.delay()
        with pytest.raises(MaxRetriesExceededError, match=error.__name__):
            job.result()
        assert good.delay().result() == 5


def test_a_coroutine_that_ignores_its_cancellation_does_not_stop_the_rest(queue):
    release = threading.Event()

    @queue.task(timeout=0.1)
    async def deaf() -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    @queue.task()
    async def quick() -> str:
        return "done"

    with queue.worker(async_concurrency=2):
        job = deaf.delay()
        with pytest.raises(MaxRetriesExceededError):
            job.result()
        assert [quick.delay().result() for _ in range(5)] == ["done"] * 5
        release.set()


def test_tasks_enqueue_and_await_other_tasks(queue):
    @queue.task()
    async def leaf(n: int) -> int:
        return n * n

    @queue.task()
    async def root(n: int) -> int:
        jobs = [await leaf.adelay(i) for i in range(n)]
        return sum([await job for job in jobs])

    with queue.worker():
        assert root.delay(10).result() == sum(i * i for i in range(10))


def test_a_loop_that_is_about_to_end_is_waited_for(queue, caplog, monkeypatch):
    from taskito.worker.loop_executor import LoopExecutor

    caplog.set_level(logging.WARNING, "taskito.worker")
    close = LoopExecutor._close

    def close_slowly(self, loop):
        # Closed, and not yet at the end of its thread.
        close(self, loop)
        time.sleep(0.2)

    monkeypatch.setattr(LoopExecutor, "_close", close_slowly)

    @queue.task()
    async def quick() -> str:
        return "done"

    with queue.worker():
        assert quick.delay().result() == "done"
    assert caplog.messages == []
