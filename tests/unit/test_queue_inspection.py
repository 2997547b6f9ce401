"""Asking a queue: jobs, pages, counts, workers."""

from __future__ import annotations

import os

import pytest

from taskito import ConfigurationError, JobNotFoundError


@pytest.fixture
def queue(memory_queue):
    memory_queue.task("a")(max)
    memory_queue.task("b", queue="other")(max)
    return memory_queue


@pytest.fixture
def zoo(queue, hand_worker):
    """One job in each status, by status."""
    worker = hand_worker(queue)
    jobs = {}
    for status in ("complete", "failed", "dead", "running"):
        jobs[status] = queue.enqueue("a")
        [claimed] = worker.claim()
        if status == "complete":
            worker.succeed(claimed, b"\xc0")
        elif status == "failed":
            worker.retry(claimed, ValueError("again"))
        elif status == "dead":
            worker.bury(claimed, ValueError("over"))
    jobs["cancelled"] = queue.enqueue("a")
    queue.cancel_job(jobs["cancelled"].id)
    jobs["pending"] = queue.enqueue("b")
    return jobs


def test_each_status_lists_its_jobs(queue, zoo):
    for status, job in zoo.items():
        assert job.status == status
        assert queue.list_jobs(status=status) == [job]
    assert queue.list_jobs() == list(reversed(zoo.values()))


def test_pending_covers_everything_that_has_not_started(queue):
    ready = queue.enqueue("a")
    delayed = queue.enqueue("a", delay=60)
    blocked = queue.enqueue("a", depends_on=ready)
    assert queue.list_jobs(status="pending") == [blocked, delayed, ready]


def test_a_snoozed_job_is_pending(queue, hand_worker):
    from taskito.backends.params import OutcomeSnooze

    worker = hand_worker(queue)
    job = queue.enqueue("a")
    worker.settle(worker.claim()[0], OutcomeSnooze(delay_ms=60_000))
    assert job.status == "pending"
    assert job.waiting_on == "delay"
    assert queue.list_jobs(status="pending") == [job]
    assert queue.list_jobs(status="failed") == []


def test_lists_can_be_narrowed(queue):
    one, two = queue.enqueue("a"), queue.enqueue("b")
    assert queue.list_jobs(queue="other") == [two]
    assert queue.list_jobs(task_name="a") == [one]
    assert queue.list_jobs(queue="other", task_name="a") == []
    assert queue.list_jobs(queue="unheard of") == []


def test_limit_and_offset_cut_the_list(queue):
    jobs = list(reversed(queue.enqueue_many("a", [()] * 25)))
    assert queue.list_jobs(limit=10) == jobs[:10]
    assert queue.list_jobs(limit=10, offset=20) == jobs[20:]
    assert queue.list_jobs(limit=0) == []
    assert queue.list_jobs(offset=99) == []
    assert len(queue.list_jobs(limit=2_000)) == 25


def test_more_than_one_page_of_the_store_is_one_list(queue):
    jobs = list(reversed(queue.enqueue_many("a", [()] * 1_500)))
    assert queue.list_jobs(limit=1_400, offset=50) == jobs[50:1450]


def test_pages_follow_each_other(queue):
    jobs = list(reversed(queue.enqueue_many("a", [()] * 25)))
    found, after = [], None
    for _ in range(4):
        page = queue.list_jobs_after(limit=10, after=after)
        assert len(page) <= 10
        found += page
        after = page.next
        if after is None:
            break
    assert found == jobs
    assert after is None


def test_a_job_that_comes_later_does_not_shift_the_pages(queue):
    jobs = queue.enqueue_many("a", [()] * 4)
    page = queue.list_jobs_after(limit=2)
    queue.enqueue("a")
    assert list(queue.list_jobs_after(limit=2, after=page.next)) == [jobs[1], jobs[0]]


@pytest.mark.parametrize(
    "wrong",
    [{"status": "completed"}, {"limit": -1}, {"offset": -1}, {"queue": ""}, {"task_name": 5}],
)
def test_wrong_filters_are_named(queue, wrong):
    with pytest.raises(ConfigurationError, match=f"^{next(iter(wrong))}: "):
        queue.list_jobs(**wrong)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"after": -1}, {"after": "x"}])
def test_wrong_positions_are_named(queue, wrong):
    with pytest.raises(ConfigurationError, match=f"^{next(iter(wrong))}: "):
        queue.list_jobs_after(**wrong)


def test_counts_by_status_and_queue(queue, zoo):
    one_each = dict.fromkeys(("pending", "running", "completed", "failed", "dead", "cancelled"), 1)
    assert queue.stats() == one_each
    assert list(queue.stats()) == list(one_each)
    nothing = dict.fromkeys(one_each, 0)
    assert queue.stats_by_queue("other") == {**nothing, "pending": 1}
    assert queue.stats_by_queue("unheard of") == nothing
    everything = queue.stats_all_queues()
    assert everything["default"] == {**one_each, "pending": 0}
    assert everything["other"] == {**nothing, "pending": 1}


def test_unknown_jobs(queue):
    assert queue.get_job("nonsense") is None
    assert queue.get_job("01890a5d-ac96-774b-bcce-b302099a8057") is None
    with pytest.raises(JobNotFoundError):
        queue.job_errors("nonsense")


def test_workers_are_listed(queue, hand_worker):
    assert queue.workers() == []
    worker = hand_worker(queue, ("default",))
    queue.enqueue("a")
    worker.claim()
    [found] = queue.workers()
    assert found.pop("started_at") > 0
    assert found == {
        "id": worker.id,
        "pid": os.getpid(),
        "host": "here",
        "queues": ["default"],
        "tasks": ["a", "b"],
        "running": 1,
    }
