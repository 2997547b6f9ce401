"""Cancelling: pending jobs at once, running ones by request, dependents in the same atom."""

from __future__ import annotations

import uuid

import pytest

from taskito.backends import params
from taskito.backends.params import CancelRequest, CancelVerdict, ErrorKind, JobState


def test_pending_jobs_are_cancelled_with_the_reason(backend, enqueue, job, worker):
    parent = enqueue()
    ids = (enqueue(), enqueue(delay_ms=100), enqueue(depends_on=(parent,)))
    verdicts = backend.cancel(CancelRequest(ids=ids, reason="not needed"))
    assert verdicts == [CancelVerdict.DONE] * 3
    for job_id in ids:
        record = job(job_id)
        assert (record.state, record.reason) == (JobState.CANCELLED, "not needed")
        assert record.finished_ms is not None
    assert worker.claim_ids() == [parent]


def test_what_is_final_or_unknown_is_refused(backend, enqueue, worker, job):
    job_id = enqueue()
    worker.succeed()
    unknown = str(uuid.uuid4())
    request = CancelRequest(ids=(job_id, unknown), running=True)
    assert backend.cancel(request) == [CancelVerdict.REFUSED] * 2
    assert job(job_id).state is JobState.COMPLETE


def test_a_running_job_is_left_alone_unless_asked_for(backend, enqueue, worker, job):
    job_id = enqueue()
    worker.claim()
    assert backend.cancel(CancelRequest(ids=(job_id,))) == [CancelVerdict.REFUSED]
    assert not job(job_id).cancel_requested
    assert worker.exchange().cancel_requests == ()


def test_the_worker_is_told_in_each_exchange_until_it_settles(
    backend, enqueue, worker, start_worker, job
):
    job_id, other = enqueue(), enqueue()
    first, _ = worker.claim(2)
    request = CancelRequest(ids=(job_id,), running=True)
    assert backend.cancel(request) == [CancelVerdict.REQUESTED]
    assert backend.cancel(request) == [CancelVerdict.REQUESTED]
    assert job(job_id).cancel_requested
    assert start_worker().exchange().cancel_requests == ()
    assert worker.exchange().cancel_requests == (job_id,)
    assert worker.exchange(want=1).cancel_requests == (job_id,)
    worker.settle(first.lease, params.OutcomeCancelled(reason="stopped"))
    assert worker.exchange().cancel_requests == ()
    assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "stopped")
    assert job(other).state is JobState.RUNNING


@pytest.mark.parametrize(
    "outcome",
    [
        params.OutcomeRetry(error=b"e", kind=ErrorKind.FAILURE, delay_ms=5),
        params.OutcomeSnooze(delay_ms=5),
        params.OutcomeRelease(),
        params.OutcomeRelease(interrupted=True),
    ],
)
def test_a_job_that_would_go_on_ends_as_cancelled(backend, enqueue, worker, job, outcome):
    job_id = enqueue()
    child = enqueue(depends_on=(job_id,))
    [claimed] = worker.claim()
    backend.cancel(CancelRequest(ids=(job_id,), reason="enough", running=True))
    assert job(child).state is JobState.BLOCKED
    worker.settle(claimed.lease, outcome)
    assert (job(job_id).state, job(child).state) == (JobState.CANCELLED, JobState.CANCELLED)
    assert worker.claim() == []


def test_a_job_that_ends_first_keeps_its_end(backend, enqueue, worker, job):
    job_id = enqueue()
    [claimed] = worker.claim()
    backend.cancel(CancelRequest(ids=(job_id,), running=True))
    worker.settle(claimed.lease, params.OutcomeSuccess(result=b"", serializer="json"))
    assert job(job_id).state is JobState.COMPLETE


def test_cancelling_frees_the_unique_key(backend, enqueue):
    job_id = enqueue(unique_key="k")
    backend.cancel(CancelRequest(ids=(job_id,)))
    assert enqueue(unique_key="k") != job_id
