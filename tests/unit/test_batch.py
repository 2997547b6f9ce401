"""``batch=Batch(...)``: many jobs of a task in one call of its function."""

from __future__ import annotations

import asyncio
import threading

import pytest

from taskito import (
    Batch,
    ConfigurationError,
    MaxRetriesExceededError,
    Queue,
    Reject,
    Retry,
    SoftTimeoutError,
    TaskFailedError,
    current_job,
)
from taskito.worker.batching import Batcher
from taskito.worker.soft_timeout import SoftTimeouts


@pytest.fixture(params=["memory", "sqlite"])
def queue(request, tmp_path):
    place = (
        {"backend": "memory://"} if request.param == "memory" else {"db_path": tmp_path / "t.db"}
    )
    with Queue(workers=1, drain_timeout=5, default_retry=0, **place) as queue:
        yield queue


def batcher(function, size=3, wait=60.0, **options):
    settings = {"most": 100, "soft_timeout": None, "soft_timeouts": SoftTimeouts(), **options}
    return Batcher("t", function, Batch(size, wait), **settings)


def gather(function, items, **options):
    async def main():
        one = batcher(function, **options)
        return await asyncio.gather(*map(one.add, items), return_exceptions=True)

    return asyncio.run(main())


def test_full_batches_do_not_wait():
    calls = []

    def double(items):
        calls.append(items)
        return [2 * item for item in items]

    assert gather(double, range(6)) == [0, 2, 4, 6, 8, 10]
    assert sorted(calls) == [[0, 1, 2], [3, 4, 5]]


def test_a_batch_that_does_not_fill_goes_when_its_first_item_has_waited():
    calls = []

    async def collect(items):
        calls.append(items)

    assert gather(collect, "ab", size=100, wait=0.05) == [None, None]
    assert calls == [["a", "b"]]


def test_no_more_come_together_than_can_be_under_way():
    assert gather(len_of_each, ["a"] * 4, size=100, most=4) == [4] * 4


def len_of_each(items):
    return [len(items)] * len(items)


def test_a_cancelled_item_is_not_in_the_call():
    calls = []

    async def main():
        one = batcher(calls.append, size=2)
        first = asyncio.create_task(one.add("first"))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, one.add("second"), one.add("third"), return_exceptions=True)

    asyncio.run(main())
    assert calls == [["second", "third"]]


@pytest.mark.parametrize(
    ("results", "error", "message"),
    [
        ([1, 2], ValueError, "returned 2 results for 3 items"),
        ("abc", TypeError, "has to return a list .* it returned str"),
    ],
)
def test_results_that_do_not_fit_fail_all_of_them(results, error, message):
    outcomes = gather(lambda _items: results, range(3))
    assert [type(outcome) for outcome in outcomes] == [error] * 3
    with pytest.raises(error, match=message):
        raise outcomes[0]


def test_a_soft_timeout_is_of_the_call():
    def spin(items):
        while True:
            sum(range(100))

    async def sleep(items):
        try:
            await asyncio.sleep(60)
        except SoftTimeoutError:
            return ["some"] * len(items)

    assert {type(out) for out in gather(spin, range(3), soft_timeout=0.05)} == {SoftTimeoutError}
    assert gather(sleep, range(3), soft_timeout=0.05) == ["some"] * 3


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_jobs_run_in_batches_and_each_has_its_own_end(queue, kind):
    sizes = []

    def outcomes(numbers):
        sizes.append(len(numbers))
        with pytest.raises(RuntimeError, match="inside a running task only"):
            _ = current_job.id
        return [ValueError(n) if n % 5 == 0 else Reject("no") if n == 7 else -n for n in numbers]

    async def outcomes_async(numbers):
        await asyncio.sleep(0)
        return outcomes(numbers)

    function = outcomes if kind == "function" else outcomes_async
    task = queue.task("negate", batch=Batch(size=10, wait=0.2))(function)
    with queue.worker():
        jobs = task.map([(n,) for n in range(1, 31)])
        for n, job in enumerate(jobs, 1):
            if n % 5 == 0:
                with pytest.raises(MaxRetriesExceededError, match="ValueError"):
                    job.result()
            elif n == 7:
                with pytest.raises(TaskFailedError, match="no"):
                    job.result()
            else:
                assert job.result() == -n
    assert sum(sizes) == 30
    assert max(sizes) == 10


def test_one_item_is_retried_alone(queue):
    seen = []

    @queue.task(batch=Batch(size=3, wait=0.1), max_retries=1)
    def work(items: list[str]) -> list[str]:
        seen.append(sorted(items))
        return [Retry(delay=0) if item == "b" and len(seen) == 1 else item for item in items]

    with queue.worker():
        assert [job.result() for job in work.map([("a",), ("b",), ("c",)])] == ["a", "b", "c"]
    assert seen == [["a", "b", "c"], ["b"]]


def test_an_error_of_the_call_is_that_of_every_item(queue):
    @queue.task(batch=Batch(size=3, wait=0.1))
    def broken(items: list[int]) -> None:
        raise OSError("no index")

    with queue.worker():
        for job in broken.map([(n,) for n in range(3)]):
            with pytest.raises(MaxRetriesExceededError, match="no index"):
                job.result()


def test_a_call_with_other_arguments_is_rejected(queue):
    @queue.task(batch=Batch(size=3, wait=0))
    def work(items: list[int]) -> None: ...

    with queue.worker():
        job = queue.enqueue(work.name, (1, 2))
        with pytest.raises(TaskFailedError, match="one positional argument, and this one has 2"):
            job.result()
        assert job.errors[0]["kind"] == "rejected"


def test_a_stopping_worker_lets_a_waiting_batch_run(queue):
    calls = []
    started = threading.Event()
    queue.before_task(lambda *_: started.set())

    @queue.task(batch=Batch(size=100, wait=0.3))
    def work(items: list[int]) -> None:
        calls.append(items)

    with queue.worker():
        job = work.delay(1)
        assert started.wait(20)
    assert (calls, job.status) == ([[1]], "complete")


def test_the_loop_goes_on_while_a_plain_function_runs(queue):
    release = threading.Event()

    @queue.task(batch=Batch(size=1))
    def slow(items: list[int]) -> list[bool]:
        return [release.wait(20)]

    @queue.task()
    async def quick() -> str:
        release.set()
        return "quick"

    with queue.worker():
        waiting = slow.delay(1)
        assert quick.delay().result() == "quick"
        assert waiting.result() is True


def test_it_can_be_called_directly_and_in_test_mode(queue):
    @queue.task(batch=Batch())
    def double(items: list[int]) -> list[int]:
        return [2 * item for item in items]

    @queue.task(batch=Batch())
    async def fail(items: list[int]) -> list[int | BaseException]:
        return [KeyError(item) for item in items]

    assert double(4) == 8
    with pytest.raises(KeyError):
        asyncio.run(fail(4))
    with queue.test_mode():
        assert double.delay(5).result() == 10


def test_what_cannot_be_is_refused():
    queue = Queue(backend="memory://")
    for wrong in ({"size": 0}, {"size": 2.5}, {"wait": -1}, {"wait": "soon"}):
        [field] = wrong
        with pytest.raises(ConfigurationError, match=f"batch: {field}"):
            Batch(**wrong)
    with pytest.raises(ConfigurationError, match=r"batch: 100 is not a Batch"):
        queue.task(batch=100)
    with pytest.raises(ConfigurationError, match="bind"):
        queue.task(batch=Batch(), bind=True)
