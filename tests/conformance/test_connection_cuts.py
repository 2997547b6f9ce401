"""The checks of cut connections, tried on stores that pretend to have a server."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest

from taskito.backends.memory import MemoryBackend
from taskito.exceptions import StorageError, TaskitoError
from taskito.testing.conformance.cuts import ConnectionStage
from taskito.testing.conformance.fixtures import KitFixtures


class Remote(MemoryBackend):
    """A store behind a wire: each operation is a request, the work of the server and an answer."""

    name = "remote"
    left = None

    def message(self):
        """Let a message cross the wire, unless it is cut."""
        if self.left is not None:
            if self.left == 0:
                raise StorageError("the connection was cut")
            self.left -= 1

    def enqueue(self, jobs):
        return self.call(super().enqueue, jobs)

    def exchange(self, request):
        return self.call(super().exchange, request)

    def maintain(self, budget):
        return self.call(super().maintain, budget)

    def get(self, ids):
        return self.call(super().get, ids)

    def call(self, operation, argument):
        self.message()
        answer = operation(argument)
        self.message()
        return answer


@contextmanager
def cut_wire(backend, messages):
    backend.left = messages
    try:
        yield
    finally:
        backend.left = None


class EnqueuesOneByOne(Remote):
    def enqueue(self, jobs):
        return [answer for job in jobs for answer in super(EnqueuesOneByOne, self).enqueue([job])]


class SendsABatchTwice(Remote):
    def enqueue(self, jobs):
        try:
            return super().enqueue(jobs)
        except StorageError:
            self.left = None
            return super().enqueue(jobs)


class SettlesBeforeItClaims(Remote):
    def exchange(self, request):
        settled = super().exchange(replace(request, want=0))
        claimed = super().exchange(replace(request, settlements=(), renewals=(), starts=()))
        return replace(settled, jobs=claimed.jobs)


class StaysBroken(Remote):
    broken = False

    def message(self):
        if self.broken:
            raise StorageError("the connection is closed")
        try:
            super().message()
        except StorageError:
            self.broken = True
            raise


class TellsOfNoJobs(Remote):
    def get(self, ids):
        try:
            return super().get(ids)
        except StorageError:
            return [None] * len(ids)


class RaisesSomethingElse(Remote):
    def message(self):
        try:
            super().message()
        except StorageError as error:
            raise BrokenPipeError from error


class ForgetsWhatWasDue(Remote):
    def maintain(self, budget):
        store = self._opened()
        try:
            return super().maintain(budget)
        except StorageError:
            for job in store.jobs.values():
                if job.state == "scheduled":
                    job.due_ms += 3_600_000
            raise


class Cut(ConnectionStage, KitFixtures):
    backend_class = Remote

    @pytest.fixture
    def backend_factory(self):
        return lambda options: self.backend_class("", options)

    @pytest.fixture
    def cut_connection(self):
        return cut_wire


class TestRemote(Cut):
    """A store that does it right passes."""


BATCH = "test_a_batch_whose_connection_is_cut_is_stored_whole_or_not_at_all"
EXCHANGE = "test_an_exchange_whose_connection_is_cut_is_made_whole_or_not_at_all"
UPKEEP = "test_upkeep_whose_connection_is_cut_goes_on_with_the_next_step"
READ = "test_a_read_whose_connection_is_cut_raises_or_tells_the_truth"


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (EnqueuesOneByOne, BATCH),
        (SendsABatchTwice, BATCH),
        (StaysBroken, BATCH),
        (RaisesSomethingElse, BATCH),
        (SettlesBeforeItClaims, EXCHANGE),
        (ForgetsWhatWasDue, UPKEEP),
        (TellsOfNoJobs, READ),
    ],
)
def test_a_store_that_does_it_wrong_is_caught(run_check, broken, check):
    run_check(Remote, check, cut=cut_wire)
    with pytest.raises((AssertionError, TaskitoError, BrokenPipeError)):
        run_check(broken, check, cut=cut_wire)


def test_a_cut_that_cuts_nothing_is_noticed(run_check):
    with pytest.raises(AssertionError, match="no call failed"):
        run_check(MemoryBackend, READ, cut=cut_wire)
