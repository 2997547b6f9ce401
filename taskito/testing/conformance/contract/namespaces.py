"""Namespaces: everything of one is unknown to the others."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import uuid

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import NewJob
from taskito.exceptions import JobNotFoundError
from taskito.testing.conformance.fixtures import OpenAgain, fresh_namespace, worker_starter
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["NamespacesContract"]


class NamespacesContract(Topic):
    """What the namespace of ``BackendOptions`` promises."""

    topic = "namespaces"

    def test_jobs_of_another_namespace_are_unknown(self, open_again: OpenAgain) -> None:
        one, other = _two(open_again)
        before = observe(other)
        [answer] = one.enqueue([NewJob(task="add")])
        assert list(other.get([answer.id])) == [None]
        assert list(other.cancel(params.CancelRequest(ids=(answer.id,)))) == [
            params.CancelVerdict.REFUSED
        ]
        assert observe(other) == before

    def test_a_worker_claims_from_its_namespace_only(self, open_again: OpenAgain) -> None:
        one, other = _two(open_again)
        one.enqueue([NewJob(task="add")])
        worker = worker_starter(other)()
        assert worker.claim_ids() == []
        assert list(one.workers()) == []
        assert one.maintain(10).unknown_tasks == ("add",)
        assert worker_starter(one)().claim_ids() != []

    def test_finished_jobs_of_another_namespace_are_not_purged(self, open_again: OpenAgain) -> None:
        one, other = _two(open_again)
        [answer] = one.enqueue([NewJob(task="add")])
        worker_starter(one)().succeed()
        assert other.purge(params.PurgeRequest()) == 0
        assert None not in one.get([answer.id])

    @needs("unique")
    def test_a_key_is_held_within_its_namespace(self, open_again: OpenAgain) -> None:
        one, other = _two(open_again)
        job = NewJob(task="add", unique_key="k", idempotency_key="k")
        assert not one.enqueue([job])[0].duplicate
        assert not other.enqueue([job])[0].duplicate

    @needs("given_ids")
    def test_a_given_id_is_taken_within_its_namespace(self, open_again: OpenAgain) -> None:
        one, other = _two(open_again)
        given = str(uuid.uuid4())
        for backend in (one, other):
            [answer] = backend.enqueue([NewJob(task="add", id=given)])
            assert answer == params.Enqueued(id=given)

    @needs("pauses")
    def test_a_pause_holds_within_its_namespace(self, open_again: OpenAgain) -> None:
        one, other = _two(open_again)
        one.pause("default")
        other.enqueue([NewJob(task="add")])
        assert list(other.paused()) == []
        assert worker_starter(other)().claim_ids() != []

    @needs("dependencies")
    def test_a_dependency_in_another_namespace_is_unknown(self, open_again: OpenAgain) -> None:
        one, other = _two(open_again)
        [answer] = one.enqueue([NewJob(task="add")])
        with pytest.raises(JobNotFoundError, match=answer.id):
            other.enqueue([NewJob(task="add", depends_on=(answer.id,))])


def _two(open_again: OpenAgain) -> tuple[Backend, Backend]:
    return open_again(), open_again(namespace=fresh_namespace())
