"""Claims: who gets what, in which order, under which lease."""

from __future__ import annotations

import pytest

from taskito.backends import params
from taskito.backends.params import JobState, NewJob
from taskito.exceptions import ConfigurationError, UnknownWorkerError


def test_a_claim_hands_over_the_job_and_a_lease(enqueue, worker, job):
    job_id = enqueue(payload=b"p", metadata=b"m", serializer="json", queue="q", timeout_ms=7)
    [claimed] = worker.claim(5)
    assert claimed.lease.id == job_id
    assert claimed.lease.token > 0
    assert (claimed.task, claimed.queue, claimed.payload) == ("add", "q", b"p")
    assert (claimed.metadata, claimed.serializer, claimed.timeout_ms) == (b"m", "json", 7)
    assert (claimed.attempt, claimed.max_retries, claimed.expires_in_ms) == (0, 3, None)
    assert not claimed.suspect
    record = job(job_id)
    assert (record.state, record.worker, record.run) == (
        JobState.RUNNING,
        worker.id,
        claimed.lease.token,
    )
    assert worker.claim(5) == []


def test_order_is_priority_then_due_time_then_enqueueing(backend, clock, enqueue, start_worker):
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


def test_a_job_that_is_not_due_is_not_claimed(backend, clock, enqueue, worker):
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


def test_a_claim_finds_what_became_due_meanwhile(clock, enqueue, worker):
    job_id = enqueue(delay_ms=10)
    clock.advance(10)
    assert worker.claim_ids() == [job_id]


def test_only_served_queues_and_known_tasks_are_claimed(enqueue, start_worker):
    elsewhere, unknown, wanted = enqueue(queue="x"), enqueue("other"), enqueue()
    worker = start_worker(queues=("default",))
    assert worker.claim_ids() == [wanted]
    assert start_worker(tasks=("other", "add")).claim_ids() == [elsewhere, unknown]


def test_no_more_than_wanted_is_claimed(enqueue, worker):
    ids = [enqueue() for _ in range(5)]
    assert worker.claim(0) == []
    assert worker.claim_ids(2) == ids[:2]
    assert worker.claim_ids(2) == ids[2:4]


def test_an_expired_job_is_cancelled_and_never_claimed(backend, clock, enqueue, worker, job):
    job_id = enqueue(expires_in_ms=100)
    child = enqueue(depends_on=(job_id,))
    clock.advance(100)
    assert worker.claim() == []
    backend.maintain(10)
    assert (job(job_id).state, job(job_id).reason) == (JobState.CANCELLED, "expired")
    assert job(child).state is JobState.CANCELLED


def test_a_claim_says_how_long_until_the_job_expires(clock, enqueue, worker):
    enqueue(expires_in_ms=100)
    clock.advance(30)
    [claimed] = worker.claim()
    assert claimed.expires_in_ms == 70


def test_a_paused_queue_yields_nothing_until_it_is_resumed(backend, enqueue, worker):
    held = [enqueue(queue="x"), enqueue(queue="x", priority=9)]
    free = enqueue()
    backend.pause("x")
    backend.pause("x")
    assert backend.paused() == ["x"]
    reply = worker.exchange(want=10)
    assert [claimed.lease.id for claimed in reply.jobs] == [free]
    assert reply.paused == ("x",)
    backend.resume("x")
    backend.resume("x")
    assert backend.paused() == []
    assert worker.claim_ids() == held[::-1]


def test_tokens_only_grow_whatever_happens(backend, clock, enqueue, worker):
    job_id = enqueue()
    outcomes = [
        params.OutcomeRelease(),
        params.OutcomeSnooze(delay_ms=0),
        params.OutcomeRetry(error=b"", kind=params.ErrorKind.FAILURE, delay_ms=0),
        params.OutcomeRelease(interrupted=True),
    ]
    tokens = []
    for outcome in outcomes:
        backend.maintain(10)
        [claimed] = worker.claim()
        assert claimed.lease.id == job_id
        tokens.append(claimed.lease.token)
        worker.settle(claimed.lease, outcome)
    assert tokens == sorted(set(tokens))


def test_an_unregistered_worker_is_refused(backend, worker):
    worker.leave()
    with pytest.raises(UnknownWorkerError, match=worker.id):
        worker.claim()


def test_a_worker_id_must_be_free_and_well_formed(backend, worker):
    with pytest.raises(ConfigurationError, match="taken"):
        backend.register(worker.registration)
    with pytest.raises(ConfigurationError, match="hexadecimal"):
        backend.register(params.WorkerRegistration(id="me!", pid=1, host="h"))
    assert [record.id for record in backend.workers()] == [worker.id]


def test_the_waiter_is_woken_by_a_new_job(backend, enqueue):
    before = backend.wait(0, 0)
    assert backend.wait(before, 0) == before
    enqueue()
    assert backend.wait(before, 30) > before
