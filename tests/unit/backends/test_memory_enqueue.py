"""Accepting jobs: states at the start, keys, ids, and refusals that change nothing."""

from __future__ import annotations

import uuid

import pytest

from taskito.backends import params
from taskito.backends.params import JobState, NewJob, Why
from taskito.exceptions import ConfigurationError, JobNotFoundError

NOW = 1_800_000_000_000


def test_a_job_without_a_delay_is_ready_and_keeps_what_it_was_given(backend, enqueue, job):
    job_id = enqueue(
        queue="mail",
        payload=b"\x00p",
        serializer="json",
        priority=-128,
        max_retries=7,
        max_crashes=4,
        timeout_ms=0,
        metadata=b"m",
        unique_key="k\n",
    )
    record = job(job_id)
    assert record.id == job_id
    assert uuid.UUID(job_id).version == 7
    assert record.state is JobState.READY
    assert (record.task, record.queue, record.namespace) == ("add", "mail", "default")
    assert (record.payload, record.serializer, record.metadata) == (b"\x00p", "json", b"m")
    assert (record.priority, record.max_retries, record.max_crashes) == (-128, 7, 4)
    assert (record.timeout_ms, record.unique_key) == (0, "k\n")
    assert (record.attempt, record.crashes, record.run, record.worker) == (0, 0, 0, None)
    assert (record.created_ms, record.due_ms) == (NOW, NOW)
    assert record.result is None
    assert record.errors == ()


@pytest.mark.parametrize("fields", [{"delay_ms": 500}, {"eta_ms": NOW + 500}])
def test_a_job_that_is_due_later_is_scheduled(enqueue, job, fields):
    record = job(enqueue(**fields))
    assert (record.state, record.why, record.due_ms) == (JobState.SCHEDULED, Why.DELAY, NOW + 500)


def test_a_past_eta_is_due_now_and_does_not_overtake(enqueue, job, worker):
    first = enqueue()
    second = enqueue(eta_ms=1)
    assert job(second).state is JobState.READY
    assert worker.claim_ids() == [first, second]


@pytest.mark.parametrize(("fields", "at"), [({"expires_in_ms": 9}, 9), ({"expires_at_ms": NOW}, 0)])
def test_expiry_is_kept_as_an_instant(enqueue, job, fields, at):
    assert job(enqueue(**fields)).expires_ms == NOW + at


def test_a_batch_is_answered_in_order(backend):
    answers = backend.enqueue([NewJob(task=f"t{n}") for n in range(50)])
    assert [answer.duplicate for answer in answers] == [False] * 50
    tasks = [record and record.task for record in backend.get([a.id for a in answers])]
    assert tasks == [f"t{n}" for n in range(50)]


def test_an_empty_batch_is_no_error(backend):
    assert backend.enqueue([]) == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"task": ""}, "task"),
        ({"task": "x" * 256}, "task"),
        ({"task": "a\nb"}, "task"),
        ({"queue": ""}, "queue"),
        ({"queue": "a\x00b"}, "queue"),
        ({"priority": 128}, "priority"),
        ({"priority": -129}, "priority"),
        ({"delay_ms": -1}, "delay_ms"),
        ({"eta_ms": -1}, "eta_ms"),
        ({"eta_ms": NOW, "delay_ms": 1}, "eta_ms"),
        ({"expires_in_ms": -1}, "expires_in_ms"),
        ({"expires_in_ms": 1, "expires_at_ms": NOW}, "expires_at_ms"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_crashes": -1}, "max_crashes"),
        ({"timeout_ms": -1}, "timeout_ms"),
        ({"result_ttl_ms": -1}, "result_ttl_ms"),
        ({"unique_key": ""}, "unique_key"),
        ({"idempotency_key": "x" * 1025}, "idempotency_key"),
        ({"depends_on": (3,)}, "depends_on"),
        ({"depends_on": (9,)}, "depends_on"),
    ],
)
def test_a_bad_item_is_named_and_nothing_of_its_batch_is_stored(backend, fields, named):
    batch = [NewJob(task="add", unique_key=f"u{n}") for n in range(3)]
    with pytest.raises(ConfigurationError, match=rf"item 3: {named}"):
        backend.enqueue([*batch, NewJob(**{"task": "add", **fields})])
    assert backend.counts() == []
    assert [a.duplicate for a in backend.enqueue(batch)] == [False] * 3


def test_the_message_for_a_priority_says_what_is_allowed(backend):
    with pytest.raises(ConfigurationError, match=r"item 0: priority: 200 is not between -128 and"):
        backend.enqueue([NewJob(task="add", priority=200)])


def test_an_unknown_dependency_is_refused(backend):
    unknown = str(uuid.uuid4())
    with pytest.raises(JobNotFoundError, match=unknown):
        backend.enqueue([NewJob(task="add"), NewJob(task="add", depends_on=(unknown,))])
    assert backend.counts() == []


def test_a_unique_key_is_held_until_a_final_state(backend, enqueue, worker, clock):
    first = enqueue(unique_key="k")
    duplicate = params.Enqueued(id=first, duplicate=True)
    job = NewJob(task="add", unique_key="k")
    assert backend.enqueue([job, job]) == [duplicate, duplicate]
    [claimed] = worker.claim()
    assert backend.enqueue([job]) == [duplicate]
    retry = params.OutcomeRetry(error=b"", kind=params.ErrorKind.FAILURE, delay_ms=10)
    worker.settle(claimed.lease, retry)
    assert backend.enqueue([job]) == [duplicate]
    clock.advance(10)
    backend.maintain(10)
    assert worker.succeed() == first
    [answer] = backend.enqueue([job])
    assert not answer.duplicate
    assert answer.id != first


@pytest.mark.parametrize("field", ["unique_key", "idempotency_key"])
def test_within_a_batch_a_key_counts_from_the_item_that_takes_it(backend, field):
    job = NewJob(task="add", **{field: "k"})
    first, second, other = backend.enqueue([job, job, NewJob(task="add")])
    assert (first.duplicate, second.duplicate, other.duplicate) == (False, True, False)
    assert second.id == first.id != other.id
    assert sum(count.count for count in backend.counts()) == 2


def test_an_idempotency_key_outlives_the_job_until_it_is_purged(backend, enqueue, worker):
    first = enqueue(idempotency_key="k")
    worker.succeed()
    assert enqueue(idempotency_key="k") == first
    assert backend.purge(params.PurgeRequest()) == 1
    assert enqueue(idempotency_key="k") != first


def test_a_given_id_is_used_in_its_usual_form_and_answers_duplicate(backend, enqueue, job):
    given = uuid.uuid4()
    assert enqueue(id=given.hex.upper(), payload=b"first") == str(given)
    [again] = backend.enqueue([NewJob(task="add", id=str(given), payload=b"second")])
    assert again == params.Enqueued(id=str(given), duplicate=True)
    assert job(str(given)).payload == b"first"


def test_a_given_id_that_is_none_is_refused(backend):
    with pytest.raises(ConfigurationError, match="'nonsense'"):
        backend.enqueue([NewJob(task="add", id="nonsense")])
