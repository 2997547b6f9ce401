"""Keys: unique ones, held until a final state, and idempotency keys, held until a purge."""
# ruff: noqa: D102, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

import threading
from typing import Any

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import CancelRequest, ErrorKind, JobState, NewJob
from taskito.exceptions import ConfigurationError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["UniqueContract"]

FIELDS = ("unique_key", "idempotency_key")
DEAD = params.OutcomeDead(error=b"", kind=ErrorKind.FAILURE)
ENDS = (
    params.OutcomeSuccess(result=b"", serializer="json"),
    DEAD,
    params.OutcomeCancelled(reason="r"),
)


class UniqueContract(Topic):
    """What ``unique_key`` and ``idempotency_key`` promise."""

    topic = "unique"
    needed = ("unique",)

    def test_a_unique_key_is_held_through_every_state_before_a_final_one(
        self,
        backend: Backend,
        clock: VirtualClock,
        enqueue: Enqueue,
        worker: PlayedWorker,
    ) -> None:
        first = enqueue(unique_key="k")
        duplicate = params.Enqueued(id=first, duplicate=True)
        job = NewJob(task="add", unique_key="k")
        assert list(backend.enqueue([job, job])) == [duplicate, duplicate]
        [claimed] = worker.claim()
        assert list(backend.enqueue([job])) == [duplicate]
        retry = params.OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=10)
        worker.settle(claimed.lease, retry)
        assert list(backend.enqueue([job])) == [duplicate]
        clock.advance(10)
        backend.maintain(10)
        assert list(backend.enqueue([job])) == [duplicate]
        assert worker.succeed() == first
        [answer] = backend.enqueue([job])
        assert not answer.duplicate
        assert answer.id != first

    @pytest.mark.parametrize("end", ENDS, ids=lambda outcome: type(outcome).__name__)
    def test_every_final_state_frees_the_unique_key(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, end: params.Outcome
    ) -> None:
        first = enqueue(unique_key="k")
        worker.finish(end)
        [answer] = backend.enqueue([NewJob(task="add", unique_key="k")])
        assert not answer.duplicate
        assert answer.id != first
        [again] = backend.enqueue([NewJob(task="add", unique_key="k")])
        assert again == params.Enqueued(id=answer.id, duplicate=True)

    def test_cancelling_a_waiting_job_frees_the_unique_key(
        self, backend: Backend, enqueue: Enqueue
    ) -> None:
        job_id = enqueue(unique_key="k")
        backend.cancel(CancelRequest(ids=(job_id,)))
        assert enqueue(unique_key="k") != job_id

    def test_expiry_frees_the_unique_key(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue
    ) -> None:
        job_id = enqueue(unique_key="k", expires_in_ms=5)
        clock.advance(5)
        backend.maintain(10)
        assert enqueue(unique_key="k") != job_id

    def test_a_duplicate_stores_nothing(
        self, backend: Backend, enqueue: Enqueue, job: GetJob
    ) -> None:
        first = enqueue(unique_key="k", payload=b"first")
        before = observe(backend)
        assert enqueue(unique_key="k", payload=b"second", priority=9) == first
        assert observe(backend) == before
        assert (job(first).payload, job(first).unique_key) == (b"first", "k")

    @pytest.mark.parametrize("field", FIELDS)
    def test_within_a_batch_a_key_counts_from_the_item_that_takes_it(
        self, backend: Backend, field: str
    ) -> None:
        fields: dict[str, Any] = {field: "k"}
        job = NewJob(task="add", **fields)
        first, second, other = backend.enqueue([job, job, NewJob(task="add")])
        assert (first.duplicate, second.duplicate, other.duplicate) == (False, True, False)
        assert second.id == first.id != other.id
        assert sum(count.count for count in backend.counts()) == 2

    def test_the_two_kinds_of_key_do_not_meet(self, backend: Backend) -> None:
        answers = backend.enqueue(
            [NewJob(task="add", unique_key="k"), NewJob(task="add", idempotency_key="k")]
        )
        assert [answer.duplicate for answer in answers] == [False, False]

    def test_similar_keys_are_different_keys(self, backend: Backend) -> None:
        keys = ["k", "K", "k ", " k", "k\n", "k\x00", "\u00e9", "e\u0301", "1", "01"]
        for field in FIELDS:
            answers = backend.enqueue([NewJob(task="add", **_key(field, key)) for key in keys])
            assert [answer.duplicate for answer in answers] == [False] * len(keys)
            again = backend.enqueue([NewJob(task="add", **_key(field, key)) for key in keys])
            assert [answer.id for answer in again] == [answer.id for answer in answers]

    @pytest.mark.parametrize("field", FIELDS)
    def test_a_key_is_common_to_all_tasks_and_queues(self, enqueue: Enqueue, field: str) -> None:
        first = enqueue("add", queue="x", **{field: "k"})
        assert enqueue("other", queue="y", **{field: "k"}) == first

    def test_an_idempotency_key_outlives_the_job_until_it_is_purged(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        first = enqueue(idempotency_key="k")
        worker.succeed()
        assert enqueue(idempotency_key="k") == first
        assert backend.purge(params.PurgeRequest()) == 1
        assert enqueue(idempotency_key="k") != first

    @pytest.mark.parametrize("field", FIELDS)
    @pytest.mark.parametrize("key", ["", "x" * 1_025, "\u00e9" * 513])
    def test_a_key_that_no_store_could_keep_is_refused(
        self, backend: Backend, field: str, key: str
    ) -> None:
        before = observe(backend)
        batch = [NewJob(task="add", unique_key=f"u{n}") for n in range(3)]
        with pytest.raises(ConfigurationError, match=rf"item 3: {field}"):
            backend.enqueue([*batch, NewJob(task="add", **_key(field, key))])
        assert observe(backend) == before
        assert [answer.duplicate for answer in backend.enqueue(batch)] == [False] * 3

    @pytest.mark.parametrize("field", FIELDS)
    def test_the_longest_key_is_kept_whole(self, backend: Backend, field: str) -> None:
        keys = ["x" * 1_024, "x" * 1_023 + "y"]
        answers = backend.enqueue([NewJob(task="add", **_key(field, key)) for key in keys])
        assert [answer.duplicate for answer in answers] == [False, False]

    def test_threads_that_race_for_a_key_make_one_job(self, backend: Backend) -> None:
        barrier = threading.Barrier(8)
        answers: list[params.Enqueued] = []

        def race() -> None:
            barrier.wait(30)
            answers.extend(backend.enqueue([NewJob(task="add", unique_key="k")]))

        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len({answer.id for answer in answers}) == 1
        assert sum(not answer.duplicate for answer in answers) == 1
        assert sum(count.count for count in backend.counts()) == 1

    def test_a_key_until_the_start_is_free_from_the_claim_on(
        self, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        first = enqueue(unique_key="k", unique_until_start=True)
        assert enqueue(unique_key="k") == first
        [claimed] = worker.claim()
        second = enqueue(unique_key="k", unique_until_start=True)
        assert second != first
        worker.settle(claimed.lease, params.OutcomeSuccess(result=b"", serializer="json"))
        assert enqueue(unique_key="k") == second

    def test_a_job_that_was_given_back_unstarted_has_its_key_again(
        self, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        first = enqueue(unique_key="k", unique_until_start=True)
        [claimed] = worker.claim()
        worker.give_back(claimed)
        assert enqueue(unique_key="k") == first

    def test_a_key_that_another_job_took_meanwhile_stays_there(
        self, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        first = enqueue(unique_key="k", unique_until_start=True, priority=1)
        [claimed] = worker.claim()
        second = enqueue(unique_key="k")
        worker.give_back(claimed)
        assert enqueue(unique_key="k") == second
        assert worker.succeed() == first
        assert enqueue(unique_key="k") == second
        assert worker.succeed() == second
        assert enqueue(unique_key="k") not in (first, second)

    def test_a_job_that_has_started_once_takes_no_key_again(
        self, clock: VirtualClock, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        first = enqueue(unique_key="k", unique_until_start=True)
        [claimed] = worker.claim()
        retry = params.OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=10)
        worker.settle(claimed.lease, retry)
        clock.advance(10)
        backend.maintain(10)
        [claimed] = worker.claim()
        worker.give_back(claimed)
        assert enqueue(unique_key="k") != first

    @needs("dependencies")
    def test_a_blocked_job_holds_its_unique_key_until_it_is_cancelled(
        self, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        parent = enqueue()
        child = enqueue(depends_on=(parent,), unique_key="k")
        assert enqueue(unique_key="k") == child
        worker.fail()
        assert job(child).state is JobState.CANCELLED
        assert enqueue(unique_key="k") != child

    @needs("dependencies")
    def test_a_job_that_is_cancelled_at_once_takes_no_unique_key(
        self, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        parent = enqueue()
        worker.fail()
        child = enqueue(depends_on=(parent,), unique_key="k")
        assert enqueue(unique_key="k") != child

    @needs("dependencies")
    def test_a_job_that_is_cancelled_at_once_takes_no_key_within_its_batch(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        parent = enqueue()
        worker.fail()
        cancelled = NewJob(task="add", unique_key="k", depends_on=(parent,))
        answers = backend.enqueue([cancelled, NewJob(task="add", unique_key="k")])
        assert [answer.duplicate for answer in answers] == [False, False]


def _key(field: str, key: str) -> dict[str, Any]:
    return {field: key}
