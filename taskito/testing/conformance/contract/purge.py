"""Deleting finished jobs."""
# ruff: noqa: D102, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

import uuid

import pytest

from taskito.backends import Backend, params
from taskito.backends.ids import new_job_id
from taskito.backends.params import CancelRequest, JobState, PurgeRequest, Verdict
from taskito.exceptions import ConfigurationError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import Enqueue
from taskito.testing.conformance.played_worker import PlayedWorker
from taskito.testing.conformance.snapshot import every_id, observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["PurgeContract"]


class PurgeContract(Topic):
    """What ``purge`` promises."""

    topic = "purge"

    def test_only_finished_jobs_go(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        complete = enqueue()
        worker.succeed()
        dead = enqueue()
        worker.fail()
        cancelled = enqueue()
        backend.cancel(CancelRequest(ids=(cancelled,)))
        running = enqueue()
        worker.claim()
        waiting = [enqueue(), enqueue(delay_ms=60_000)]
        assert backend.purge(PurgeRequest()) == 3
        assert list(backend.get([complete, dead, cancelled])) == [None] * 3
        assert set(every_id(backend)) == {running, *waiting}
        assert backend.purge(PurgeRequest()) == 0

    @pytest.mark.parametrize("field", [{"limit": 0}, {"older_than_ms": -1}])
    def test_a_bad_number_is_refused(self, backend: Backend, field: dict[str, int]) -> None:
        with pytest.raises(ConfigurationError, match=next(iter(field))):
            backend.purge(PurgeRequest(**field))  # type: ignore[arg-type]

    def test_a_state_that_is_not_final_is_refused(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        worker.fail()
        before = observe(backend)
        with pytest.raises(ConfigurationError, match="ready"):
            backend.purge(PurgeRequest(states=(JobState.DEAD, JobState.READY)))
        assert observe(backend) == before

    def test_filters_of_a_purge_combine(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        complete = enqueue()
        worker.succeed()
        dead = enqueue()
        worker.fail()
        clock.advance(100)
        elsewhere = enqueue(queue="x")
        worker.succeed()
        for request in (
            PurgeRequest(queue="nowhere"),
            PurgeRequest(task="other"),
            PurgeRequest(older_than_ms=101),
            PurgeRequest(ids=(str(uuid.uuid4()),)),
            PurgeRequest(states=(JobState.CANCELLED,)),
        ):
            assert backend.purge(request) == 0
        assert set(every_id(backend)) == {complete, dead, elsewhere}
        assert backend.purge(PurgeRequest(older_than_ms=100, states=(JobState.DEAD,))) == 1
        assert set(every_id(backend)) == {complete, elsewhere}
        assert backend.purge(PurgeRequest(ids=(elsewhere,), queue="default")) == 0
        assert backend.purge(PurgeRequest(ids=(elsewhere,), queue="x")) == 1
        assert every_id(backend) == [complete]

    def test_the_limit_counts_jobs_that_can_go(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        done = enqueue(priority=1)
        worker.succeed()
        waiting = enqueue()
        request = PurgeRequest(ids=(waiting, done, done), limit=1)
        assert backend.purge(request) == 1
        assert every_id(backend) == [waiting]

    def test_a_step_deletes_no_more_than_its_limit(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        ids = [enqueue() for _ in range(5)]
        for _ in ids:
            worker.succeed()
        assert [backend.purge(PurgeRequest(limit=2)) for _ in range(4)] == [2, 2, 1, 0]

    def test_a_purged_job_is_gone_for_its_worker(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        [claimed] = worker.claim()
        success = params.OutcomeSuccess(result=b"", serializer="json")
        worker.settle(claimed.lease, success)
        backend.purge(PurgeRequest())
        assert worker.settle(claimed.lease, success) is Verdict.GONE

    @needs("given_ids")
    def test_a_purge_frees_an_id_that_resembles_those_of_the_store(
        self, backend: Backend, enqueue: Enqueue
    ) -> None:
        own = enqueue()
        given = own[:-1] + ("1" if own.endswith("0") else "0")
        for job_id in (given, new_job_id(1_700_000_000_000, 1), new_job_id(1_700_000_000_000, 3)):
            for _ in range(2):
                [answer] = backend.enqueue([params.NewJob(task="add", id=job_id)])
                assert answer == params.Enqueued(id=job_id)
                backend.cancel(CancelRequest(ids=(job_id,)))
                assert backend.purge(PurgeRequest(ids=(job_id,))) == 1

    @needs("given_ids")
    def test_a_purge_frees_the_id(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        given = str(uuid.uuid4())
        enqueue(id=given)
        worker.succeed()
        backend.purge(PurgeRequest())
        assert list(backend.get([given])) == [None]
        [answer] = backend.enqueue([params.NewJob(task="add", id=given)])
        assert answer == params.Enqueued(id=given)
