"""Limits of tasks and queues, as the application says them."""

from __future__ import annotations

import threading
import time

import pytest

from taskito import ConfigurationError, Queue
from taskito.backends.params import LimitKind, LimitRecord, Rate


@pytest.fixture(params=["memory://", "sqlite://:memory:"])
def queue(request):
    with Queue(backend=request.param, workers=4) as queue:
        yield queue


@pytest.fixture
def running(queue):
    """Start a worker of the queue; it stops at the end."""

    def start():
        thread = threading.Thread(target=queue.run_worker, daemon=True)
        thread.start()
        deadline = time.monotonic() + 10
        while not queue.workers() and time.monotonic() < deadline:
            time.sleep(0.005)
        return thread

    yield start
    queue.shutdown()


def wait_for(condition, timeout=10):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_worker_announces_the_limits_of_its_tasks(queue, running):
    queue.task("rated", rate_limit="6/m burst 2")(lambda: None)
    queue.task("counted", max_concurrent=3, concurrency_key=lambda: "k")(lambda: None)
    queue.task("free")(lambda: None)
    running()
    assert list(queue.backend.limits()) == [
        LimitRecord(kind=LimitKind.TASK, name="counted", max_concurrent=3),
        LimitRecord(
            kind=LimitKind.TASK,
            name="rated",
            rate=Rate(count=6, period_ms=60_000, burst=2),
            tokens=2,
        ),
    ]


def test_the_key_is_made_from_the_arguments(queue):
    @queue.task(
        max_concurrent=1, concurrency_key=lambda customer, *, region="eu": region + customer
    )
    def bill(customer, *, region="eu"):
        del customer, region

    def key(job):
        return queue.backend.get([job.id])[0].concurrency_key

    assert key(bill.delay("ann")) == "euann"
    assert key(bill.delay("ann", region="us")) == "usann"
    assert [key(job) for job in bill.map([("a",), ("b",)])] == ["eua", "eub"]
    assert key(queue.enqueue(bill.name, ("eve",))) == "eueve"


def test_a_text_is_one_key_for_all_and_none_is_no_key(queue):
    @queue.task("fixed", max_concurrent=1, concurrency_key="all")
    def fixed():
        pass

    @queue.task("open", max_concurrent=1, concurrency_key=lambda: None)
    def open_task():
        pass

    jobs = queue.backend.get([fixed.delay().id, open_task.delay().id])
    assert [job.concurrency_key for job in jobs] == ["all", None]


@pytest.mark.parametrize("key", [5, "", "x" * 1_025, b"k"])
def test_a_key_that_is_no_text_is_refused_and_nothing_is_stored(queue, key):
    @queue.task(max_concurrent=1, concurrency_key=lambda: key)
    def bill():
        pass

    with pytest.raises(ConfigurationError, match="concurrency_key"):
        bill.delay()
    assert queue.stats()["pending"] == 0


def test_an_error_of_the_key_function_reaches_the_caller(queue):
    @queue.task(max_concurrent=1, concurrency_key=lambda customer: customer["id"])
    def bill(customer):
        del customer

    with pytest.raises(KeyError, match="id"):
        bill.delay({})
    assert queue.stats()["pending"] == 0


def test_at_most_so_many_run_at_a_time(queue, running):
    lock, present, most = threading.Lock(), set(), []

    @queue.task(max_concurrent=2)
    def work(number):
        with lock:
            present.add(number)
            most.append(len(present))
        time.sleep(0.002)
        with lock:
            present.discard(number)

    jobs = work.map([(number,) for number in range(40)])
    running()
    for job in jobs:
        job.result(timeout=20)
    assert max(most) == 2


def test_a_queue_can_be_limited_and_freed(queue, running):
    begun = []
    go = threading.Event()

    @queue.task(queue="slow")
    def work(number):
        begun.append(number)
        go.wait(10)

    queue.set_queue_concurrency("slow", 1)
    jobs = work.map([(number,) for number in range(3)])
    running()
    wait_for(lambda: begun)
    time.sleep(0.05)
    assert begun == [0]
    assert jobs[1].waiting_on == "concurrency"
    queue.set_queue_concurrency("slow", None)
    wait_for(lambda: len(begun) == 3)
    go.set()
    assert list(queue.backend.limits()) == []


def test_a_job_says_that_it_waits_for_a_rate(queue, running):
    @queue.task(rate_limit="1/h")
    def work():
        return "done"

    first, second = work.delay(), work.delay()
    running()
    assert first.result(timeout=10) == "done"
    assert (second.status, second.waiting_on) == ("pending", "rate_limit")
    queue.set_queue_rate_limit("default", "1/h")
    assert [limit.kind for limit in queue.backend.limits()] == [LimitKind.TASK, LimitKind.QUEUE]


@pytest.mark.parametrize("rate", ["", "0/s", "5", "5/x", "1/400d", "2000000/s", 5, "5/s burst 0"])
def test_a_malformed_rate_is_refused(queue, rate):
    with pytest.raises(ConfigurationError, match="rate_limit"):
        queue.set_queue_rate_limit("x", rate)
    with pytest.raises(ConfigurationError, match="rate_limit"):
        queue.task("x", rate_limit=rate)
    assert list(queue.backend.limits()) == []


@pytest.mark.parametrize("most", [0, -1, True, "2", 1.5])
def test_a_malformed_number_is_refused(queue, most):
    with pytest.raises(ConfigurationError, match="max_concurrent"):
        queue.set_queue_concurrency("x", most)
    with pytest.raises(ConfigurationError, match="max_concurrent"):
        queue.task("x", max_concurrent=most)
    assert list(queue.backend.limits()) == []


def test_a_pause_waits_until_nothing_can_start_any_more(queue, running):
    begun, ended = [], threading.Event()

    @queue.task
    def work(number):
        begun.append(number)

    @queue.task(queue="other")
    def wait():
        ended.wait(10)

    running()
    for _ in range(5):
        work.map([(number,) for number in range(200)])
        wait_for(lambda: begun)
        queue.pause()
        # The store's count: the body of a started job may have its first step still before it.
        left = queue.stats_by_queue("default")["pending"]
        assert not list(queue.backend.unstarted("default"))
        time.sleep(0.03)
        now = queue.stats_by_queue("default")["pending"]
        assert now == left, "a job started after pause() had returned"
        queue.resume()
        begun.clear()
    ended.set()


def test_a_worker_that_does_not_answer_a_pause_is_named(queue):
    from taskito.backends import params

    queue.task("work")(lambda: None)
    silent = params.WorkerRegistration(id="a" * 32, pid=1, host="away", tasks=("work",))
    queue.backend.register(silent)
    queue.enqueue("work")
    assert queue.backend.exchange(params.ExchangeRequest(worker=silent.id, want=1)).jobs
    with pytest.warns(RuntimeWarning, match="a" * 32):
        queue.pause()
    assert queue.paused_queues() == ["default"]
