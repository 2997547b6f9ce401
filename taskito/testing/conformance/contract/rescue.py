"""Dead workers: leases, suspects, crashes, and workers that say goodbye."""
# ruff: noqa: D102, PLR0917, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

from taskito.backends import Backend, params
from taskito.backends.params import CancelRequest, ErrorKind, JobState, Verdict
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.topic import Topic

__all__ = ["RescueContract"]

LEASE = 30_000
SUCCESS = params.OutcomeSuccess(result=b"", serializer="json")


class RescueContract(Topic):
    """What becomes of the jobs of a worker that is gone."""

    topic = "rescue"

    def test_a_lease_lasts_its_time_and_renewals_extend_it(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
    ) -> None:
        renewed, forgotten = enqueue(), enqueue()
        first, second = worker.claim(2)
        clock.advance(LEASE - 1)
        assert worker.exchange(renewals=(first.lease,)).lost == ()
        assert backend.maintain(10).rescued == 0
        clock.advance(1)
        assert backend.maintain(10).rescued == 1
        assert job(renewed).state is JobState.RUNNING
        assert job(forgotten).state is JobState.READY
        assert worker.exchange(renewals=(second.lease,)).lost == (second.lease,)
        assert worker.settle(second.lease, params.OutcomeSnooze(delay_ms=0)) is Verdict.STALE

    def test_a_renewal_extends_to_a_full_lease_from_now(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        [claimed] = worker.claim()
        for _ in range(3):
            clock.advance(LEASE - 1)
            assert worker.exchange(renewals=(claimed.lease,)).lost == ()
            assert backend.maintain(10).rescued == 0
        clock.advance(LEASE)
        assert backend.maintain(10).rescued == 1

    def test_the_end_of_a_lease_is_something_to_do(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        worker.claim()
        clock.advance(LEASE - 70)
        assert backend.maintain(10).next_due_ms == 70

    def test_a_step_takes_back_no_more_than_its_budget(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        for _ in range(5):
            enqueue()
        worker.claim(5)
        clock.advance(LEASE)
        assert [backend.maintain(2).rescued for _ in range(4)] == [2, 2, 1, 0]

    def test_a_rescued_job_gets_a_new_lease_and_the_old_holder_is_refused(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        start_worker: StartWorker,
        job: GetJob,
    ) -> None:
        job_id = enqueue()
        [lost] = worker.claim()
        worker.start(lost)
        clock.advance(LEASE)
        backend.maintain(10)
        other = start_worker()
        [current] = other.claim()
        assert current.lease.token > lost.lease.token
        assert worker.settle(lost.lease, SUCCESS) is Verdict.STALE
        assert job(job_id).state is JobState.RUNNING
        assert other.settle(current.lease, SUCCESS) is Verdict.OK
        assert (job(job_id).state, job(job_id).worker) == (JobState.COMPLETE, other.id)

    def test_claimed_jobs_that_had_not_started_go_back_without_a_trace(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        start_worker: StartWorker,
        job: GetJob,
    ) -> None:
        job_id = enqueue()
        worker.claim()
        clock.advance(LEASE)
        assert backend.maintain(10).rescued == 1
        record = job(job_id)
        assert (record.state, record.attempt, record.crashes) == (JobState.READY, 0, 0)
        assert record.errors == ()
        [again] = start_worker().claim()
        assert not again.suspect

    def test_started_jobs_of_a_dead_worker_become_suspects(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        start_worker: StartWorker,
        job: GetJob,
    ) -> None:
        first, second, unstarted = enqueue(), enqueue(), enqueue()
        claimed = worker.claim(3)
        worker.start(*claimed[:2])
        clock.advance(LEASE)
        assert backend.maintain(10).rescued == 3
        for job_id in (first, second):
            record = job(job_id)
            assert (record.state, record.attempt, record.crashes) == (JobState.READY, 0, 0)
            [entry] = record.errors
            assert entry.kind is ErrorKind.CRASH
            assert entry.worker == worker.id
            assert entry.detail.startswith(b"\x00")
        assert job(unstarted).errors == ()

        one, two = start_worker(), start_worker()
        taken = [(claim.lease.id, claim.suspect) for claim in one.claim(3)]
        assert taken == [(first, True), (unstarted, False)]
        assert one.claim(3) == []
        assert [(claim.lease.id, claim.suspect) for claim in two.claim(3)] == [(second, True)]

    def test_a_worker_gets_the_next_suspect_when_the_first_is_done(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        start_worker: StartWorker,
    ) -> None:
        ids = [enqueue(), enqueue()]
        worker.start(*worker.claim(2))
        clock.advance(LEASE)
        backend.maintain(10)
        other = start_worker()
        assert [other.succeed(), other.succeed()] == ids

    def test_a_suspect_alone_is_charged_and_ends_when_it_was_too_often(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        start_worker: StartWorker,
        job: GetJob,
    ) -> None:
        bad, good = enqueue(max_crashes=2), enqueue()
        worker.start(*worker.claim(1))
        clock.advance(LEASE)
        backend.maintain(10)
        assert job(bad).crashes == 0

        for crashes, state in ((1, JobState.READY), (2, JobState.DEAD)):
            victim = start_worker()
            victim.start(*victim.claim(2))
            clock.advance(LEASE)
            assert backend.maintain(10).rescued == 2
            assert (job(bad).crashes, job(bad).state) == (crashes, state)
            assert (job(good).crashes, job(good).state) == (0, JobState.READY)
            assert job(bad).attempt == 0
        assert [error.kind for error in job(bad).errors] == [ErrorKind.CRASH] * 3

    def test_a_run_that_ends_clears_the_mark(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        start_worker: StartWorker,
    ) -> None:
        enqueue()
        worker.start(*worker.claim())
        clock.advance(LEASE)
        backend.maintain(10)
        other = start_worker()
        [claimed] = other.claim()
        assert claimed.suspect
        retry = params.OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=0)
        other.settle(claimed.lease, retry)
        backend.maintain(10)
        [again] = other.claim()
        assert not again.suspect

    def test_a_job_whose_cancellation_was_asked_for_ends_with_its_worker(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
    ) -> None:
        started, unstarted = enqueue(), enqueue()
        worker.start(worker.claim(2)[0])
        backend.cancel(CancelRequest(ids=(started, unstarted), reason="enough", running=True))
        clock.advance(LEASE)
        backend.maintain(10)
        for job_id in (started, unstarted):
            assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "enough")

    def test_a_worker_that_leaves_gives_back_what_it_holds(
        self,
        backend: Backend,
        enqueue: Enqueue,
        worker: PlayedWorker,
        start_worker: StartWorker,
        job: GetJob,
    ) -> None:
        started, unstarted = enqueue(), enqueue()
        claimed = worker.claim(2)
        worker.start(claimed[0])
        worker.leave()
        assert list(backend.workers()) == []
        for job_id in (started, unstarted):
            record = job(job_id)
            assert (record.state, record.attempt, record.crashes) == (JobState.READY, 0, 0)
        assert job(unstarted).errors == ()
        other = start_worker()
        assert other.claim_ids() == [started, unstarted]
        assert other.settle(claimed[0].lease, SUCCESS) is Verdict.STALE

    def test_a_worker_that_is_unknown_may_leave(
        self, backend: Backend, worker: PlayedWorker
    ) -> None:
        worker.leave()
        worker.leave()
        assert list(backend.workers()) == []

    def test_a_stepped_wall_clock_does_not_end_leases(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        worker.claim()
        clock.set_wall(clock.wall_ms() + 10 * LEASE)
        assert backend.maintain(10).rescued == 0
