"""Listings: order, completeness, filters, bounds."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

from typing import Any

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import ErrorKind, JobState, ListRequest, ReplayRequest, Why
from taskito.exceptions import ConfigurationError
from taskito.testing.conformance.fixtures import Enqueue
from taskito.testing.conformance.played_worker import PlayedWorker
from taskito.testing.conformance.snapshot import every_id
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["PagesContract"]

LATER = 60_000


class PagesContract(Topic):
    """What ``list`` promises."""

    topic = "pages"

    def test_an_empty_store_has_one_empty_page(self, backend: Backend) -> None:
        page = backend.list(ListRequest())
        assert (page.jobs, page.next) == ((), None)

    @pytest.mark.parametrize("limit", [1, 3, 7, 50])
    def test_pages_are_newest_first_and_complete(
        self, backend: Backend, enqueue: Enqueue, limit: int
    ) -> None:
        ids = [enqueue(f"t{n}", priority=n % 3) for n in range(7)]
        assert every_id(backend, ListRequest(limit=limit)) == ids[::-1]
        assert len(backend.list(ListRequest(limit=limit)).jobs) <= limit

    def test_a_listing_is_not_disturbed_by_new_and_deleted_jobs(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        ids = [enqueue() for _ in range(4)]
        page = backend.list(ListRequest(limit=2))
        assert [record.id for record in page.jobs] == [ids[3], ids[2]]
        enqueue()
        assert worker.succeed() == ids[0]
        backend.purge(params.PurgeRequest())
        rest = backend.list(ListRequest(limit=9, after=page.next))
        assert [record.id for record in rest.jobs] == [ids[1]]

    def test_filters_of_a_listing_combine(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        retried = enqueue()
        worker.finish(params.OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=LATER))
        snoozed = enqueue()
        worker.finish(params.OutcomeSnooze(delay_ms=LATER))
        delayed = enqueue(delay_ms=LATER)
        other = enqueue("other", queue="x")
        assert _ids(backend, queue="x") == [other]
        assert _ids(backend, task="other") == [other]
        assert _ids(backend, task="other", queue="default") == []
        assert _ids(backend, states=(JobState.SCHEDULED,)) == [delayed, snoozed, retried]
        assert _ids(backend, states=(JobState.SCHEDULED,), whys=(Why.RETRY,)) == [retried]
        pending = (JobState.SCHEDULED, JobState.READY)
        not_failed = (Why.DELAY, Why.SNOOZE)
        assert _ids(backend, states=pending, whys=not_failed) == [other, delayed, snoozed]

    def test_a_filtered_listing_finds_the_few_among_many(
        self, backend: Backend, enqueue: Enqueue
    ) -> None:
        first = enqueue("rare")
        backend.enqueue([params.NewJob(task="add")] * 300)
        last = enqueue("rare")
        assert _ids(backend, task="rare", limit=1) == [last, first]

    def test_listings_leave_out_what_is_large(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue(payload=b"large", metadata=b"m")
        worker.finish(params.OutcomeRetry(error=b"e", kind=ErrorKind.FAILURE, delay_ms=0))
        enqueue(payload=b"large", priority=1)
        worker.succeed()
        done, failed = backend.list(ListRequest()).jobs
        assert (failed.payload, failed.result, failed.errors) == (b"", None, ())
        assert failed.metadata == b"m"
        assert (done.state, done.result) == (JobState.COMPLETE, None)

    @needs("replay")
    def test_replayed_dead_letters_can_be_left_out(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        first, second = enqueue(), enqueue()
        worker.fail()
        worker.fail()
        backend.replay(ReplayRequest(ids=(first,)))
        assert _ids(backend, states=(JobState.DEAD,), skip_replayed=True) == [second]
        assert _ids(backend, states=(JobState.DEAD,)) == [second, first]

    @pytest.mark.parametrize("limit", [-1, 0, 10_001])
    def test_a_page_has_bounds(self, backend: Backend, limit: int) -> None:
        with pytest.raises(ConfigurationError, match="limit"):
            backend.list(ListRequest(limit=limit))


def _ids(backend: Backend, **fields: Any) -> list[str]:
    return every_id(backend, ListRequest(**fields))
