"""Upkeep: promotion, expiry, retention."""
# ruff: noqa: D102, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import JobState
from taskito.exceptions import ConfigurationError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["MaintainContract"]


class MaintainContract(Topic):
    """What ``maintain`` promises about jobs that nobody holds."""

    topic = "maintain"

    def test_a_step_is_bounded_and_says_that_there_is_more(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue
    ) -> None:
        for _ in range(5):
            enqueue(delay_ms=10)
        assert backend.maintain(10).next_due_ms == 10
        clock.advance(10)
        reply = backend.maintain(3)
        assert (reply.promoted, reply.next_due_ms) == (3, 0)
        reply = backend.maintain(3)
        assert (reply.promoted, reply.next_due_ms) == (2, None)

    def test_upkeep_of_an_idle_store_changes_nothing(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        worker.succeed()
        enqueue()
        enqueue(delay_ms=60_000)
        before = observe(backend)
        reply = backend.maintain(100)
        assert (reply.promoted, reply.rescued, reply.expired, reply.pruned) == (0, 0, 0, 0)
        assert observe(backend) == before

    @pytest.mark.parametrize("budget", [0, -1])
    def test_a_step_without_a_budget_is_refused(self, backend: Backend, budget: int) -> None:
        with pytest.raises(ConfigurationError, match="budget"):
            backend.maintain(budget)

    def test_a_job_becomes_ready_exactly_when_it_is_due(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, job: GetJob
    ) -> None:
        job_id = enqueue(delay_ms=100)
        clock.advance(99)
        assert backend.maintain(10).promoted == 0
        assert job(job_id).state is JobState.SCHEDULED
        clock.advance(1)
        assert backend.maintain(10).promoted == 1
        assert (job(job_id).state, job(job_id).why) == (JobState.READY, None)

    def test_tasks_that_no_worker_knows_are_reported(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        enqueue("b")
        enqueue("a")
        enqueue("a", queue="x")
        assert backend.maintain(10).unknown_tasks == ("a", "b")
        worker = start_worker(tasks=("a",))
        assert backend.maintain(10).unknown_tasks == ("b",)
        worker.leave()
        assert backend.maintain(10).unknown_tasks == ("a", "b")

    def test_a_task_is_known_whatever_queues_its_worker_serves(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        enqueue()
        start_worker(queues=("other",))
        assert backend.maintain(10).unknown_tasks == ()

    # Expiry -------------------------------------------------------------------------------------

    def test_waiting_jobs_expire_whatever_they_wait_for(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, job: GetJob
    ) -> None:
        kept = enqueue("unknown")
        ids = [
            enqueue("unknown", expires_in_ms=50),
            enqueue(delay_ms=100, expires_in_ms=50),
        ]
        clock.advance(49)
        assert backend.maintain(10).expired == 0
        clock.advance(1)
        assert backend.maintain(10).expired == 2
        for job_id in ids:
            assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "expired")
        assert job(kept).state is JobState.READY

    @needs("dependencies")
    def test_a_blocked_job_expires(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, job: GetJob
    ) -> None:
        parent = enqueue()
        child = enqueue(depends_on=(parent,), expires_in_ms=50)
        clock.advance(50)
        assert backend.maintain(10).expired == 1
        assert (job(child).state, job(child).reason) == (JobState.CANCELLED, "expired")
        assert job(parent).state is JobState.READY

    def test_a_claimed_job_is_not_expired_but_one_given_back_is(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
    ) -> None:
        job_id = enqueue(expires_in_ms=50)
        [claimed] = worker.claim()
        clock.advance(50)
        assert backend.maintain(10).expired == 0
        worker.settle(claimed.lease, params.OutcomeRelease(), started_ago_ms=None)
        assert worker.claim() == []
        backend.maintain(10)
        assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "expired")

    def test_a_job_whose_time_ended_while_it_was_claimed_expires_when_it_is_given_back(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
    ) -> None:
        job_id = enqueue(expires_in_ms=50)
        [claimed] = worker.claim()
        clock.advance(60)
        backend.maintain(10)
        worker.settle(claimed.lease, params.OutcomeRelease(), started_ago_ms=None)
        assert backend.maintain(10).expired == 1
        assert job(job_id).state is JobState.CANCELLED

    def test_a_job_that_was_interrupted_expires_no_more(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
    ) -> None:
        job_id = enqueue(expires_in_ms=50)
        worker.finish(params.OutcomeRelease(interrupted=True))
        clock.advance(60)
        assert backend.maintain(10).expired == 0
        assert job(job_id).state is JobState.READY

    def test_a_job_that_has_started_expires_no_more(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
    ) -> None:
        job_id = enqueue(expires_in_ms=50)
        worker.finish(params.OutcomeSnooze(delay_ms=100))
        clock.advance(100)
        assert backend.maintain(10).expired == 0
        assert job(job_id).state is JobState.READY
        [claimed] = worker.claim()
        assert (claimed.lease.id, claimed.expires_in_ms) == (job_id, None)

    # Retention ----------------------------------------------------------------------------------

    def test_finished_jobs_are_deleted_when_their_time_is_over(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        kept, pruned = enqueue(), enqueue(result_ttl_ms=100)
        worker.succeed()
        clock.advance(1_000)
        worker.succeed()
        clock.advance(99)
        assert backend.maintain(10).pruned == 0
        clock.advance(1)
        assert backend.maintain(10).pruned == 1
        found, gone = backend.get([kept, pruned])
        assert found is not None
        assert gone is None

    def test_finished_jobs_are_deleted_in_steps_that_leave_room_for_claims(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        for _ in range(10):
            enqueue(result_ttl_ms=1)
            worker.succeed()
        clock.advance(1)
        waiting = [enqueue() for _ in range(4)]
        claimed, pruned, left = [], [], []
        for _ in waiting:
            pruned.append(backend.maintain(3).pruned)
            claimed += worker.claim_ids(1)
            left.append(sum(row.count for row in backend.counts()))
        assert claimed == waiting
        assert (pruned, left) == ([3, 3, 3, 1], [11, 8, 5, 4])

    def test_a_job_that_was_purged_is_not_deleted_once_more(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue(result_ttl_ms=10)
        worker.succeed()
        assert backend.purge(params.PurgeRequest()) == 1
        clock.advance(10)
        assert backend.maintain(10).pruned == 0

    @needs("unique")
    def test_a_deleted_job_frees_its_idempotency_key(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        first = enqueue(result_ttl_ms=100, idempotency_key="k")
        worker.succeed()
        clock.advance(100)
        backend.maintain(10)
        assert enqueue(idempotency_key="k") != first

    def test_unfinished_jobs_are_never_deleted(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        running, waiting = enqueue(result_ttl_ms=1), enqueue(result_ttl_ms=1)
        [claimed] = worker.claim()
        clock.advance(1_000)
        worker.exchange(renewals=(claimed.lease,))
        assert backend.maintain(10).pruned == 0
        assert None not in backend.get([running, waiting])
