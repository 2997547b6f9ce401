"""Telling a queue: cancel, replay, purge, pause."""

from __future__ import annotations

import pytest

from taskito import CapabilityError, ConfigurationError, JobNotFoundError, Queue
from taskito.backends import Capabilities
from taskito.backends.memory import MemoryBackend

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def queue(memory_queue):
    memory_queue.task("a")(max)
    memory_queue.task("b", queue="other")(max)
    return memory_queue


@pytest.fixture
def worker(queue, hand_worker):
    return hand_worker(queue)


def die(queue, worker, name="a", **options):
    job = queue.enqueue(name, **options)
    worker.bury(worker.claim()[0], ValueError("over"))
    return job


def test_only_a_pending_job_is_cancelled(queue, worker):
    job = queue.enqueue("a")
    assert queue.cancel_job(job.id)
    assert not queue.cancel_job(job.id)
    running = queue.enqueue("a")
    worker.claim()
    assert not queue.cancel_job(running.id)
    assert running.status == "running"
    assert not queue.cancel_job(UNKNOWN)
    assert not queue.cancel_job("nonsense")


def test_a_job_that_waits_for_a_retry_is_cancelled(queue, worker):
    job = queue.enqueue("a")
    worker.retry(worker.claim()[0], ValueError("again"))
    assert queue.cancel_job(job)
    assert job.status == "cancelled"


def test_a_running_job_is_asked(queue, worker):
    job = queue.enqueue("a")
    assert not queue.cancel_running_job(UNKNOWN)
    worker.claim()
    assert queue.cancel_running_job(job.id)
    assert queue.backend.get([job.id])[0].cancel_requested
    pending = queue.enqueue("a")
    assert queue.cancel_running_job(pending.id)
    assert pending.status == "cancelled"


def test_progress_is_clamped_and_needs_a_run(queue, worker):
    job = queue.enqueue("a")
    assert not queue.update_progress(job.id, 5)
    assert job.progress is None
    worker.claim()
    for value, stored in ((5, 5), (33.9, 33), (-1, 0), (1e9, 100), (float("inf"), 100)):
        assert queue.update_progress(job.id, value)
        assert job.progress == stored
    with pytest.raises(ConfigurationError, match=r"^n: "):
        queue.update_progress(job.id, float("nan"))
    assert not queue.update_progress(UNKNOWN, 5)


def test_a_finished_job_is_run_again(queue, worker):
    job = queue.enqueue("a", (1, 2), metadata={"k": 1}, priority=5)
    worker.succeed(worker.claim()[0], b"\xc0")
    again = queue.get_job(queue.replay(job.id))
    assert again.original_job_id == job.id
    assert job.replayed_as == again.id
    assert again.metadata == {"k": 1}
    assert again.to_dict()["priority"] == 5
    assert job.status == "complete"
    assert queue.requeue_job(job.id) != again.id


def test_only_a_finished_job_is_run_again(queue):
    job = queue.enqueue("a")
    with pytest.raises(ConfigurationError, match="pending"):
        queue.replay(job.id)
    with pytest.raises(JobNotFoundError):
        queue.requeue_job(UNKNOWN)


def test_dead_letters_are_listed(queue, worker):
    first = die(queue, worker, max_retries=0, metadata={"k": [1]})
    second = die(queue, worker, "b")
    listed = queue.dead_letters()
    assert [letter["id"] for letter in listed] == [second.id, first.id]
    letter = listed[1]
    assert letter.pop("failed_at") == first.to_dict()["completed_at"]
    assert "ValueError: over" in letter.pop("traceback")
    assert letter == {
        "id": first.id,
        "original_job_id": first.id,
        "queue": "default",
        "task_name": "a",
        "error": "ValueError: over",
        "retry_count": 0,
        "metadata": {"k": [1]},
    }
    assert queue.dead_letters(limit=1, offset=1) == queue.dead_letters()[1:]
    assert queue.dead_letters(limit=0) == []
    assert queue.dead_letters(offset=5) == []


