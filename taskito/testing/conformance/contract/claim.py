"""Claims: who gets what, in which order, under which lease."""
# ruff: noqa: D102, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

import threading

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import JobState, NewJob
from taskito.exceptions import ConfigurationError, UnknownWorkerError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic

__all__ = ["ClaimContract"]


class ClaimContract(Topic):
    """What ``exchange`` promises about the jobs that it hands out."""

    topic = "claim"

    def test_a_claim_hands_over_the_job_and_a_lease(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue(
            payload=b"p", metadata=b"m", serializer="json", queue="q", timeout_ms=7, priority=2
        )
        [claimed] = worker.claim(5)
        assert claimed.lease.id == job_id
        assert claimed.lease.token > 0
        assert (claimed.task, claimed.queue, claimed.payload) == ("add", "q", b"p")
        assert (claimed.metadata, claimed.serializer, claimed.timeout_ms) == (b"m", "json", 7)
        assert (claimed.attempt, claimed.max_retries, claimed.priority) == (0, 3, 2)
        assert claimed.expires_in_ms is None
        assert not claimed.suspect
        record = job(job_id)
        assert (record.state, record.worker) == (JobState.RUNNING, worker.id)
        assert record.run == claimed.lease.token
        assert worker.claim(5) == []

    def test_a_held_job_is_not_handed_to_another_worker(
        self, enqueue: Enqueue, worker: PlayedWorker, start_worker: StartWorker
    ) -> None:
        ids = [enqueue() for _ in range(4)]
        assert worker.claim_ids(2) == ids[:2]
        assert start_worker().claim_ids() == ids[2:]
        assert start_worker().claim_ids() == []

    def test_order_is_priority_then_due_time_then_enqueueing(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        late = enqueue("b", queue="y", delay_ms=20)
        early = enqueue("a", queue="x", delay_ms=10)
        clock.advance(20)
        backend.maintain(10)
        first, second, low, high = (
            answer.id
            for answer in backend.enqueue(
                [
                    NewJob(task="a", queue="x"),
                    NewJob(task="b", queue="y"),
                    NewJob(task="a", queue="y", priority=-1),
                    NewJob(task="b", queue="x", priority=127),
                ]
            )
        )
        worker = start_worker(tasks=("a", "b"))
        assert worker.claim_ids(4) == [high, early, late, first]
        assert worker.claim_ids() == [second, low]

    def test_only_jobs_of_the_tasks_asked_for_are_claimed(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = start_worker(tasks=("a", "b"))
        first_a, first_b = enqueue("a"), enqueue("b", priority=1)
        urgent_a, second_b = enqueue("a", priority=9), enqueue("b")
        foreign = enqueue("c", priority=100)

        def claim(*tasks: str) -> list[str]:
            return [job.lease.id for job in worker.exchange(want=10, tasks=tasks).jobs]

        assert claim() == []
        assert claim("c") == [], "the worker did not say that it knows this task"
        assert claim("b") == [first_b, second_b]
        assert claim("a", "b", "c") == [urgent_a, first_a]
        [waiting] = backend.get([foreign])
        assert waiting is not None
        assert waiting.state is JobState.READY

    def test_equal_jobs_are_claimed_in_the_order_of_enqueueing(
        self, backend: Backend, worker: PlayedWorker
    ) -> None:
        ids = [answer.id for answer in backend.enqueue([NewJob(task="add")] * 20)]
        ids += [backend.enqueue([NewJob(task="add")])[0].id for _ in range(20)]
        claimed = [job_id for _ in range(8) for job_id in worker.claim_ids(5)]
        assert claimed == ids

    def test_priority_goes_first_whatever_its_sign(
        self, backend: Backend, worker: PlayedWorker
    ) -> None:
        priorities = [0, -128, 127, 1, -1, 126, -127]
        answers = backend.enqueue([NewJob(task="add", priority=n) for n in priorities])
        by_priority = dict(zip(priorities, (answer.id for answer in answers), strict=True))
        expected = [by_priority[n] for n in sorted(priorities, reverse=True)]
        assert worker.claim_ids() == expected

    def test_a_job_that_is_not_due_is_not_claimed(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        job_id = enqueue(delay_ms=1_000)
        reply = worker.exchange(want=1)
        assert reply.jobs == ()
        assert reply.next_due_ms == 1_000
        clock.advance(999)
        backend.maintain(10)
        assert worker.claim() == []
        clock.advance(1)
        assert backend.maintain(10).promoted == 1
        reply = worker.exchange(want=1)
        assert [claimed.lease.id for claimed in reply.jobs] == [job_id]
        assert reply.next_due_ms is None

    def test_a_claim_finds_what_became_due_meanwhile(
        self, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        job_id = enqueue(delay_ms=10)
        clock.advance(10)
        assert worker.claim_ids() == [job_id]

    def test_only_served_queues_and_known_tasks_are_claimed(
        self, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        elsewhere, unknown, wanted = enqueue(queue="x"), enqueue("other"), enqueue()
        worker = start_worker(queues=("default",))
        assert worker.claim_ids() == [wanted]
        assert start_worker(tasks=("other", "add")).claim_ids() == [elsewhere, unknown]

    def test_a_worker_that_knows_no_task_claims_nothing(
        self, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        enqueue()
        assert start_worker(tasks=()).claim_ids() == []

    def test_no_more_than_wanted_is_claimed(self, enqueue: Enqueue, worker: PlayedWorker) -> None:
        ids = [enqueue() for _ in range(5)]
        assert worker.claim(0) == []
        assert worker.claim_ids(2) == ids[:2]
        assert worker.claim_ids(2) == ids[2:4]

    def test_an_expired_job_is_never_claimed_and_ends_as_cancelled(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
    ) -> None:
        job_id = enqueue(expires_in_ms=100)
        clock.advance(100)
        assert worker.claim() == []
        backend.maintain(10)
        assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "expired")

    def test_a_claim_says_how_long_until_the_job_expires(
        self, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue(expires_in_ms=100)
        clock.advance(30)
        [claimed] = worker.claim()
        assert claimed.expires_in_ms == 70

    def test_tokens_only_grow_whatever_happens(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        job_id = enqueue()
        outcomes: list[params.Outcome] = [
            params.OutcomeRelease(),
            params.OutcomeSnooze(delay_ms=0),
            params.OutcomeRetry(error=b"", kind=params.ErrorKind.FAILURE, delay_ms=0),
            params.OutcomeRelease(interrupted=True),
            params.OutcomeSnooze(delay_ms=0),
        ]
        tokens = []
        for outcome in outcomes:
            backend.maintain(10)
            [claimed] = worker.claim()
            assert claimed.lease.id == job_id
            tokens.append(claimed.lease.token)
            worker.settle(claimed.lease, outcome)
        assert tokens == sorted(set(tokens))

    def test_many_threads_never_share_a_job(
        self, backend: Backend, start_worker: StartWorker
    ) -> None:
        ids = [answer.id for answer in backend.enqueue([NewJob(task="add")] * 200)]
        taken: list[str] = []

        def work(worker: PlayedWorker) -> None:
            while claimed := worker.claim_ids(7):
                taken.extend(claimed)

        threads = [threading.Thread(target=work, args=(start_worker(),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(taken) == sorted(ids)

    def test_an_unregistered_worker_is_refused(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        worker.leave()
        before = observe(backend)
        with pytest.raises(UnknownWorkerError, match=worker.id):
            worker.claim()
        assert observe(backend) == before

    def test_a_worker_id_must_be_free_and_well_formed(
        self, backend: Backend, worker: PlayedWorker
    ) -> None:
        before = observe(backend)
        with pytest.raises(ConfigurationError, match="taken"):
            backend.register(worker.registration)
        with pytest.raises(ConfigurationError, match="hexadecimal"):
            backend.register(params.WorkerRegistration(id="me!", pid=1, host="h"))
        assert observe(backend) == before

    def test_a_claim_of_fewer_than_none_is_refused(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        before = observe(backend)
        with pytest.raises(ConfigurationError, match="want"):
            worker.claim(-1)
        assert observe(backend) == before
