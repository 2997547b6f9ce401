"""Deleting finished jobs, and running them again."""

from __future__ import annotations

import uuid

import pytest

from taskito.backends import params
from taskito.backends.params import CancelRequest, JobState, PurgeRequest, ReplayRequest
from taskito.exceptions import ConfigurationError

NOW = 1_800_000_000_000


def left(backend):
    return {record.id for record in backend.list(params.ListRequest(limit=1_000)).jobs}


def test_only_finished_jobs_go(backend, enqueue, worker):
    enqueue()
    enqueue()
    worker.succeed()
    worker.claim()
    waiting = {enqueue(), enqueue(delay_ms=9)}
    before = left(backend)
    assert backend.purge(PurgeRequest()) == 1
    assert left(backend) > waiting
    assert len(left(backend)) == len(before) - 1
    assert backend.purge(PurgeRequest()) == 0


def test_a_state_that_is_not_final_is_refused(backend):
    with pytest.raises(ConfigurationError, match="ready"):
        backend.purge(PurgeRequest(states=(JobState.DEAD, JobState.READY)))


def test_filters_combine(backend, enqueue, worker, clock):
    complete = enqueue()
    worker.succeed()
    dead = enqueue()
    worker.fail()
    clock.advance(100)
    elsewhere = enqueue(queue="x")
    worker.succeed()
    everything = {complete, dead, elsewhere}
    for request in (
        PurgeRequest(queue="nowhere"),
        PurgeRequest(task="other"),
        PurgeRequest(older_than_ms=101),
        PurgeRequest(ids=(str(uuid.uuid4()),)),
        PurgeRequest(states=(JobState.CANCELLED,)),
    ):
        assert backend.purge(request) == 0
    assert left(backend) == everything
    assert backend.purge(PurgeRequest(older_than_ms=100, states=(JobState.DEAD,))) == 1
    assert left(backend) == {complete, elsewhere}
    assert backend.purge(PurgeRequest(ids=(elsewhere,), queue="default")) == 0
    assert backend.purge(PurgeRequest(ids=(elsewhere,), queue="x")) == 1
    assert left(backend) == {complete}


def test_the_oldest_go_first(backend, enqueue, worker):
    ids = [enqueue() for _ in range(3)]
    assert [worker.succeed() for _ in ids] == ids
    assert backend.purge(PurgeRequest(limit=2)) == 2
    assert left(backend) == {ids[2]}


def test_a_purge_frees_the_id(backend, enqueue, worker):
    given = str(uuid.uuid4())
    enqueue(id=given)
    worker.succeed()
    backend.purge(PurgeRequest())
    assert backend.get([given]) == [None]
    [answer] = backend.enqueue([params.NewJob(task="add", id=given)])
    assert answer == params.Enqueued(id=given)


def test_a_purged_dependency_leaves_the_dependent_alone(backend, enqueue, worker, job):
    parent = enqueue()
    child = enqueue(depends_on=(parent,))
    worker.succeed()
    backend.purge(PurgeRequest())
    assert job(child).state is JobState.READY
    assert worker.succeed() == child
    assert backend.purge(PurgeRequest()) == 1


# Replay -----------------------------------------------------------------------------------------


def test_a_replay_is_a_new_job_with_the_same_payload_and_options(backend, enqueue, worker, job):
    old = enqueue(
        payload=b"p",
        metadata=b"m",
        serializer="json",
        priority=3,
        max_retries=5,
        max_crashes=6,
        timeout_ms=7,
        idempotency_key="k",
        unique_key="u",
        expires_in_ms=10,
    )
    worker.fail()
    [new] = backend.replay(ReplayRequest(ids=(old,)))
    assert new not in (None, old)
    record = job(new)
    assert (record.state, record.original_id) == (JobState.READY, old)
    assert (record.payload, record.metadata, record.serializer) == (b"p", b"m", "json")
    assert (record.priority, record.max_retries, record.max_crashes) == (3, 5, 6)
    assert (record.timeout_ms, record.attempt, record.errors) == (7, 0, ())
    assert (job(old).state, job(old).replayed_as) == (JobState.DEAD, new)
    assert (record.unique_key, record.expires_ms) == (None, None)
    assert enqueue(idempotency_key="k") == old
    assert worker.claim_ids() == [new]


def test_only_dead_letters_that_were_not_replayed_if_asked_so(backend, enqueue, worker):
    complete = enqueue()
    worker.succeed()
    dead = enqueue()
    worker.fail()
    waiting = enqueue()
    request = ReplayRequest(ids=(complete, dead, waiting, str(uuid.uuid4())), dead_only=True)
    answers = backend.replay(request)
    assert [answer is not None for answer in answers] == [False, True, False, False]
    assert backend.replay(request) == [None] * 4


def test_any_finished_job_can_be_replayed_again_and_again(backend, enqueue, worker, job):
    complete = enqueue()
    worker.succeed()
    cancelled = enqueue()
    backend.cancel(CancelRequest(ids=(cancelled,)))
    waiting = enqueue(delay_ms=5)
    request = ReplayRequest(ids=(complete, cancelled, waiting))
    first, second, refused = backend.replay(request)
    assert None not in (first, second)
    assert refused is None
    assert job(complete).replayed_as == first
    [again] = backend.replay(ReplayRequest(ids=(complete,)))
    assert again not in (None, first)
    assert job(complete).replayed_as == again


def test_a_replay_does_not_wait_for_the_old_delay(backend, enqueue, worker, clock, job):
    old = enqueue(delay_ms=100)
    clock.advance(100)
    backend.maintain(10)
    worker.fail()
    [new] = backend.replay(ReplayRequest(ids=(old,)))
    assert job(new).state is JobState.READY