def test_a_dead_letter_is_retried_once(queue, worker):
    job = die(queue, worker)
    new_id = queue.retry_dead(job.id)
    assert queue.get_job(new_id).status == "pending"
    assert queue.dead_letters() == []
    assert job.status == "dead"
    with pytest.raises(JobNotFoundError, match=new_id):
        queue.retry_dead(job.id)
    with pytest.raises(JobNotFoundError, match="no dead letter, it is pending"):
        queue.retry_dead(new_id)
    with pytest.raises(JobNotFoundError, match="no job"):
        queue.retry_dead(UNKNOWN)


def test_all_dead_letters_are_retried(queue, worker):
    for name in ("a", "a", "b"):
        die(queue, worker, name)
    assert queue.retry_all_dead("a") == 2
    assert [letter["task_name"] for letter in queue.dead_letters()] == ["b"]
    assert queue.retry_all_dead() == 1
    assert queue.retry_all_dead() == 0
    assert queue.stats()["pending"] == 3


def test_a_dead_letter_is_deleted(queue, worker):
    job = die(queue, worker)
    assert queue.delete_dead(job.id)
    assert not queue.delete_dead(job.id)
    assert not queue.delete_dead(queue.enqueue("a").id)
    assert queue.get_job(job.id) is None


def test_a_queue_is_emptied_of_what_waits(queue, worker):
    running = queue.enqueue("a")
    worker.claim()
    retrying = queue.enqueue("a")
    worker.retry(worker.claim()[0], ValueError("again"))
    dead = die(queue, worker)
    ready, delayed = queue.enqueue("a"), queue.enqueue("a", delay=9)
    blocked = queue.enqueue("a", depends_on=ready)
    dependent = queue.enqueue("b", depends_on=ready)
    elsewhere = queue.enqueue("b")
    assert queue.purge("default") == 4
    for job in (retrying, ready, delayed, blocked):
        assert queue.get_job(job.id) is None
    assert [job.status for job in (running, dead, elsewhere)] == ["running", "dead", "pending"]
    assert dependent.status == "cancelled"
    assert ready.id in dependent.error
    assert queue.purge("default") == 0


def test_finished_jobs_are_purged_by_state_and_age(queue, worker):
    complete = queue.enqueue("a")
    worker.succeed(worker.claim()[0], b"\xc0")
    dead = die(queue, worker)
    cancelled = queue.enqueue("a")
    queue.cancel_job(cancelled.id)
    for purge in (queue.purge_completed, queue.purge_dead, queue.purge_cancelled):
        assert purge() == 0
        assert purge(older_than=60) == 0
    for purge, job in (
        (queue.purge_completed, complete),
        (queue.purge_dead, dead),
        (queue.purge_cancelled, cancelled),
    ):
        assert purge(older_than=0) == 1
        assert queue.get_job(job.id) is None
    with pytest.raises(ConfigurationError, match="older_than"):
        queue.purge_completed(older_than=-1)


def test_purging_goes_on_until_all_is_gone(queue):
    for job in queue.enqueue_many("a", [()] * 1_200):
        queue.cancel_job(job.id)
    assert queue.purge_cancelled(0) == 1_200


def test_a_paused_queue_hands_out_nothing(queue, worker):
    queue.enqueue("a")
    queue.pause()
    queue.pause("other")
    assert queue.paused_queues() == ["default", "other"]
    assert worker.claim() == []
    queue.resume()
    queue.resume("never paused")
    assert queue.paused_queues() == ["other"]
    assert len(worker.claim()) == 1
    with pytest.raises(ConfigurationError, match="queue"):
        queue.pause("")


def test_what_a_backend_does_not_declare_it_refuses():
    class Plain(MemoryBackend):
        capabilities = Capabilities()

    with Queue(backend=Plain()) as queue:
        job = queue.remote_task("x").delay()
        for use in (
            queue.pause,
            queue.resume,
            queue.paused_queues,
            lambda: queue.replay(job.id),
            lambda: queue.retry_dead(job.id),
            queue.retry_all_dead,
            lambda: queue.update_progress(job.id, 5),
        ):
            with pytest.raises(CapabilityError):
                use()
        assert job.waiting_on == "no worker knows this task"
