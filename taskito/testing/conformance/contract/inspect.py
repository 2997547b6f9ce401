"""Records, counts and workers."""
# ruff: noqa: D102, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

import uuid

from taskito.backends import Backend, params
from taskito.backends.params import Count, ErrorKind, JobState
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import Enqueue
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["InspectContract"]


class InspectContract(Topic):
    """What ``get``, ``counts`` and ``workers`` promise."""

    topic = "inspect"

    def test_unknown_ids_are_none_each(self, backend: Backend, enqueue: Enqueue) -> None:
        job_id = enqueue()
        unknown = str(uuid.uuid4())
        found = backend.get([unknown, job_id, job_id, unknown])
        assert [record and record.id for record in found] == [None, job_id, job_id, None]
        assert list(backend.get([])) == []

    def test_an_id_that_resembles_another_is_unknown(
        self, backend: Backend, enqueue: Enqueue
    ) -> None:
        job_id = enqueue()
        last = "0" if job_id[-1] != "0" else "1"
        assert list(backend.get([job_id[:-1] + last])) == [None]

    def test_every_usual_way_to_write_an_id_finds_the_job(
        self, backend: Backend, enqueue: Enqueue
    ) -> None:
        job_id = enqueue()
        for text in (job_id.upper(), job_id.replace("-", "")):
            [record] = backend.get([text])
            assert record is not None
            assert record.id == job_id

    def test_counts_follow_every_change(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        for _ in range(4):
            enqueue()
        enqueue("other", queue="x", delay_ms=5)
        assert _counts(backend) == {
            ("default", "add", JobState.READY, False): 4,
            ("x", "other", JobState.SCHEDULED, False): 1,
        }
        worker.succeed()
        worker.fail()
        worker.finish(params.OutcomeRetry(error=b"", kind=ErrorKind.FAILURE, delay_ms=5))
        worker.claim()
        assert _counts(backend) == {
            ("default", "add", JobState.COMPLETE, False): 1,
            ("default", "add", JobState.DEAD, False): 1,
            ("default", "add", JobState.SCHEDULED, True): 1,
            ("default", "add", JobState.RUNNING, False): 1,
            ("x", "other", JobState.SCHEDULED, False): 1,
        }
        clock.advance(5)
        backend.maintain(10)
        backend.purge(params.PurgeRequest())
        assert _counts(backend) == {
            ("default", "add", JobState.READY, False): 1,
            ("default", "add", JobState.RUNNING, False): 1,
            ("x", "other", JobState.READY, False): 1,
        }

    @needs("dependencies")
    def test_counts_follow_what_happens_to_dependents(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        first, second = enqueue(), enqueue()
        enqueue("b", depends_on=(first,))
        enqueue("b", depends_on=(second,))
        assert _counts(backend)["default", "b", JobState.BLOCKED, False] == 2
        worker.succeed()
        worker.fail()
        assert _counts(backend) == {
            ("default", "add", JobState.COMPLETE, False): 1,
            ("default", "add", JobState.DEAD, False): 1,
            ("default", "b", JobState.READY, False): 1,
            ("default", "b", JobState.CANCELLED, False): 1,
        }

    def test_counts_are_of_one_kind(self, backend: Backend, enqueue: Enqueue) -> None:
        enqueue()
        [count] = [count for count in backend.counts() if count.count]
        assert count == Count(queue="default", task="add", state=JobState.READY, count=1)

    def test_a_snoozed_job_is_not_counted_as_retrying(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        worker.finish(params.OutcomeSnooze(delay_ms=60_000))
        assert _counts(backend) == {("default", "add", JobState.SCHEDULED, False): 1}

    def test_workers_show_what_they_serve_and_hold(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        first = start_worker(queues=("b", "a"), tasks=("x",))
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
        second.leave()
        assert [record.id for record in backend.workers()] == [first.id]

    def test_workers_show_when_they_started(
        self, backend: Backend, clock: VirtualClock, start_worker: StartWorker
    ) -> None:
        start_worker()
        clock.advance(5)
        start_worker()
        one, two = backend.workers()
        assert two.started_ms - one.started_ms == 5


def _counts(backend: Backend) -> dict[tuple[str, str, JobState, bool], int]:
    found = {(c.queue, c.task, c.state, c.retrying): c.count for c in backend.counts()}
    return {key: count for key, count in found.items() if count}
