"""Rules that show only with a running worker: progress, late results, queues side by side."""

from __future__ import annotations

import threading
import time

import pytest

from taskito import ConfigurationError, MaxRetriesExceededError, Queue, current_job
from taskito.worker.progress import FLUSH_INTERVAL


@pytest.fixture
def run():
    """Run a worker of a queue until the test ends."""
    queues = []

    def start(queue, **options):
        queues.append(queue)
        thread = threading.Thread(target=queue.run_worker, kwargs=options, daemon=True)
        thread.start()
        return thread

    yield start
    for queue in queues:
        queue.shutdown()


def counted(queue, operation):
    """Count the calls of an operation of the store."""
    calls = []
    original = getattr(queue.backend, operation)

    def spy(*args):
        calls.append(args)
        return original(*args)

    setattr(queue.backend, operation, spy)
    return calls


def test_a_hundred_thousand_updates_are_a_few_writes_and_the_last_one_is_kept(memory_queue, run):
    took = []

    @memory_queue.task
    def busy():
        began = time.monotonic()
        for n in range(100_000):
            current_job.update_progress(n % 90)
        current_job.update_progress(91.5)
        took.append(time.monotonic() - began)

    writes = counted(memory_queue, "set_progress")
    run(memory_queue)
    job = busy.delay()
    job.result(timeout=60)
    assert job.progress == 91
    assert writes[-1][-1] == 91
    # One in each interval at most, and the last.
    assert len(writes) <= took[0] / FLUSH_INTERVAL + 2


@pytest.mark.parametrize("store", ["sqlite", "memory"])
def test_a_late_result_of_an_attempt_that_timed_out_is_refused(tmp_path, run, store):
    options = {"db_path": tmp_path / "t.db"} if store == "sqlite" else {"backend": "memory://"}
    queue = Queue(workers=2, **options)
    first_may_end, runs = threading.Event(), []

    @queue.task(timeout=0.2, max_retries=1, retry_backoff=0, retry_jitter=False)
    def slow():
        runs.append(current_job.retry_count)
        if len(runs) == 1:
            first_may_end.wait(30)
            return "late"
        first_may_end.set()
        time.sleep(0.05)  # The first body returns now, while this one is the current attempt.
        return "in time"

    run(queue)
    job = slow.delay()
    assert job.result(timeout=30) == "in time"
    assert runs == [0, 1]
    assert len(job.errors) == 1
    assert "timeout" in job.errors[0]["error"].lower()
    assert job.status == "complete"
    queue.close()


def test_a_quick_task_behind_a_slow_one_on_one_thread_does_not_time_out(memory_queue, run):
    runs = []

    @memory_queue.task(timeout=0)
    def slow():
        time.sleep(1.05)

    @memory_queue.task(timeout=0.3, max_retries=0)
    def quick():
        runs.append(1)
        return "done"

    first, second = slow.delay(), quick.delay()
    run(memory_queue, concurrency=1)
    first.result(timeout=30)
    assert second.result(timeout=30) == "done"
    assert runs == [1]
    assert second.errors == []


def test_two_queues_with_two_workers_do_not_disturb_each_other(run):
    queues = [Queue(backend="memory://") for _ in range(2)]
    seen = {0: [], 1: []}
    tasks = []
    barrier = threading.Barrier(2)
    for number, queue in enumerate(queues):

        def body(n, number=number):
            barrier.wait(30)  # Both are inside at the same time.
            for percent in (10, 20, 30 + number):
                current_job.update_progress(percent)
            assert current_job.metadata == {"of": number}
            return current_job.id, n

        tasks.append(queue.task("same name")(body))
        queue.before_task(lambda name, args, kwargs, mine=number: seen[mine].append(("b", args[0])))
        queue.on_success(
            lambda name, args, kwargs, result, mine=number: seen[mine].append(("s", result[1]))
        )
        run(queue, concurrency=1)
    jobs = [
        [tasks[number].apply_async((n + number,), metadata={"of": number}) for n in (0, 10)]
        for number in (0, 1)
    ]
    for number in (0, 1):
        for job, n in zip(jobs[number], (0, 10), strict=True):
            assert job.result(timeout=30) == (job.id, n + number)
            assert job.progress == 30 + number
        ran = [("b", number), ("s", number), ("b", 10 + number), ("s", 10 + number)]
        assert seen[number] == ran
        assert queues[number].stats()["completed"] == 2
    for queue in queues:
        queue.close()


def test_many_dead_letters_are_replayed_in_bounded_steps_and_keep_their_options(
    memory_queue, hand_worker
):
    task = memory_queue.task("t", max_retries=4, priority=7, timeout=9)(lambda n: n)
    jobs = [task.apply_async((n,), metadata={"n": n}) for n in range(1_203)]
    worker = hand_worker(memory_queue)
    for _ in jobs:
        worker.bury(worker.claim()[0], LookupError("no"))
    calls = counted(memory_queue, "replay")
    assert memory_queue.retry_all_dead() == len(jobs)
    assert [len(request.ids) for (request,) in calls] == [500, 500, 203]
    replayed = memory_queue.list_jobs(status="pending", limit=2_000)
    assert sorted(job.metadata["n"] for job in replayed) == list(range(1_203))
    for job in (replayed[0], replayed[-1]):
        found = job.to_dict()
        kept = (found["priority"], found["timeout_ms"], found["max_retries"])
        assert kept == (7, 9_000, 4)


def test_limits_of_dead_letters_are_kept_by_every_worker(tmp_path, run):
    path = tmp_path / "t.db"
    strict = Queue(db_path=path, max_dead_letters=3, default_retry=0)

    @strict.task("broken")
    def broken(n):
        raise LookupError(n)

    jobs = broken.map([(n,) for n in range(8)])
    run(strict, concurrency=1)
    for job in jobs:
        with pytest.raises((MaxRetriesExceededError, LookupError)):  # Some are deleted by then.
            job.result(timeout=30)
    deadline = time.monotonic() + 30
    while strict.stats()["dead"] > 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert {letter["id"] for letter in strict.dead_letters()} == {job.id for job in jobs[-3:]}
    strict.close()


@pytest.mark.parametrize(
    "options",
    [
        {"dead_letter_ttl": -1},
        {"dead_letter_ttl": "1"},
        {"max_dead_letters": -1},
        {"max_dead_letters": 1.5},
    ],
)
def test_wrong_limits_of_dead_letters_are_named(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Queue(backend="memory://", **options)


def test_a_key_until_the_start_lets_one_wait_while_one_runs(memory_queue, run):
    started, go_on = threading.Semaphore(0), threading.Event()

    @memory_queue.task(unique="until_start")
    def rebuild(what):
        started.release()
        go_on.wait(30)
        return what

    run(memory_queue, concurrency=1)
    first = rebuild.delay("index")
    started.acquire(timeout=30)
    second = rebuild.delay("index")
    assert second != first
    assert rebuild.delay("index") == second
    assert rebuild.delay("other") != second
    go_on.set()
    assert second.result(timeout=30) == "index"


def test_until_finish_is_what_a_key_means_anyway(memory_queue):
    task = memory_queue.task("t", unique="until_finish")(lambda n: n)
    assert task.delay(1) == task.delay(1)
    assert task.delay(2) != task.delay(1)
    own = task.apply_async((1,), unique_key="mine")
    assert own not in (task.delay(1), task.delay(2))
    assert own == task.apply_async((5,), unique_key="mine")
