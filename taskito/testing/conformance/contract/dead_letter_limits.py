"""Limits of dead letters: their age and their number, in bounded steps."""
# ruff: noqa: D102, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import DeadLetterLimit, JobState, ReplayRequest
from taskito.exceptions import ConfigurationError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import Enqueue, OpenAgain, fresh_namespace, worker_starter
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.snapshot import every_id, observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["DeadLetterLimitsContract"]


def bury(enqueue: Enqueue, worker: PlayedWorker, count: int) -> list[str]:
    """Make dead letters, one after the other."""
    made = []
    for _ in range(count):
        made.append(enqueue())
        worker.fail()
    return made


class DeadLetterLimitsContract(Topic):
    """What ``WorkerRegistration.dead_letters`` promises."""

    topic = "dead letters"
    needed = ("dead_letter_limits",)

    def test_the_newest_are_kept_in_steps_of_the_budget(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = start_worker(dead_letters=DeadLetterLimit(most=3))
        made = []
        for _ in range(8):
            made += bury(enqueue, worker, 1)
            clock.advance(1)
        for left, pruned in ((6, 2), (4, 2), (3, 1), (3, 0)):
            reply = backend.maintain(2)
            assert reply.pruned == pruned
            assert sorted(every_id(backend)) == sorted(made[-left:])
            assert (reply.next_due_ms == 0) == (left > 3)

    def test_who_ended_first_goes_first_whenever_it_was_enqueued(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = start_worker(dead_letters=DeadLetterLimit(most=1))
        early, late = enqueue(priority=-1), enqueue()
        worker.fail()
        clock.advance(10)
        worker.fail()
        backend.maintain(10)
        assert every_id(backend) == [early]
        assert backend.get([late]) == [None]

    def test_an_old_one_is_deleted_when_its_time_is_over(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = start_worker(dead_letters=DeadLetterLimit(ttl_ms=1_000))
        [first] = bury(enqueue, worker, 1)
        clock.advance(400)
        [second] = bury(enqueue, worker, 1)
        reply = backend.maintain(10)
        assert reply.next_due_ms is not None
        assert reply.next_due_ms <= 600
        clock.advance(600)
        assert backend.maintain(10).pruned == 1
        assert every_id(backend) == [second]
        assert backend.get([first]) == [None]

    def test_nothing_else_is_deleted(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = start_worker(dead_letters=DeadLetterLimit(ttl_ms=0, most=0))
        complete = enqueue()
        worker.succeed()
        cancelled, waiting = enqueue(), enqueue(delay_ms=60_000)
        backend.cancel(params.CancelRequest(ids=(cancelled,)))
        [dead] = bury(enqueue, worker, 1)
        clock.advance(1)
        backend.maintain(10)
        assert sorted(every_id(backend)) == sorted([complete, cancelled, waiting])
        assert dead not in every_id(backend)

    def test_without_a_limit_all_are_kept(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        made = bury(enqueue, worker, 5)
        clock.advance(10**10)
        assert backend.maintain(100).pruned == 0
        assert sorted(every_id(backend)) == sorted(made)

    def test_what_the_last_worker_said_holds(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = start_worker(dead_letters=DeadLetterLimit(most=0))
        start_worker(dead_letters=DeadLetterLimit(most=2))
        made = bury(enqueue, worker, 3)
        backend.maintain(10)
        assert sorted(every_id(backend)) == sorted(made[1:])
        start_worker()
        made += bury(enqueue, worker, 3)
        assert backend.maintain(10).pruned == 0

    @needs("replay")
    def test_a_replayed_one_counts_until_it_is_deleted(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = start_worker(dead_letters=DeadLetterLimit(most=1))
        [first] = bury(enqueue, worker, 1)
        [replayed] = backend.replay(ReplayRequest(ids=(first,), dead_only=True))
        assert replayed is not None
        clock.advance(1)
        worker.fail()
        backend.maintain(10)
        assert every_id(backend) == [replayed]

    @needs("dependencies")
    def test_dependents_of_a_deleted_one_stay_cancelled(
        self, backend: Backend, enqueue: Enqueue, start_worker: StartWorker
    ) -> None:
        worker = start_worker(dead_letters=DeadLetterLimit(most=0))
        parent = enqueue()
        child = enqueue(depends_on=(parent,))
        worker.fail()
        backend.maintain(10)
        [record] = backend.get([child])
        assert record is not None
        assert record.state is JobState.CANCELLED
        assert record.dependencies == ()

    def test_limits_belong_to_their_namespace(self, open_again: OpenAgain) -> None:
        here, there = open_again(), open_again(namespace=fresh_namespace())
        kept = worker_starter(there)()
        worker_starter(here)(dead_letters=DeadLetterLimit(most=0))
        there.enqueue([params.NewJob(task="add")])
        kept.fail()
        here.maintain(10), there.maintain(10)
        assert len(every_id(there)) == 1

    @pytest.mark.parametrize("field", ["ttl_ms", "most"])
    def test_a_limit_below_zero_is_refused(
        self, backend: Backend, start_worker: StartWorker, field: str
    ) -> None:
        before = observe(backend)
        with pytest.raises(ConfigurationError, match=field):
            start_worker(dead_letters=DeadLetterLimit(**{field: -1}))
        assert observe(backend) == before
