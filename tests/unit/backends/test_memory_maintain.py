"""Upkeep: promotion, rescue, expiry, retention."""

from __future__ import annotations

from taskito.backends import params
from taskito.backends.params import CancelRequest, ErrorKind, JobState, Verdict

LEASE = 30_000


def test_a_step_is_bounded_and_says_that_there_is_more(backend, clock, enqueue):
    for _ in range(5):
        enqueue(delay_ms=10)
    assert backend.maintain(10).next_due_ms == 10
    clock.advance(10)
    reply = backend.maintain(3)
    assert (reply.promoted, reply.next_due_ms) == (3, 0)
    reply = backend.maintain(3)
    assert (reply.promoted, reply.next_due_ms) == (2, None)


def test_tasks_that_no_worker_knows_are_reported(backend, enqueue, start_worker):
    enqueue("b")
    enqueue("a")
    enqueue("a", queue="x")
    assert backend.maintain(10).unknown_tasks == ("a", "b")
    worker = start_worker(tasks=("a",))
    assert backend.maintain(10).unknown_tasks == ("b",)
    worker.leave()
    assert backend.maintain(10).unknown_tasks == ("a", "b")


# Expiry -----------------------------------------------------------------------------------------


def test_waiting_jobs_expire_whatever_they_wait_for(backend, clock, enqueue, worker, job):
    parent = enqueue("unknown")
    ids = [
        enqueue("unknown", expires_in_ms=50),
        enqueue(delay_ms=100, expires_in_ms=50),
        enqueue(depends_on=(parent,), expires_in_ms=50),
    ]
    child = enqueue(depends_on=(ids[0],))
    clock.advance(49)
    assert backend.maintain(10).expired == 0
    clock.advance(1)
    assert backend.maintain(10).expired == 3
    assert {(job(job_id).state, job(job_id).reason) for job_id in ids} == {
        (JobState.CANCELLED, "expired")
    }
    assert job(child).state is JobState.CANCELLED
    assert job(parent).state is JobState.READY


def test_a_claimed_job_is_not_expired_but_one_given_back_is(backend, clock, enqueue, worker, job):
    job_id = enqueue(expires_in_ms=50)
    [claimed] = worker.claim()
    clock.advance(50)
    assert backend.maintain(10).expired == 0
    worker.settle(claimed.lease, params.OutcomeRelease(), started_ago_ms=None)
    assert worker.claim() == []
    backend.maintain(10)
    assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "expired")


# Retention --------------------------------------------------------------------------------------


def test_finished_jobs_are_deleted_when_their_time_is_over(backend, clock, enqueue, worker):
    kept, pruned = enqueue(), enqueue(result_ttl_ms=100, idempotency_key="k")
    worker.succeed()
    worker.succeed()
    clock.advance(99)
    assert backend.maintain(10).pruned == 0
    clock.advance(1)
    assert backend.maintain(10).pruned == 1
    found, gone = backend.get([kept, pruned])
    assert found is not None
    assert gone is None
    assert enqueue(idempotency_key="k") != pruned


# Dead workers -----------------------------------------------------------------------------------


def test_a_lease_lasts_its_time_and_renewals_extend_it(backend, clock, enqueue, worker, job):
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


def test_claimed_jobs_that_had_not_started_go_back_without_a_trace(  # noqa: PLR0917
    backend, clock, enqueue, worker, start_worker, job
):
    job_id = enqueue()
    worker.claim()
    clock.advance(LEASE)
    assert backend.maintain(10).rescued == 1
    record = job(job_id)
    assert (record.state, record.attempt, record.crashes) == (JobState.READY, 0, 0)
    assert record.errors == ()
    [again] = start_worker().claim()
    assert not again.suspect


def test_started_jobs_of_a_dead_worker_become_suspects(  # noqa: PLR0917
    backend, clock, enqueue, worker, start_worker, job
):
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
    taken = one.claim(3)
    assert [(job.lease.id, job.suspect) for job in taken] == [(first, True), (unstarted, False)]
    assert one.claim(3) == []
    assert [(job.lease.id, job.suspect) for job in two.claim(3)] == [(second, True)]


def test_a_worker_gets_the_next_suspect_when_the_first_is_done(
    backend, clock, enqueue, worker, start_worker
):
    ids = [enqueue(), enqueue()]
    worker.start(*worker.claim(2))
    clock.advance(LEASE)
    backend.maintain(10)
    other = start_worker()
    assert [other.succeed(), other.succeed()] == ids


def test_a_suspect_alone_is_charged_and_ends_when_it_was_too_often(  # noqa: PLR0917
    backend, clock, enqueue, worker, start_worker, job
):
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


def test_a_run_that_ends_clears_the_mark(backend, clock, enqueue, worker, start_worker):
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
    backend, clock, enqueue, worker, job
):
    started, unstarted = enqueue(), enqueue()
    worker.start(worker.claim(2)[0])
    backend.cancel(CancelRequest(ids=(started, unstarted), reason="enough", running=True))
    clock.advance(LEASE)
    backend.maintain(10)
    for job_id in (started, unstarted):
        assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "enough")


def test_a_worker_that_leaves_gives_back_what_it_holds(backend, enqueue, worker, start_worker, job):
    started, unstarted = enqueue(), enqueue()
    claimed = worker.claim(2)
    worker.start(claimed[0])
    worker.leave()
    assert backend.workers() == []
    for job_id in (started, unstarted):
        record = job(job_id)
        assert (record.state, record.attempt, record.crashes) == (JobState.READY, 0, 0)
    assert job(unstarted).errors == ()
    other = start_worker()
    assert other.claim_ids() == [started, unstarted]
    success = params.OutcomeSuccess(result=b"", serializer="json")
    assert other.settle(claimed[0].lease, success) is Verdict.STALE


def test_a_stepped_wall_clock_does_not_end_leases(backend, clock, enqueue, worker):
    enqueue()
    worker.claim()
    clock.set_wall(clock.wall_ms() + 10 * LEASE)
    assert backend.maintain(10).rescued == 0
