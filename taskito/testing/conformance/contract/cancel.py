"""Cancelling: pending jobs at once, running ones by request, dependents in the same atom."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import uuid

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import CancelRequest, CancelVerdict, ErrorKind, JobState, Verdict
from taskito.testing.conformance.fixtures import Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["CancelContract"]

GOING_ON = (
    params.OutcomeRetry(error=b"e", kind=ErrorKind.FAILURE, delay_ms=5),
    params.OutcomeSnooze(delay_ms=5),
    params.OutcomeRelease(),
    params.OutcomeRelease(interrupted=True),
)


class CancelContract(Topic):
    """What ``cancel`` promises."""

    topic = "cancel"

    def test_pending_jobs_are_cancelled_with_the_reason(
        self, backend: Backend, enqueue: Enqueue, job: GetJob, worker: PlayedWorker
    ) -> None:
        other = enqueue()
        ids = (enqueue(), enqueue(delay_ms=60_000))
        verdicts = backend.cancel(CancelRequest(ids=ids, reason="not needed"))
        assert list(verdicts) == [CancelVerdict.DONE] * 2
        for job_id in ids:
            record = job(job_id)
            assert (record.state, record.reason) == (JobState.CANCELLED, "not needed")
            assert (record.why, record.attempt) == (None, 0)
            assert record.finished_ms is not None
        assert worker.claim_ids() == [other]

    @needs("dependencies")
    def test_a_blocked_job_is_cancelled_and_its_parent_goes_on(
        self, backend: Backend, enqueue: Enqueue, job: GetJob, worker: PlayedWorker
    ) -> None:
        parent = enqueue()
        child = enqueue(depends_on=(parent,))
        verdicts = backend.cancel(CancelRequest(ids=(child,), reason="not needed"))
        assert list(verdicts) == [CancelVerdict.DONE]
        assert (job(child).state, job(child).reason) == (JobState.CANCELLED, "not needed")
        assert worker.succeed() == parent
        assert job(child).state is JobState.CANCELLED

    def test_what_is_final_or_unknown_is_refused(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        complete = enqueue()
        worker.succeed()
        dead = enqueue()
        worker.fail()
        cancelled = enqueue()
        backend.cancel(CancelRequest(ids=(cancelled,), reason="first"))
        before = observe(backend)
        ids = (complete, dead, cancelled, str(uuid.uuid4()))
        request = CancelRequest(ids=ids, reason="second", running=True)
        assert list(backend.cancel(request)) == [CancelVerdict.REFUSED] * 4
        assert observe(backend) == before

    def test_verdicts_are_in_order(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        running, waiting = enqueue(), enqueue()
        worker.claim()
        request = CancelRequest(ids=(str(uuid.uuid4()), waiting, running, waiting), running=True)
        assert list(backend.cancel(request)) == [
            CancelVerdict.REFUSED,
            CancelVerdict.DONE,
            CancelVerdict.REQUESTED,
            CancelVerdict.REFUSED,
        ]
        assert list(backend.cancel(CancelRequest(ids=()))) == []

    def test_a_running_job_is_left_alone_unless_asked_for(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        job_id = enqueue()
        worker.claim()
        before = observe(backend)
        assert list(backend.cancel(CancelRequest(ids=(job_id,)))) == [CancelVerdict.REFUSED]
        assert observe(backend) == before
        assert worker.exchange().cancel_requests == ()

    def test_the_worker_is_told_in_each_exchange_until_it_settles(
        self,
        backend: Backend,
        enqueue: Enqueue,
        worker: PlayedWorker,
        start_worker: StartWorker,
        job: GetJob,
    ) -> None:
        job_id, other = enqueue(), enqueue()
        first, _ = worker.claim(2)
        request = CancelRequest(ids=(job_id,), running=True)
        assert list(backend.cancel(request)) == [CancelVerdict.REQUESTED]
        assert list(backend.cancel(request)) == [CancelVerdict.REQUESTED]
        assert job(job_id).cancel_requested
        assert start_worker().exchange().cancel_requests == ()
        assert worker.exchange().cancel_requests == (job_id,)
        assert worker.exchange(want=1).cancel_requests == (job_id,)
        worker.settle(first.lease, params.OutcomeCancelled(reason="stopped"))
        assert worker.exchange().cancel_requests == ()
        assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "stopped")
        assert job(other).state is JobState.RUNNING

    @pytest.mark.parametrize("outcome", GOING_ON, ids=lambda outcome: type(outcome).__name__)
    def test_a_job_that_would_go_on_ends_as_cancelled(
        self,
        backend: Backend,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
        outcome: params.Outcome,
    ) -> None:
        job_id = enqueue()
        [claimed] = worker.claim()
        backend.cancel(CancelRequest(ids=(job_id,), reason="enough", running=True))
        assert worker.settle(claimed.lease, outcome) is Verdict.OK
        assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "enough")
        assert worker.claim() == []

    def test_the_last_attempt_of_a_job_that_ends_as_cancelled_counts(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        [claimed] = worker.claim()
        backend.cancel(CancelRequest(ids=(job_id,), running=True))
        worker.settle(claimed.lease, GOING_ON[0])
        assert (job(job_id).state, job(job_id).attempt) == (JobState.CANCELLED, 1)
        assert [error.attempt for error in job(job_id).errors] == [0]

    def test_a_crash_too_many_of_a_job_that_is_to_be_cancelled_ends_it_as_cancelled(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue(max_crashes=1)
        [claimed] = worker.claim()
        backend.cancel(CancelRequest(ids=(job_id,), running=True))
        crash = params.OutcomeRetry(error=b"\0gone", kind=ErrorKind.CRASH, delay_ms=0)
        worker.settle(claimed.lease, crash)
        assert job(job_id).state is JobState.CANCELLED

    def test_a_worker_that_leaves_ends_what_is_to_be_cancelled_with_its_history(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        worker.finish(params.OutcomeRetry(error=b"e", kind=ErrorKind.FAILURE, delay_ms=0))
        backend.maintain(10)
        worker.start(*worker.claim())
        backend.cancel(CancelRequest(ids=(job_id,), running=True))
        worker.leave()
        record = job(job_id)
        assert (record.state, record.attempt) == (JobState.CANCELLED, 1)
        assert [(error.kind, error.attempt) for error in record.errors] == [
            (ErrorKind.FAILURE, 0),
            (ErrorKind.INTERRUPTED, 1),
        ]

    @needs("dependencies")
    @pytest.mark.parametrize("outcome", GOING_ON, ids=lambda outcome: type(outcome).__name__)
    def test_dependents_of_a_running_job_are_cancelled_at_its_settlement(
        self,
        backend: Backend,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
        outcome: params.Outcome,
    ) -> None:
        job_id = enqueue()
        child = enqueue(depends_on=(job_id,))
        [claimed] = worker.claim()
        backend.cancel(CancelRequest(ids=(job_id,), reason="enough", running=True))
        assert job(child).state is JobState.BLOCKED
        worker.settle(claimed.lease, outcome)
        assert job(child).state is JobState.CANCELLED

    def test_a_job_that_ends_first_keeps_its_end(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        ids = [enqueue(), enqueue()]
        first, second = worker.claim(2)
        backend.cancel(CancelRequest(ids=tuple(ids), running=True))
        worker.settle(first.lease, params.OutcomeSuccess(result=b"", serializer="json"))
        worker.settle(second.lease, params.OutcomeDead(error=b"", kind=ErrorKind.FAILURE))
        assert [job(job_id).state for job_id in ids] == [JobState.COMPLETE, JobState.DEAD]
