"""Settlements: verdicts, outcomes, and what follows from each."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import uuid

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import ErrorKind, JobState, Lease, Verdict, Why
from taskito.exceptions import ConfigurationError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import NOW, Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic

__all__ = ["SettleContract"]

SUCCESS = params.OutcomeSuccess(result=b"5", serializer="json")
OUTCOMES = (
    params.OutcomeSuccess(result=b"6", serializer="json"),
    params.OutcomeRetry(error=b"e", kind=ErrorKind.FAILURE, delay_ms=0),
    params.OutcomeDead(error=b"e", kind=ErrorKind.FAILURE),
    params.OutcomeCancelled(reason="r"),
    params.OutcomeSnooze(delay_ms=0),
    params.OutcomeRelease(),
    params.OutcomeRelease(interrupted=True),
)


class SettleContract(Topic):
    """What ``exchange`` promises about the settlements, starts and renewals that it takes."""

    topic = "settle"

    def test_success_stores_the_result(
        self, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        [claimed] = worker.claim()
        clock.advance(50)
        assert worker.settle(claimed.lease, SUCCESS, started_ago_ms=20) is Verdict.OK
        record = job(job_id)
        assert record.state is JobState.COMPLETE
        assert (record.result, record.result_serializer) == (b"5", "json")
        assert (record.started_ms, record.finished_ms) == (NOW + 30, NOW + 50)
        assert (record.worker, record.run) == (worker.id, claimed.lease.token)
        assert (record.attempt, record.errors) == (0, ())

    def test_an_empty_result_is_not_none(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        worker.finish(params.OutcomeSuccess(result=b"", serializer="msgpack"))
        assert (job(job_id).result, job(job_id).result_serializer) == (b"", "msgpack")

    @pytest.mark.parametrize("late", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
    @pytest.mark.parametrize("first", OUTCOMES[:4], ids=lambda outcome: type(outcome).__name__)
    def test_a_settled_lease_is_stale_and_changes_nothing(
        self,
        backend: Backend,
        enqueue: Enqueue,
        worker: PlayedWorker,
        first: params.Outcome,
        late: params.Outcome,
    ) -> None:
        enqueue()
        [claimed] = worker.claim()
        assert worker.settle(claimed.lease, first) is Verdict.OK
        before = observe(backend)
        assert worker.settle(claimed.lease, late) is Verdict.STALE
        assert observe(backend) == before

    def test_the_lease_of_an_earlier_run_is_stale(
        self, enqueue: Enqueue, worker: PlayedWorker, start_worker: StartWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        [first] = worker.claim()
        worker.settle(first.lease, params.OutcomeRelease())
        other = start_worker()
        [second] = other.claim()
        assert second.lease.token > first.lease.token
        assert worker.settle(first.lease, SUCCESS) is Verdict.STALE
        assert worker.exchange(renewals=(first.lease,)).lost == (first.lease,)
        assert job(job_id).state is JobState.RUNNING
        assert other.settle(second.lease, SUCCESS) is Verdict.OK

    def test_an_earlier_lease_of_the_same_worker_is_stale(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        [first] = worker.claim()
        worker.settle(first.lease, params.OutcomeRelease())
        [second] = worker.claim()
        assert worker.settle(first.lease, SUCCESS) is Verdict.STALE
        assert (job(job_id).state, job(job_id).run) == (JobState.RUNNING, second.lease.token)

    def test_a_lease_is_of_use_to_its_worker_only(
        self, enqueue: Enqueue, worker: PlayedWorker, start_worker: StartWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        [claimed] = worker.claim()
        other = start_worker()
        assert other.settle(claimed.lease, SUCCESS) is Verdict.STALE
        assert other.exchange(renewals=(claimed.lease,)).lost == (claimed.lease,)
        assert job(job_id).state is JobState.RUNNING

    def test_a_job_that_does_not_exist_is_gone(self, worker: PlayedWorker) -> None:
        assert worker.settle(Lease(id=str(uuid.uuid4()), token=1), SUCCESS) is Verdict.GONE

    def test_verdicts_are_in_order_and_a_refused_one_does_not_disturb_the_rest(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        ids = [enqueue(), enqueue()]
        first, second = worker.claim(2)
        leases = [
            first.lease,
            Lease(id=second.lease.id, token=second.lease.token + 100),
            Lease(id=str(uuid.uuid4()), token=1),
            second.lease,
            first.lease,
        ]
        settlements = tuple(params.Settlement(lease=lease, outcome=SUCCESS) for lease in leases)
        assert worker.exchange(settlements=settlements).verdicts == (
            Verdict.OK,
            Verdict.STALE,
            Verdict.GONE,
            Verdict.OK,
            Verdict.STALE,
        )
        assert [job(job_id).state for job_id in ids] == [JobState.COMPLETE] * 2

    def test_a_snooze_uses_no_attempt(
        self, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        worker.finish(params.OutcomeSnooze(delay_ms=70))
        record = job(job_id)
        assert (record.state, record.why) == (JobState.SCHEDULED, Why.SNOOZE)
        assert record.due_ms == NOW + 70
        assert (record.attempt, record.errors) == (0, ())
        clock.advance(69)
        assert worker.claim() == []
        clock.advance(1)
        [again] = worker.claim()
        assert (again.lease.id, again.attempt) == (job_id, 0)

    def test_a_released_job_goes_back_to_its_place(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        first, second = enqueue(), enqueue()
        [claimed] = worker.claim()
        worker.settle(claimed.lease, params.OutcomeRelease(), started_ago_ms=None)
        record = job(first)
        assert (record.state, record.attempt, record.errors) == (JobState.READY, 0, ())
        assert record.worker is None
        assert worker.claim_ids() == [first, second]

    @pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
    def test_the_last_run_is_kept_however_it_ended(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob, outcome: params.Outcome
    ) -> None:
        job_id = enqueue()
        [claimed] = worker.claim()
        worker.settle(claimed.lease, outcome)
        record = job(job_id)
        assert record.run == claimed.lease.token
        assert record.started_ms is not None

    def test_an_interruption_is_recorded_but_uses_no_attempt(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        [claimed] = worker.claim()
        worker.settle(claimed.lease, params.OutcomeRelease(interrupted=True))
        record = job(job_id)
        assert (record.state, record.attempt) == (JobState.READY, 0)
        [entry] = record.errors
        assert (entry.kind, entry.run) == (ErrorKind.INTERRUPTED, claimed.lease.token)
        assert entry.detail == b""

    def test_a_worker_may_end_a_job_as_cancelled(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        worker.finish(params.OutcomeCancelled(reason="asked for"))
        assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "asked for")

    def test_settlements_come_before_claims(self, enqueue: Enqueue, worker: PlayedWorker) -> None:
        first = enqueue()
        [claimed] = worker.claim()
        settlement = params.Settlement(lease=claimed.lease, outcome=params.OutcomeRelease())
        reply = worker.exchange(settlements=(settlement,), want=1)
        [again] = reply.jobs
        assert again.lease.id == first
        assert again.lease.token > claimed.lease.token

    def test_a_bad_number_refuses_the_whole_exchange(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        enqueue()
        [claimed] = worker.claim()
        before = observe(backend)
        good = params.Settlement(lease=claimed.lease, outcome=SUCCESS)
        bad = params.Settlement(lease=claimed.lease, outcome=params.OutcomeSnooze(delay_ms=-1))
        with pytest.raises(ConfigurationError, match="delay_ms"):
            worker.exchange(settlements=(good, bad), want=1)
        assert observe(backend) == before

    def test_a_start_is_shown_while_the_job_runs(
        self, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        [claimed] = worker.claim()
        assert job(job_id).started_ms is None
        clock.advance(10)
        worker.start(claimed, ago_ms=4)
        assert job(job_id).started_ms == NOW + 6

    def test_a_start_under_a_stale_lease_is_not_shown(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        [claimed] = worker.claim()
        stale = Lease(id=job_id, token=claimed.lease.token + 1)
        worker.exchange(starts=(params.Start(lease=stale, ago_ms=0),))
        assert job(job_id).started_ms is None
