"""The asynchronous twins."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

from taskito import ConfigurationError, JobNotFoundError, Queue
from taskito.backends.memory import MemoryBackend


@pytest.fixture
def queue(memory_queue):
    memory_queue.task("a")(max)
    return memory_queue


TWINS = [
    "enqueue",
    "enqueue_many",
    "get_job",
    "list_jobs",
    "stats",
    "dead_letters",
    "retry_dead",
    "cancel_job",
    "run_worker",
]


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_a_documented_coroutine_method(name):
    twin = getattr(Queue, f"a{name}")
    assert inspect.iscoroutinefunction(twin)
    assert twin.__name__ == f"a{name}"
    assert twin.__doc__


def test_twins_do_what_their_methods_do(queue, hand_worker):
    async def main():
        job = await queue.aenqueue("a", (1, 2), priority=3)
        assert job.to_dict()["priority"] == 3
        assert await queue.aget_job(job.id) == job
        assert await queue.aget_job("nonsense") is None
        batch = await queue.aenqueue_many("a", [(1,), (2,)])
        assert await queue.alist_jobs(limit=2) == list(reversed(batch))
        assert (await queue.astats())["pending"] == 3
        worker = hand_worker(queue)
        worker.bury(worker.claim()[0], ValueError("over"))
        [letter] = await queue.adead_letters()
        assert letter["id"] == job.id
        assert await queue.aretry_dead(job.id) != job.id
        assert await queue.acancel_job(batch[0].id) is True
        mapped = await queue.tasks["a"].aapply_async((1,), metadata={"k": 1})
        assert mapped.metadata == {"k": 1}

    asyncio.run(main())


def test_twins_raise_what_their_methods_raise(queue):
    async def main():
        with pytest.raises(ConfigurationError, match="priority"):
            await queue.aenqueue("a", priority=1000)
        with pytest.raises(JobNotFoundError):
            await queue.aretry_dead("nonsense")
        assert (await queue.astats())["pending"] == 0

    asyncio.run(main())


class Slow(MemoryBackend):
    """Operations wait for a barrier and count those that wait with them."""

    release: threading.Event
    inside = 0
    most = 0

    def enqueue(self, jobs):
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.release.wait(20)
        with self._lock:
            self.inside -= 1
        return super().enqueue(jobs)


def test_operations_share_eight_threads_and_leave_the_loop_free():
    backend = Slow()
    backend.release = threading.Event()
    queue = Queue(backend=backend)
    queue.task("a")(max)

    async def main():
        enqueuing = [asyncio.ensure_future(queue.aenqueue("a", (i,))) for i in range(50)]
        while backend.most < 8:  # noqa: ASYNC110 - threads change it
            await asyncio.sleep(0.001)
        assert not any(one.done() for one in enqueuing)
        backend.release.set()
        jobs = await asyncio.gather(*enqueuing)
        assert len({job.id for job in jobs}) == 50

    asyncio.run(main())
    assert backend.most == 8
    queue.close()
    backend.close()


def test_one_queue_serves_several_loops(queue):
    for _ in range(3):
        assert asyncio.run(queue.astats())["pending"] == 0
