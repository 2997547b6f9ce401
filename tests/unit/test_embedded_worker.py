"""``queue.worker()``: a worker for the time of a block."""

from __future__ import annotations

import asyncio
import threading

import pytest

from taskito import ConfigurationError, Queue, StorageError, WorkerError


@pytest.fixture
def queue(tmp_path):
    with Queue(db_path=tmp_path / "t.db", workers=1, drain_timeout=5) as queue:
        yield queue


def add(a: int, b: int) -> int:
    return a + b


def test_it_works_during_the_block(queue):
    task = queue.task("add")(add)
    with queue.worker() as worker:
        assert worker is not None
        assert len(queue.workers()) == 1
        assert task.delay(2, 3).result() == 5
    assert queue.workers() == []


def test_an_event_loop_goes_on_meanwhile(queue):
    """Started, running and draining, the worker never holds the loop for long."""
    started, release = threading.Event(), threading.Event()

    @queue.task()
    def wait() -> bool:
        started.set()
        return release.wait(20)

    async def main():
        longest, stopped = 0.0, asyncio.Event()

        async def watch():
            nonlocal longest
            loop = asyncio.get_running_loop()
            while not stopped.is_set():
                before = loop.time()
                await asyncio.sleep(0.01)
                longest = max(longest, loop.time() - before)

        watching = asyncio.create_task(watch())
        async with queue.worker():
            job = await wait.adelay()
            while not started.is_set():
                await queue.astats()
                await asyncio.sleep(0.01)
            asyncio.get_running_loop().call_later(0.3, release.set)
        assert await job
        stopped.set()
        await watching
        return longest

    # A step that waits for the job or for the drain takes 300 ms at least.
    assert asyncio.run(main()) < 0.25


def test_what_is_wrong_is_said_before_anything_starts(queue):
    with pytest.raises(ConfigurationError, match="pool"):
        queue.worker(pool="fibre")
    assert queue.workers() == []


def test_a_store_that_cannot_be_used_fails_the_block_at_its_beginning(queue, monkeypatch):
    embedded = queue.worker()

    def fail(schedules):
        raise StorageError("the disk is gone")

    monkeypatch.setattr(type(queue.backend), "put_schedules", lambda _self, s: fail(s))
    queue.periodic("0 0 * * *")(add)
    embedded = queue.worker()
    with pytest.raises(StorageError, match="the disk is gone"), embedded:
        pytest.fail("the block must not begin")


def test_a_worker_that_had_to_stop_is_told_at_the_end_but_hides_no_error(queue, monkeypatch):
    from taskito.worker import Worker
    from taskito.worker.state import WorkerPhase

    def broken(self):
        self._states.become(WorkerPhase.READY, "it runs")
        raise WorkerError("out of threads")

    monkeypatch.setattr(Worker, "run", broken)
    with pytest.raises(WorkerError, match="out of threads"), queue.worker():
        pass
    with pytest.raises(KeyError, match="mine"), queue.worker():
        raise KeyError("mine")

    async def main():
        async with queue.worker():
            pass

    with pytest.raises(WorkerError, match="out of threads"):
        asyncio.run(main())
