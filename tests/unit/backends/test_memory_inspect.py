"""Records, pages, counts and workers."""

from __future__ import annotations

import uuid

import pytest

from taskito.backends import params
from taskito.backends.params import Count, ErrorKind, JobState, ListRequest, ReplayRequest, Why
from taskito.exceptions import ConfigurationError


def every_page(backend, request):
    """Follow a listing to its end; return the ids of each page."""
    pages, after = [], request.after
    while True:
        page = backend.list(
            params.ListRequest(
                states=request.states,
                whys=request.whys,
                queue=request.queue,
                task=request.task,
                skip_replayed=request.skip_replayed,
                limit=request.limit,
                after=after,
            )
        )
        pages.append([record.id for record in page.jobs])
        if page.next is None:
            return pages
        after = page.next


def ids_of(backend, **fields):
    return [job_id for page in every_page(backend, ListRequest(**fields)) for job_id in page]


def test_unknown_ids_are_none_each(backend, enqueue):
    job_id = enqueue()
    unknown = str(uuid.uuid4())
    found = backend.get([unknown, job_id, job_id, unknown])
    assert [record and record.id for record in found] == [None, job_id, job_id, None]
    assert backend.get([]) == []


def test_an_empty_store_has_one_empty_page(backend):
    assert every_page(backend, ListRequest()) == [[]]


def test_pages_are_newest_first_and_complete(backend, enqueue):
    ids = [enqueue() for _ in range(7)]
    pages = every_page(backend, ListRequest(limit=3))
    assert [job_id for page in pages for job_id in page] == ids[::-1]
    assert max(len(page) for page in pages) == 3


def test_a_page_is_not_disturbed_by_new_and_deleted_jobs(backend, enqueue, worker):
    ids = [enqueue() for _ in range(4)]
    page = backend.list(ListRequest(limit=2))
    assert [record.id for record in page.jobs] == [ids[3], ids[2]]
    enqueue()
    assert worker.succeed() == ids[0]
    backend.purge(params.PurgeRequest())
    rest = backend.list(ListRequest(limit=9, after=page.next))
    assert [record.id for record in rest.jobs] == [ids[1]]


def test_filters_combine(backend, enqueue, worker, clock):
    retry = params.OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=1_000)
    retried = enqueue()
    worker.finish(retry)
    snoozed = enqueue()
    worker.finish(params.OutcomeSnooze(delay_ms=1_000))
    delayed = enqueue(delay_ms=1_000)
    other = enqueue("other", queue="x")
    assert ids_of(backend, queue="x") == [other]
    assert ids_of(backend, task="other", queue="default") == []
    assert ids_of(backend, states=(JobState.SCHEDULED,)) == [delayed, snoozed, retried]
    assert ids_of(backend, states=(JobState.SCHEDULED,), whys=(Why.RETRY,)) == [retried]
    pending = (JobState.SCHEDULED, JobState.READY)
    not_failed = (Why.DELAY, Why.SNOOZE)
    assert ids_of(backend, states=pending, whys=not_failed) == [other, delayed, snoozed]


def test_listings_leave_out_what_is_large(backend, enqueue, worker):
    enqueue(payload=b"large", metadata=b"m")
    worker.finish(params.OutcomeRetry(error=b"e", kind=ErrorKind.FAILURE, delay_ms=0))
    [record] = backend.list(ListRequest()).jobs
    assert (record.payload, record.result, record.errors) == (b"", None, ())
    assert record.metadata == b"m"


def test_replayed_dead_letters_can_be_left_out(backend, enqueue, worker):
    first, second = enqueue(), enqueue()
    worker.fail()
    worker.fail()
    backend.replay(ReplayRequest(ids=(first,)))
    assert ids_of(backend, states=(JobState.DEAD,), skip_replayed=True) == [second]
    assert ids_of(backend, states=(JobState.DEAD,)) == [second, first]


@pytest.mark.parametrize("limit", [0, 10_001])
def test_a_page_has_bounds(backend, limit):
    with pytest.raises(ConfigurationError, match="limit"):
        backend.list(ListRequest(limit=limit))


def test_counts_follow_every_change(backend, enqueue, worker, clock):
    def counts():
        found = {(c.queue, c.task, c.state, c.retrying): c.count for c in backend.counts()}
        return {key: count for key, count in found.items() if count}

    for _ in range(3):
        enqueue()
    enqueue("other", queue="x", delay_ms=5)
    parent = enqueue()
    enqueue(depends_on=(parent,))
    assert counts() == {
        ("default", "add", JobState.READY, False): 4,
        ("default", "add", JobState.BLOCKED, False): 1,
        ("x", "other", JobState.SCHEDULED, False): 1,
    }
    worker.succeed()
    worker.fail()
    worker.finish(params.OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=5))
    worker.claim()
    assert counts() == {
        ("default", "add", JobState.COMPLETE, False): 1,
        ("default", "add", JobState.DEAD, False): 1,
        ("default", "add", JobState.SCHEDULED, True): 1,
        ("default", "add", JobState.RUNNING, False): 1,
        ("default", "add", JobState.BLOCKED, False): 1,
        ("x", "other", JobState.SCHEDULED, False): 1,
    }
    clock.advance(5)
    backend.maintain(10)
    backend.purge(params.PurgeRequest())
    assert counts() == {
        ("default", "add", JobState.READY, False): 1,
        ("default", "add", JobState.RUNNING, False): 1,
        ("default", "add", JobState.BLOCKED, False): 1,
        ("x", "other", JobState.READY, False): 1,
    }


def test_counts_are_of_one_kind(backend, enqueue):
    enqueue()
    [count] = [count for count in backend.counts() if count.count]
    assert count == Count(queue="default", task="add", state=JobState.READY, count=1)


def test_workers_show_what_they_serve_and_hold(backend, enqueue, start_worker, clock):
    first = start_worker(queues=("b", "a"), tasks=("x",))
    clock.advance(5)
    second = start_worker()
    for _ in range(3):
        enqueue()
    claimed = second.claim(3)
    second.settle(claimed[0].lease, params.OutcomeSnooze(delay_ms=0))
    one, two = backend.workers()
    assert (one.id, two.id) == (first.id, second.id)
    assert (one.queues, two.queues) == (("b", "a"), None)
    assert (one.tasks, two.tasks) == (("x",), ("add",))
    assert (one.pid, one.host) == (1, "here")
    assert (one.running, two.running) == (0, 2)
    assert two.started_ms - one.started_ms == 5
