"""Settlements: verdicts, outcomes, and what follows from each."""

from __future__ import annotations

import uuid

import pytest

from taskito.backends import params
from taskito.backends.params import ErrorKind, JobState, Lease, Verdict, Why
from taskito.exceptions import ConfigurationError

NOW = 1_800_000_000_000
SUCCESS = params.OutcomeSuccess(result=b"5", serializer="json")


def test_success_stores_the_result(clock, enqueue, worker, job):
    job_id = enqueue()
    [claimed] = worker.claim()
    clock.advance(50)
    assert worker.settle(claimed.lease, SUCCESS, started_ago_ms=20) is Verdict.OK
    record = job(job_id)
    assert record.state is JobState.COMPLETE
    assert (record.result, record.result_serializer) == (b"5", "json")
    assert (record.started_ms, record.finished_ms) == (NOW + 30, NOW + 50)
    assert (record.worker, record.run) == (worker.id, claimed.lease.token)
    assert record.errors == ()


def test_a_settled_lease_is_stale_and_changes_nothing(enqueue, worker, job):
    job_id = enqueue()
    [claimed] = worker.claim()
    worker.settle(claimed.lease, SUCCESS)
    other = params.OutcomeSuccess(result=b"6", serializer="json")
    assert worker.settle(claimed.lease, other) is Verdict.STALE
    assert job(job_id).result == b"5"


def test_the_lease_of_an_earlier_run_is_stale(enqueue, worker, start_worker, job):
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


def test_a_lease_is_of_use_to_its_worker_only(enqueue, worker, start_worker, job):
    job_id = enqueue()
    [claimed] = worker.claim()
    other = start_worker()
    assert other.settle(claimed.lease, SUCCESS) is Verdict.STALE
    assert other.exchange(renewals=(claimed.lease,)).lost == (claimed.lease,)
    assert job(job_id).state is JobState.RUNNING


def test_a_rejected_job_is_dead_at_once_without_a_failure(enqueue, worker, job):
    job_id = enqueue()
    [claimed] = worker.claim()
    unreadable = params.OutcomeDead(error=b"e", kind=ErrorKind.REJECTED)
    worker.settle(claimed.lease, unreadable, started_ago_ms=None)
    record = job(job_id)
    assert (record.state, record.attempt, record.started_ms) == (JobState.DEAD, 0, None)
    assert [error.kind for error in record.errors] == [ErrorKind.REJECTED]


def test_a_job_that_does_not_exist_is_gone(worker):
    assert worker.settle(Lease(id=str(uuid.uuid4()), token=1), SUCCESS) is Verdict.GONE


def test_verdicts_are_in_order_and_a_refused_one_does_not_disturb_the_rest(enqueue, worker, job):
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


@pytest.mark.parametrize("kind", [ErrorKind.FAILURE, ErrorKind.TIMEOUT])
def test_a_retry_uses_an_attempt_and_waits(backend, clock, enqueue, worker, job, kind):  # noqa: PLR0917
    job_id = enqueue()
    [claimed] = worker.claim()
    worker.settle(claimed.lease, params.OutcomeRetry(error=b"why", kind=kind, delay_ms=400))
    record = job(job_id)
    assert (record.state, record.why, record.due_ms) == (
        JobState.SCHEDULED,
        Why.RETRY,
        NOW + 400,
    )
    assert record.attempt == 1
    [error] = record.errors
    assert error == params.ErrorRecord(
        run=claimed.lease.token,
        attempt=0,
        kind=kind,
        at_ms=NOW,
        worker=worker.id,
        detail=b"why",
    )
    clock.advance(400)
    assert backend.maintain(10).promoted == 1
    [again] = worker.claim()
    assert (again.attempt, again.max_retries) == (1, 3)


def test_a_dead_letter_keeps_the_history(backend, enqueue, worker, job):
    job_id = enqueue()
    retry = params.OutcomeRetry(error=b"first", kind=ErrorKind.FAILURE, delay_ms=0)
    worker.finish(retry)
    backend.maintain(10)
    worker.finish(params.OutcomeDead(error=b"second", kind=ErrorKind.TIMEOUT))
    record = job(job_id)
    assert record.state is JobState.DEAD
    assert record.attempt == 2
    assert [(error.attempt, error.detail) for error in record.errors] == [
        (0, b"first"),
        (1, b"second"),
    ]


def test_a_snooze_uses_no_attempt(enqueue, worker, job):
    job_id = enqueue()
    worker.finish(params.OutcomeSnooze(delay_ms=70))
    record = job(job_id)
    assert (record.state, record.why, record.due_ms) == (
        JobState.SCHEDULED,
        Why.SNOOZE,
        NOW + 70,
    )
    assert (record.attempt, record.errors) == (0, ())


