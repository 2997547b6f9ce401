"""A real worker over the backend: the dispatcher speaks to the store, threads run the tasks.

A backend in Python is reached through the bridge of the native engine here, which carries
``register``, ``exchange``, ``maintain`` and ``wait``. The clock is the real one.
"""
# ruff: noqa: D102, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from taskito import (
    Queue,
    Snooze,
    TaskCancelledError,
    TaskFailedError,
    current_job,
)
from taskito.backends import BackendOptions
from taskito.testing.conformance.fixtures import BackendFactory, fresh_namespace
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["WorkerContract"]

PATIENCE = 30.0

RunWorker: TypeAlias = Callable[[], threading.Thread]


class WorkerContract(Topic):
    """What users see who run tasks on this backend."""

    topic = "worker"

    @pytest.fixture
    def queue(self, backend_factory: BackendFactory) -> Iterator[Queue]:
        """Return a queue over the backend under test, with the real clock."""
        with (
            backend_factory(BackendOptions(namespace=fresh_namespace())) as backend,
            Queue(backend=backend, workers=2, drain_timeout=5, lease=1.0) as queue,
        ):
            yield queue

    @pytest.fixture
    def run_worker(self, queue: Queue) -> Iterator[RunWorker]:
        """Return what starts a worker in a thread; all are stopped at the end."""
        threads: list[threading.Thread] = []

        def run() -> threading.Thread:
            thread = threading.Thread(target=queue.run_worker)
            thread.start()
            threads.append(thread)
            return thread

        yield run
        queue.shutdown()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def test_every_job_runs_once_and_its_result_comes_back(
        self, queue: Queue, run_worker: RunWorker
    ) -> None:
        runs: list[int] = []

        @queue.task("double")
        def double(number: int) -> int:
            runs.append(number)
            return 2 * number

        early = double.map([(n,) for n in range(20)])
        run_worker()
        late = double.map([(n,) for n in range(20, 40)])
        results = [job.result(timeout=PATIENCE) for job in (*early, *late)]
        assert results == [2 * n for n in range(40)]
        assert sorted(runs) == list(range(40))

    def test_payload_options_and_metadata_reach_the_task(
        self, queue: Queue, run_worker: RunWorker
    ) -> None:
        @queue.task("tell")
        def tell(value: Any) -> dict[str, Any]:
            return {
                "value": value,
                "task": current_job.task_name,
                "queue": current_job.queue_name,
                "retries": current_job.retry_count,
                "metadata": current_job.metadata,
            }

        value = {"bytes": b"\x00\xff", "text": "\u00e9\U0001f600", "none": None}
        job = tell.apply_async((value,), metadata={"who": "me"}, queue="other")
        run_worker()
        assert job.result(timeout=PATIENCE) == {
            "value": value,
            "task": "tell",
            "queue": "other",
            "retries": 0,
            "metadata": {"who": "me"},
        }

    def test_a_failed_attempt_is_tried_again(self, queue: Queue, run_worker: RunWorker) -> None:
        @queue.task("shaky", max_retries=3, retry_delays=[0.01], retry_jitter=False)
        def shaky() -> int:
            if current_job.retry_count < 2:
                raise ValueError("not yet")
            return current_job.retry_count

        job = shaky.delay()
        run_worker()
        assert job.result(timeout=PATIENCE) == 2
        assert len(job.errors) == 2

    def test_a_job_that_only_fails_becomes_a_dead_letter(
        self, queue: Queue, run_worker: RunWorker
    ) -> None:
        @queue.task("broken", max_retries=1, retry_delays=[0.01], retry_jitter=False)
        def broken() -> None:
            raise ValueError("never")

        job = broken.delay()
        run_worker()
        with pytest.raises(TaskFailedError, match="never"):
            job.result(timeout=PATIENCE)
        assert job.status == "dead"
        assert [letter["id"] for letter in queue.dead_letters()] == [job.id]

    def test_a_delayed_job_starts_when_it_is_due(self, queue: Queue, run_worker: RunWorker) -> None:
        @queue.task("when")
        def when() -> float:
            return time.time()

        run_worker()
        began = time.time()
        job = when.apply_async(delay=0.3)
        assert job.result(timeout=PATIENCE) - began >= 0.299

    def test_a_snoozed_job_runs_again(self, queue: Queue, run_worker: RunWorker) -> None:
        runs: list[int] = []

        @queue.task("later", max_retries=0)
        def later() -> int:
            runs.append(current_job.retry_count)
            if len(runs) < 3:
                raise Snooze(0.01)
            return len(runs)

        job = later.delay()
        run_worker()
        assert job.result(timeout=PATIENCE) == 3
        assert runs == [0, 0, 0]

    def test_a_long_run_keeps_its_lease(self, queue: Queue, run_worker: RunWorker) -> None:
        runs: list[str] = []

        @queue.task("slow")
        def slow() -> str:
            runs.append(current_job.id)
            time.sleep(2.5)
            return current_job.id

        job = slow.delay()
        run_worker()
        run_worker()
        assert job.result(timeout=PATIENCE) == job.id
        assert runs == [job.id]

    def test_a_running_job_learns_that_it_is_to_be_cancelled(
        self, queue: Queue, run_worker: RunWorker
    ) -> None:
        begun = threading.Event()

        @queue.task("endless")
        def endless() -> None:
            begun.set()
            while True:
                current_job.check_cancelled()
                time.sleep(0.01)

        job = endless.delay()
        run_worker()
        assert begun.wait(PATIENCE)
        assert queue.cancel_running_job(job.id)
        with pytest.raises(TaskCancelledError):
            job.result(timeout=PATIENCE)

    def test_a_worker_that_is_stopped_gives_back_what_it_did_not_start(
        self, queue: Queue, run_worker: RunWorker
    ) -> None:
        begun = threading.Event()
        go_on = threading.Event()

        @queue.task("block")
        def block() -> None:
            begun.set()
            go_on.wait(PATIENCE)

        jobs = block.map([()] * 20)
        thread = run_worker()
        assert begun.wait(PATIENCE)
        queue.shutdown()
        go_on.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert queue.workers() == []
        assert {job.status for job in jobs} <= {"complete", "pending"}
        assert [len(job.errors) for job in jobs] == [0] * 20
        run_worker()
        for job in jobs:
            job.result(timeout=PATIENCE)

    @needs("dependencies")
    def test_a_dependent_runs_after_what_it_depends_on(
        self, queue: Queue, run_worker: RunWorker
    ) -> None:
        order: list[str] = []

        @queue.task("step")
        def step(name: str) -> None:
            order.append(name)

        first = step.delay("first")
        second = step.apply_async(("second",), depends_on=[first.id], priority=9)
        third = step.apply_async(("third",), depends_on=[second.id], priority=99)
        run_worker()
        third.result(timeout=PATIENCE)
        assert order == ["first", "second", "third"]

    @needs("pauses")
    def test_a_paused_queue_waits_for_its_resumption(
        self, queue: Queue, run_worker: RunWorker
    ) -> None:
        @queue.task("quick")
        def quick() -> int:
            return 1

        queue.pause("default")
        held = quick.delay()
        free = quick.apply_async(queue="other")
        run_worker()
        assert free.result(timeout=PATIENCE) == 1
        assert held.status == "pending"
        queue.resume("default")
        assert held.result(timeout=PATIENCE) == 1

    @needs("progress_log")
    def test_progress_of_a_running_job_is_seen(self, queue: Queue, run_worker: RunWorker) -> None:
        @queue.task("half")
        def half() -> None:
            current_job.update_progress(50)
            current_job.log("half way")

        job = half.delay()
        run_worker()
        job.result(timeout=PATIENCE)
        assert job.refresh().progress == 50
        assert [line.message for line in queue.backend.logs(job.id)] == ["half way"]
