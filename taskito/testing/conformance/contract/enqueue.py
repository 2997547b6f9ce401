"""Accepting jobs: states at the start, answers, and refusals that change nothing."""
# ruff: noqa: D102, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

import uuid
from typing import Any

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import JobState, NewJob, Why
from taskito.exceptions import ConfigurationError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import NOW, Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["EnqueueContract"]


class EnqueueContract(Topic):
    """What ``enqueue`` promises of any job."""

    topic = "enqueue"

    def test_a_job_without_a_delay_is_ready_and_keeps_what_it_was_given(
        self, options: Any, enqueue: Enqueue, job: GetJob
    ) -> None:
        job_id = enqueue(
            queue="mail",
            payload=b"\x00p",
            serializer="json",
            priority=-128,
            max_retries=7,
            max_crashes=4,
            timeout_ms=0,
            metadata=b"m",
        )
        record = job(job_id)
        assert record.id == job_id
        assert (record.state, record.why) == (JobState.READY, None)
        assert (record.task, record.queue) == ("add", "mail")
        assert record.namespace == options.namespace
        assert (record.payload, record.serializer, record.metadata) == (b"\x00p", "json", b"m")
        assert (record.priority, record.max_retries, record.max_crashes) == (-128, 7, 4)
        assert record.timeout_ms == 0
        assert (record.attempt, record.crashes, record.run, record.worker) == (0, 0, 0, None)
        assert (record.started_ms, record.finished_ms, record.progress) == (None, None, None)
        assert (record.result, record.reason, record.errors) == (None, None, ())
        assert (record.original_id, record.replayed_as) == (None, None)
        assert not record.cancel_requested

    def test_an_id_is_a_uuid_of_version_7(self, enqueue: Enqueue) -> None:
        job_id = enqueue()
        parsed = uuid.UUID(job_id)
        assert (str(parsed), parsed.version) == (job_id, 7)

    def test_a_new_job_is_created_and_due_now(
        self, clock: VirtualClock, enqueue: Enqueue, job: GetJob
    ) -> None:
        clock.advance(5)
        record = job(enqueue())
        assert (record.created_ms, record.due_ms) == (NOW + 5, NOW + 5)

    @pytest.mark.parametrize("metadata", [None, b"", b"\x00"])
    def test_absent_and_empty_metadata_are_told_apart(
        self, enqueue: Enqueue, job: GetJob, metadata: bytes | None
    ) -> None:
        assert job(enqueue(metadata=metadata)).metadata == metadata

    @pytest.mark.parametrize("fields", [{"delay_ms": 500}, {"eta_ms": NOW + 500}])
    def test_a_job_that_is_due_later_is_scheduled(
        self, clock: VirtualClock, enqueue: Enqueue, job: GetJob, fields: dict[str, Any]
    ) -> None:
        del clock
        record = job(enqueue(**fields))
        assert (record.state, record.why) == (JobState.SCHEDULED, Why.DELAY)
        assert record.due_ms == NOW + 500

    def test_a_past_eta_is_due_now_and_does_not_overtake(
        self, enqueue: Enqueue, job: GetJob, worker: PlayedWorker
    ) -> None:
        first = enqueue()
        second = enqueue(eta_ms=1)
        assert job(second).state is JobState.READY
        assert worker.claim_ids() == [first, second]

    @pytest.mark.parametrize(
        ("fields", "after"), [({"expires_in_ms": 9}, 9), ({"expires_at_ms": NOW}, 0)]
    )
    def test_expiry_is_kept_as_an_instant(
        self,
        clock: VirtualClock,
        enqueue: Enqueue,
        job: GetJob,
        fields: dict[str, Any],
        after: int,
    ) -> None:
        del clock
        assert job(enqueue(**fields)).expires_ms == NOW + after

    def test_a_batch_is_answered_in_order(self, backend: Backend) -> None:
        answers = backend.enqueue([NewJob(task=f"t{n}") for n in range(50)])
        assert [answer.duplicate for answer in answers] == [False] * 50
        assert len({answer.id for answer in answers}) == 50
        tasks = [record and record.task for record in backend.get([a.id for a in answers])]
        assert tasks == [f"t{n}" for n in range(50)]

    def test_no_job_of_a_large_batch_is_lost(self, backend: Backend, worker: PlayedWorker) -> None:
        ids = [answer.id for answer in backend.enqueue([NewJob(task="add")] * 1_500)]
        assert len(set(ids)) == 1_500
        assert None not in backend.get(ids)
        assert worker.claim_ids(2_000) == ids

    def test_an_empty_batch_is_no_error(self, backend: Backend) -> None:
        assert list(backend.enqueue([])) == []

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"task": ""}, "task"),
            ({"task": "x" * 256}, "task"),
            ({"task": "a\nb"}, "task"),
            ({"queue": ""}, "queue"),
            ({"queue": "a\x00b"}, "queue"),
            ({"queue": "\ud800"}, "queue"),
            ({"serializer": ""}, "serializer"),
            ({"priority": 128}, "priority"),
            ({"priority": -129}, "priority"),
            ({"delay_ms": -1}, "delay_ms"),
            ({"delay_ms": 1 << 47}, "delay_ms"),
            ({"eta_ms": -1}, "eta_ms"),
            ({"eta_ms": NOW, "delay_ms": 1}, "eta_ms"),
            ({"expires_in_ms": -1}, "expires_in_ms"),
            ({"expires_in_ms": 1, "expires_at_ms": NOW}, "expires_at_ms"),
            ({"max_retries": -1}, "max_retries"),
            ({"max_crashes": -1}, "max_crashes"),
            ({"timeout_ms": -1}, "timeout_ms"),
            ({"result_ttl_ms": -1}, "result_ttl_ms"),
        ],
    )
    def test_a_bad_item_is_named_and_nothing_of_its_batch_is_stored(
        self, backend: Backend, fields: dict[str, Any], named: str
    ) -> None:
        before = observe(backend)
        batch = [NewJob(task="add") for _ in range(3)]
        with pytest.raises(ConfigurationError, match=rf"item 3: {named}"):
            backend.enqueue([*batch, NewJob(**{"task": "add", **fields})])
        assert observe(backend) == before

    def test_the_message_for_a_priority_says_what_is_allowed(self, backend: Backend) -> None:
        with pytest.raises(
            ConfigurationError, match=r"item 0: priority: 200 is not between -128 and 127"
        ):
            backend.enqueue([NewJob(task="add", priority=200)])

    def test_the_largest_numbers_are_kept(self, enqueue: Enqueue, job: GetJob) -> None:
        largest = (1 << 47) - 1
        record = job(
            enqueue(
                priority=127,
                eta_ms=largest,
                expires_at_ms=largest,
                max_retries=largest,
                max_crashes=largest,
                timeout_ms=largest,
                result_ttl_ms=largest,
            )
        )
        assert (record.priority, record.due_ms, record.expires_ms) == (127, largest, largest)
        assert (record.max_retries, record.max_crashes, record.timeout_ms) == (largest,) * 3

    def test_a_payload_of_a_mebibyte_is_kept(
        self, enqueue: Enqueue, job: GetJob, worker: PlayedWorker
    ) -> None:
        payload = bytes(range(256)) * 4_096
        job_id = enqueue(payload=payload, metadata=payload)
        assert (job(job_id).payload, job(job_id).metadata) == (payload, payload)
        [claimed] = worker.claim()
        assert (claimed.payload, claimed.metadata) == (payload, payload)

    @needs("given_ids")
    def test_a_given_id_is_used_in_its_usual_form_and_answers_duplicate(
        self, backend: Backend, enqueue: Enqueue, job: GetJob
    ) -> None:
        given = uuid.uuid4()
        assert enqueue(id=given.hex.upper(), payload=b"first") == str(given)
        [again] = backend.enqueue([NewJob(task="add", id=str(given), payload=b"second")])
        assert again == params.Enqueued(id=str(given), duplicate=True)
        assert job(str(given)).payload == b"first"

    @needs("given_ids")
    def test_a_given_id_twice_in_a_batch_is_one_job(self, backend: Backend) -> None:
        given = str(uuid.uuid4())
        answers = backend.enqueue([NewJob(task="add", id=given)] * 2)
        assert list(answers) == [
            params.Enqueued(id=given),
            params.Enqueued(id=given, duplicate=True),
        ]
        assert sum(count.count for count in backend.counts()) == 1

    @needs("given_ids")
    def test_a_given_id_that_is_none_is_refused(self, backend: Backend) -> None:
        before = observe(backend)
        with pytest.raises(ConfigurationError, match="'nonsense'"):
            backend.enqueue([NewJob(task="add"), NewJob(task="add", id="nonsense")])
        assert observe(backend) == before
