"""Attempts that did not succeed: counted, remembered, tried again or buried."""
# ruff: noqa: D102, PLR0917, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import ErrorKind, JobState, Why
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import NOW, Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker
from taskito.testing.conformance.topic import Topic

__all__ = ["RetryContract"]


class RetryContract(Topic):
    """What follows from an attempt that failed, timed out, crashed or was rejected."""

    topic = "retry"

    @pytest.mark.parametrize("kind", [ErrorKind.FAILURE, ErrorKind.TIMEOUT])
    def test_a_retry_uses_an_attempt_and_waits(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
        kind: ErrorKind,
    ) -> None:
        job_id = enqueue()
        [claimed] = worker.claim()
        worker.settle(claimed.lease, params.OutcomeRetry(error=b"why", kind=kind, delay_ms=400))
        record = job(job_id)
        assert (record.state, record.why) == (JobState.SCHEDULED, Why.RETRY)
        assert (record.due_ms, record.attempt) == (NOW + 400, 1)
        [error] = record.errors
        assert error == params.ErrorRecord(
            run=claimed.lease.token,
            attempt=0,
            kind=kind,
            at_ms=NOW,
            worker=worker.id,
            detail=b"why",
        )
        clock.advance(399)
        assert backend.maintain(10).promoted == 0
        assert worker.claim() == []
        clock.advance(1)
        assert backend.maintain(10).promoted == 1
        [again] = worker.claim()
        assert (again.attempt, again.max_retries) == (1, 3)

    def test_a_retried_job_can_still_complete(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        worker.finish(params.OutcomeRetry(error=b"1", kind=ErrorKind.FAILURE, delay_ms=0))
        backend.maintain(10)
        assert worker.succeed() == job_id
        record = job(job_id)
        assert (record.state, record.attempt, record.why) == (JobState.COMPLETE, 1, None)
        assert [error.detail for error in record.errors] == [b"1"]

    def test_a_dead_letter_keeps_the_history(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        worker.finish(params.OutcomeRetry(error=b"first", kind=ErrorKind.FAILURE, delay_ms=0))
        backend.maintain(10)
        worker.finish(params.OutcomeDead(error=b"second", kind=ErrorKind.TIMEOUT))
        record = job(job_id)
        assert record.state is JobState.DEAD
        assert record.attempt == 2
        assert [(error.attempt, error.kind, error.detail) for error in record.errors] == [
            (0, ErrorKind.FAILURE, b"first"),
            (1, ErrorKind.TIMEOUT, b"second"),
        ]
        first, second = record.errors
        assert first.run < second.run == record.run
        assert worker.claim() == []

    def test_a_rejected_job_is_dead_at_once_without_a_failure(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        [claimed] = worker.claim()
        unreadable = params.OutcomeDead(error=b"e", kind=ErrorKind.REJECTED)
        worker.settle(claimed.lease, unreadable, started_ago_ms=None)
        record = job(job_id)
        assert (record.state, record.attempt, record.started_ms) == (JobState.DEAD, 0, None)
        assert [error.kind for error in record.errors] == [ErrorKind.REJECTED]

    def test_a_crash_reported_by_a_worker_is_charged_apart(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
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

    def test_interruptions_and_snoozes_never_use_up_a_job(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue(max_retries=0, max_crashes=0)
        for _ in range(5):
            worker.finish(params.OutcomeRelease(interrupted=True))
            worker.finish(params.OutcomeSnooze(delay_ms=0))
            backend.maintain(10)
        record = job(job_id)
        assert (record.state, record.attempt, record.crashes) == (JobState.READY, 0, 0)
        assert [error.kind for error in record.errors] == [ErrorKind.INTERRUPTED] * 5
