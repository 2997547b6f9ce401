"""Cut connections, part of the crash stage: the server goes away in the middle of an operation."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeAlias, TypeVar

from taskito.backends import Backend, BackendOptions, params
from taskito.backends.params import JobState, Verdict
from taskito.exceptions import StorageError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.played_worker import StartWorker
from taskito.testing.conformance.topic import Topic

__all__ = ["ConnectionStage", "CutConnection"]

CutConnection: TypeAlias = Callable[[Backend, int], AbstractContextManager[None]]
"""``cut(backend, messages)`` is a context. In it, the connection of ``backend`` to its server is
cut once so many messages have crossed it, in either direction; 0 cuts it before the first. At its
end, new connections can be made again. A proxy between the two does that, or a patched socket."""

T = TypeVar("T")

MESSAGES = 12
"""The cut comes after none, one, ... of so many messages."""
BATCH = 3
DELAY_MS = 5


class ConnectionStage(Topic):
    """A call whose connection is cut raises, has done all or nothing, and the next call works."""

    stage = "crash"
    topic = "connection"

    def test_a_batch_whose_connection_is_cut_is_stored_whole_or_not_at_all(
        self, backend: Backend, cut: CutConnection
    ) -> None:
        failures = 0
        for messages in range(MESSAGES):
            mark = uuid.uuid4().bytes
            batch = [params.NewJob(task="add", metadata=mark)] * BATCH
            answers = _try(cut, backend, messages, partial(backend.enqueue, batch))
            stored = [job.id for job in _all(backend) if job.metadata == mark]
            if answers is None:
                failures += 1
                assert len(stored) in (0, BATCH), (
                    f"cut after {messages} messages: {len(stored)} of a batch of {BATCH} are stored"
                )
            else:
                assert sorted(stored) == sorted(answer.id for answer in answers), (
                    f"cut after {messages} messages: {len(stored)} jobs are stored, "
                    f"{len(answers)} were acknowledged"
                )
            assert len(backend.enqueue([params.NewJob(task="add")])) == 1
            _check_counts(backend)
        _check_cuts(failures)

    def test_an_exchange_whose_connection_is_cut_is_made_whole_or_not_at_all(
        self, backend: Backend, cut: CutConnection, start_worker: StartWorker
    ) -> None:
        failures = 0
        for messages in range(MESSAGES):
            worker = start_worker(lease_ms=3_600_000)
            backend.enqueue([params.NewJob(task="add")] * (2 * BATCH))
            held = worker.claim(BATCH)
            assert len(held) == BATCH
            outcome = params.OutcomeSuccess(result=b"5", serializer="json")
            settlements = tuple(
                params.Settlement(lease=job.lease, outcome=outcome, started_ago_ms=0)
                for job in held
            )
            request = params.ExchangeRequest(worker=worker.id, settlements=settlements, want=BATCH)
            reply = _try(cut, backend, messages, partial(backend.exchange, request))
            failures += reply is None
            ended = _count(backend, [job.lease.id for job in held], JobState.COMPLETE)
            running = sum(record.running for record in backend.workers())
            assert (ended, running) in ((0, BATCH), (BATCH, BATCH)), (
                f"cut after {messages} messages: of {BATCH} jobs each, {ended} are settled and "
                f"{running - (BATCH - ended)} claimed"
            )
            assert _claimed_as_told(backend, reply, ended)
            # Sent again, the settlements find their leases or find them used.
            again = worker.exchange(settlements=settlements)
            expected = Verdict.STALE if ended else Verdict.OK
            assert list(again.verdicts) == [expected] * BATCH, f"sent again: {again.verdicts}"
            assert _count(backend, [job.lease.id for job in held], JobState.COMPLETE) == BATCH
            _check_counts(backend)
            worker.leave()
        _check_cuts(failures)

    def test_upkeep_whose_connection_is_cut_goes_on_with_the_next_step(
        self, backend: Backend, options: BackendOptions, cut: CutConnection
    ) -> None:
        failures = 0
        for messages in range(MESSAGES):
            answers = backend.enqueue([params.NewJob(task="add", delay_ms=DELAY_MS)] * BATCH)
            ids = [answer.id for answer in answers]
            _let_pass(options)
            failures += _try(cut, backend, messages, lambda: backend.maintain(BATCH)) is None
            ready = _count(backend, ids, JobState.READY)
            waiting = _count(backend, ids, JobState.SCHEDULED)
            assert ready + waiting == BATCH, f"cut after {messages} messages: a job is neither"
            _check_counts(backend)
            backend.maintain(100)
            assert _count(backend, ids, JobState.READY) == BATCH
        _check_cuts(failures)

    def test_a_read_whose_connection_is_cut_raises_or_tells_the_truth(
        self, backend: Backend, cut: CutConnection
    ) -> None:
        ids = [answer.id for answer in backend.enqueue([params.NewJob(task="add")] * BATCH)]
        failures = 0
        for messages in range(MESSAGES):
            records = _try(cut, backend, messages, lambda: backend.get(ids))
            failures += records is None
            for seen in (records, backend.get(ids)):
                found = [record and record.id for record in seen or ()]
                assert seen is None or found == ids, f"cut after {messages} messages: {found}"
        _check_cuts(failures)


def _try(cut: CutConnection, backend: Backend, messages: int, call: Callable[[], T]) -> T | None:
    """Return the answer of a call, or None if it failed as it should."""
    try:
        with cut(backend, messages):
            return call()
    except StorageError:
        return None


def _check_cuts(failures: int) -> None:
    assert failures, (
        "no call failed: cut_connection does not cut, or the backend hides that it was cut"
    )


def _claimed_as_told(backend: Backend, reply: params.ExchangeReply | None, ended: int) -> bool:
    """Check a reply that came: it must say what was done."""
    if reply is None:
        return True
    claimed = [job.lease.id for job in reply.jobs]
    return (
        list(reply.verdicts) == [Verdict.OK] * BATCH
        and ended == BATCH == len(claimed)
        and _count(backend, claimed, JobState.RUNNING) == BATCH
    )


def _count(backend: Backend, ids: list[str], state: JobState) -> int:
    return sum(record is not None and record.state is state for record in backend.get(ids))


def _check_counts(backend: Backend) -> None:
    counted: Counter[JobState] = Counter()
    for row in backend.counts():
        counted[row.state] += row.count
    listed = Counter(job.state for job in _all(backend))
    assert +counted == listed, f"counts: {dict(counted)}, but the jobs are {dict(listed)}"


def _all(backend: Backend) -> list[params.JobRecord]:
    page = backend.list(params.ListRequest(limit=10_000))
    assert page.next is None
    return list(page.jobs)


def _let_pass(options: BackendOptions) -> None:
    """Let the delay of the jobs pass, on the clock of the store."""
    if isinstance(options.clock, VirtualClock):
        options.clock.advance(DELAY_MS)
    else:
        time.sleep(4 * DELAY_MS / 1_000)