def test_a_released_job_goes_back_to_its_place(enqueue, worker, job):
    first, second = enqueue(), enqueue()
    [claimed] = worker.claim()
    worker.settle(claimed.lease, params.OutcomeRelease(), started_ago_ms=None)
    record = job(first)
    assert (record.state, record.attempt, record.errors) == (JobState.READY, 0, ())
    assert worker.claim_ids() == [first, second]


def test_an_interruption_is_recorded_but_uses_no_attempt(enqueue, worker, job):
    job_id = enqueue()
    [claimed] = worker.claim()
    worker.settle(claimed.lease, params.OutcomeRelease(interrupted=True))
    record = job(job_id)
    assert (record.state, record.attempt) == (JobState.READY, 0)
    [entry] = record.errors
    assert (entry.kind, entry.run, entry.detail) == (
        ErrorKind.INTERRUPTED,
        claimed.lease.token,
        b"",
    )


def test_a_worker_may_end_a_job_as_cancelled(enqueue, worker, job):
    job_id = enqueue()
    worker.finish(params.OutcomeCancelled(reason="asked for"))
    assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "asked for")


def test_a_crash_reported_by_a_worker_is_charged_apart(backend, enqueue, worker, job):
    job_id = enqueue(max_crashes=2)
    crash = params.OutcomeRetry(error=b"\0signal 9", kind=ErrorKind.CRASH, delay_ms=0)
    worker.finish(crash)
    assert (job(job_id).crashes, job(job_id).attempt) == (1, 0)
    assert job(job_id).state is JobState.SCHEDULED
    backend.maintain(10)
    worker.finish(crash)
    record = job(job_id)
    assert (record.state, record.crashes, record.attempt) == (JobState.DEAD, 2, 0)
    assert [error.kind for error in record.errors] == [ErrorKind.CRASH] * 2


def test_settlements_come_before_claims(enqueue, worker):
    first = enqueue(unique_key="k")
    [claimed] = worker.claim()
    settlement = params.Settlement(lease=claimed.lease, outcome=params.OutcomeRelease())
    reply = worker.exchange(settlements=(settlement,), want=1)
    [again] = reply.jobs
    assert again.lease.id == first
    assert again.lease.token > claimed.lease.token


def test_a_bad_number_refuses_the_whole_exchange(enqueue, worker, job):
    job_id = enqueue()
    [claimed] = worker.claim()
    good = params.Settlement(lease=claimed.lease, outcome=SUCCESS)
    bad = params.Settlement(lease=claimed.lease, outcome=params.OutcomeSnooze(delay_ms=-1))
    with pytest.raises(ConfigurationError, match="delay_ms"):
        worker.exchange(settlements=(good, bad))
    assert job(job_id).state is JobState.RUNNING


def test_a_start_is_shown_while_the_job_runs(clock, enqueue, worker, job):
    job_id = enqueue()
    [claimed] = worker.claim()
    assert job(job_id).started_ms is None
    clock.advance(10)
    worker.start(claimed, ago_ms=4)
    assert job(job_id).started_ms == NOW + 6


def test_progress_and_log_need_the_current_lease(backend, enqueue, worker, job):
    job_id = enqueue()
    assert not backend.set_progress(job_id, None, 10)
    [claimed] = worker.claim()
    lease, stale = claimed.lease, Lease(id=job_id, token=claimed.lease.token + 1)
    assert backend.set_progress(job_id, lease.token, 40)
    assert not backend.set_progress(job_id, stale.token, 50)
    assert job(job_id).progress == 40
    assert backend.set_progress(job_id, None, 60)
    assert job(job_id).progress == 60
    assert backend.append_log(lease, "info", "half\nway")
    assert not backend.append_log(stale, "info", "no")
    worker.settle(lease, SUCCESS)
    assert not backend.append_log(lease, "info", "too late")
    assert not backend.set_progress(job_id, lease.token, 70)
    assert backend.logs(job_id) == [
        params.LogRecord(run=lease.token, at_ms=NOW, level="info", message="half\nway")
    ]
    assert backend.logs(str(uuid.uuid4())) == []


@pytest.mark.parametrize("percent", [-1, 101])
def test_progress_beyond_its_bounds_is_refused(backend, enqueue, worker, percent):
    job_id = enqueue()
    worker.claim()
    with pytest.raises(ConfigurationError, match="percent"):
        backend.set_progress(job_id, None, percent)
