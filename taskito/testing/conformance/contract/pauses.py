"""Paused queues."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import pytest

from taskito.backends import Backend
from taskito.backends.params import JobState, OutcomeRelease, OutcomeSuccess, Verdict
from taskito.exceptions import ConfigurationError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import Enqueue, GetJob, OpenAgain, worker_starter
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic

__all__ = ["PausesContract"]


class PausesContract(Topic):
    """What ``pause``, ``resume`` and ``paused`` promise."""

    topic = "pauses"
    needed = ("pauses",)

    def test_a_paused_queue_yields_nothing_until_it_is_resumed(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        held = [enqueue(queue="x"), enqueue(queue="x", priority=9)]
        free = enqueue()
        backend.pause("x")
        backend.pause("x")
        assert list(backend.paused()) == ["x"]
        reply = worker.exchange(want=10)
        assert [claimed.lease.id for claimed in reply.jobs] == [free]
        assert reply.paused == ("x",)
        backend.resume("x")
        backend.resume("x")
        assert list(backend.paused()) == []
        reply = worker.exchange(want=10)
        assert [claimed.lease.id for claimed in reply.jobs] == held[::-1]
        assert reply.paused == ()

    def test_jobs_that_arrive_during_a_pause_wait(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        backend.pause("default")
        delayed, ready = enqueue(delay_ms=5), enqueue()
        clock.advance(5)
        backend.maintain(10)
        assert worker.claim_ids() == []
        backend.resume("default")
        assert sorted(worker.claim_ids()) == sorted([delayed, ready])

    def test_what_runs_already_may_end_during_a_pause(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        [claimed] = worker.claim()
        backend.pause("default")
        success = OutcomeSuccess(result=b"", serializer="json")
        assert worker.settle(claimed.lease, success) is Verdict.OK
        assert job(job_id).state is JobState.COMPLETE

    def test_who_may_still_start_something_is_told(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        one, two = start_worker(), start_worker()
        for queue in ("x", "x", "y"):
            enqueue(queue=queue)
        first = one.claim(1)
        second = two.claim(2)
        backend.pause("x")
        assert list(backend.unstarted("x")) == sorted([one.id, two.id])
        assert list(backend.unstarted("y")) == [two.id]
        assert list(backend.unstarted("z")) == []
        one.start(*first)
        two.settle(second[0].lease, OutcomeRelease(), started_ago_ms=None)
        assert list(backend.unstarted("x")) == []
        assert list(backend.unstarted("y")) == [two.id]

    def test_paused_queues_are_sorted_and_need_no_jobs(self, backend: Backend) -> None:
        for queue in ("b", "c", "a"):
            backend.pause(queue)
        assert list(backend.paused()) == ["a", "b", "c"]
        backend.resume("b")
        backend.resume("never paused")
        assert list(backend.paused()) == ["a", "c"]

    @pytest.mark.parametrize("queue", ["", "a\nb", "x" * 256])
    def test_a_name_that_no_queue_can_have_is_refused(self, backend: Backend, queue: str) -> None:
        before = observe(backend)
        for operation in (backend.pause, backend.resume):
            with pytest.raises(ConfigurationError, match="queue"):
                operation(queue)
        assert observe(backend) == before

    def test_a_pause_holds_for_whoever_opens_the_store(self, open_again: OpenAgain) -> None:
        first = open_again()
        first.pause("x")
        second = open_again()
        assert list(second.paused()) == ["x"]
        assert worker_starter(second)().exchange().paused == ("x",)
        assert list(first.paused()) == ["x"]
