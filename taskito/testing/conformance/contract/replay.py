"""Running finished jobs again, as new jobs."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import uuid

from taskito.backends import Backend
from taskito.backends.params import CancelRequest, JobState, PurgeRequest, ReplayRequest
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["ReplayContract"]


class ReplayContract(Topic):
    """What ``replay`` promises."""

    topic = "replay"
    needed = ("replay",)

    def test_a_replay_is_a_new_job_with_the_same_payload_and_options(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        old = enqueue(
            queue="q",
            payload=b"p",
            metadata=b"m",
            serializer="json",
            priority=3,
            max_retries=5,
            max_crashes=6,
            timeout_ms=7,
            expires_in_ms=600_000,
        )
        worker.fail()
        [new] = backend.replay(ReplayRequest(ids=(old,)))
        assert new is not None
        assert new != old
        record = job(new)
        assert (record.state, record.original_id) == (JobState.READY, old)
        assert (record.task, record.queue, record.payload) == ("add", "q", b"p")
        assert (record.metadata, record.serializer) == (b"m", "json")
        assert (record.priority, record.max_retries, record.max_crashes) == (3, 5, 6)
        assert (record.timeout_ms, record.attempt, record.errors) == (7, 0, ())
        assert record.expires_ms is None
        assert (job(old).state, job(old).replayed_as) == (JobState.DEAD, new)
        [claimed] = worker.claim()
        assert (claimed.lease.id, claimed.payload, claimed.metadata) == (new, b"p", b"m")

    @needs("unique")
    def test_keys_stay_with_the_old_job(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        old = enqueue(idempotency_key="k", unique_key="u")
        worker.fail()
        [new] = backend.replay(ReplayRequest(ids=(old,)))
        assert new is not None
        assert job(new).unique_key is None
        assert enqueue(idempotency_key="k") == old
        assert enqueue(unique_key="u") not in {old, new}

    def test_only_dead_letters_that_were_not_replayed_if_asked_so(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        complete = enqueue()
        worker.succeed()
        dead = enqueue()
        worker.fail()
        waiting = enqueue()
        request = ReplayRequest(ids=(complete, dead, waiting, str(uuid.uuid4())), dead_only=True)
        answers = backend.replay(request)
        assert [answer is not None for answer in answers] == [False, True, False, False]
        before = observe(backend)
        assert list(backend.replay(request)) == [None] * 4
        assert observe(backend) == before

    def test_any_finished_job_can_be_replayed_again_and_again(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        complete = enqueue()
        worker.succeed()
        cancelled = enqueue()
        backend.cancel(CancelRequest(ids=(cancelled,)))
        waiting = enqueue(delay_ms=60_000)
        first, second, refused = backend.replay(ReplayRequest(ids=(complete, cancelled, waiting)))
        assert first is not None
        assert second is not None
        assert refused is None
        assert job(complete).replayed_as == first
        [again] = backend.replay(ReplayRequest(ids=(complete,)))
        assert again not in {None, first}
        assert job(complete).replayed_as == again
        assert (job(complete).state, job(cancelled).state) == (
            JobState.COMPLETE,
            JobState.CANCELLED,
        )

    def test_a_replay_does_not_wait_for_the_old_delay(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
    ) -> None:
        old = enqueue(delay_ms=100)
        clock.advance(100)
        backend.maintain(10)
        worker.fail()
        [new] = backend.replay(ReplayRequest(ids=(old,)))
        assert new is not None
        assert job(new).state is JobState.READY

    def test_a_replayed_job_stays_when_the_old_one_is_purged(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        old = enqueue(payload=b"p")
        worker.fail()
        [new] = backend.replay(ReplayRequest(ids=(old,)))
        assert new is not None
        assert backend.purge(PurgeRequest(ids=(old,))) == 1
        assert (job(new).payload, job(new).original_id) == (b"p", old)
        assert worker.succeed() == new
