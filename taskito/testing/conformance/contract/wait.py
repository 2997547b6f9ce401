"""Waiting for a change: a hint, but one that comes."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import threading
import time

from taskito.backends import Backend
from taskito.backends.params import CancelRequest, NewJob
from taskito.testing.conformance.fixtures import Enqueue, OpenAgain
from taskito.testing.conformance.played_worker import PlayedWorker
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["WaitContract"]

LONG = 30.0


class WaitContract(Topic):
    """What ``wait`` promises."""

    topic = "wait"

    def test_nothing_new_returns_the_same_number(self, backend: Backend) -> None:
        before = backend.wait(0, 0)
        assert backend.wait(before, 0) == before
        assert backend.wait(before, 0.01) == before

    def test_a_new_job_is_a_change(self, backend: Backend, enqueue: Enqueue) -> None:
        before = backend.wait(0, 0)
        enqueue()
        assert backend.wait(before, LONG) > before

    def test_the_end_of_a_job_is_a_change(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        enqueue()
        worker.claim(2)
        before = backend.wait(0, 0)
        worker.leave()
        assert backend.wait(before, LONG) > before

    def test_a_request_is_a_change(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        job_id = enqueue()
        worker.claim()
        before = backend.wait(0, 0)
        backend.cancel(CancelRequest(ids=(job_id,), running=True))
        assert backend.wait(before, LONG) > before

    @needs("pauses")
    def test_a_pause_and_a_resumption_are_changes(self, backend: Backend) -> None:
        before = backend.wait(0, 0)
        backend.pause("x")
        paused = backend.wait(before, LONG)
        assert paused > before
        backend.resume("x")
        assert backend.wait(paused, LONG) > paused

    def test_what_changed_before_the_call_is_not_missed(
        self, backend: Backend, enqueue: Enqueue
    ) -> None:
        enqueue()
        assert backend.wait(0, LONG) > 0

    def test_a_sleeping_waiter_is_woken(self, backend: Backend, enqueue: Enqueue) -> None:
        before = backend.wait(0, 0)
        woken = _wait_in_thread(backend, before)
        enqueue()
        woken.join(LONG)
        assert not woken.is_alive()

    def test_a_sleeping_waiter_is_woken_by_another_backend_of_the_store(
        self, open_again: OpenAgain
    ) -> None:
        first, second = open_again(), open_again()
        before = first.wait(0, 0)
        woken = _wait_in_thread(first, before)
        second.enqueue([NewJob(task="add")])
        woken.join(LONG)
        assert not woken.is_alive()

    def test_a_wait_without_a_change_ends_in_time(self, backend: Backend) -> None:
        before = backend.wait(0, 0)
        began = time.monotonic()
        backend.wait(before, 0.2)
        assert time.monotonic() - began < LONG / 2


def _wait_in_thread(backend: Backend, since: int) -> threading.Thread:
    """Begin to wait in another thread, for twice as long as the check has patience."""
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        while backend.wait(since, 2 * LONG) <= since:
            pass

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    begun.wait(LONG)
    return thread
