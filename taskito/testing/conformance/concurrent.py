"""The concurrent stage: many threads and processes at one store, and what they may have seen."""
# ruff: noqa: D102, PLR0917 -- the name of a check says what it proves

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from taskito.backends import Backend, BackendOptions, params
from taskito.backends.params import Verdict
from taskito.testing.conformance.fixtures import BackendFactory, fresh_namespace
from taskito.testing.conformance.linearizability import (
    Claimed,
    Enqueue,
    Exchange,
    Settled,
    violations,
)
from taskito.testing.conformance.processes import Play, Player, players
from taskito.testing.conformance.profiles import current_profile
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["ConcurrentStage"]

RACERS = 8
PRODUCERS = 3
WORKERS = 3
PATIENCE = 50.0
LEASE_MS = 600_000
HURRY = 0.8
"""How likely a held job is settled by the next exchange, and that it is settled as complete."""
CONFUSION = 0.2
"""How likely a lease is settled once more, or by another thread."""


class ConcurrentStage(Topic):
    """Recorded histories are linearizable, and a raced key has one holder."""

    stage = "concurrent"
    topic = "concurrent"

    def test_threads_see_a_linearizable_history(self, backend: Backend) -> None:
        for seed in range(current_profile().rounds):
            enqueues, exchanges = _play_in_threads(backend, seed)
            assert violations(enqueues, exchanges) == []

    @needs("cross_process")
    def test_processes_see_a_linearizable_history(self, elsewhere: BackendFactory) -> None:
        for seed in range(current_profile().rounds):
            enqueues, exchanges = _play_in_processes(elsewhere, fresh_namespace(), seed)
            assert violations(enqueues, exchanges) == []

    @needs("unique")
    def test_a_key_raced_by_threads_has_one_holder(self, backend: Backend) -> None:
        barrier = threading.Barrier(RACERS)

        def race(number: int) -> list[params.Enqueued]:
            barrier.wait()
            return [_enqueue_key(backend, key, number) for key in _keys()]

        with ThreadPoolExecutor(RACERS) as pool:
            answers = list(pool.map(race, range(RACERS)))
        _check_race(backend, answers)

    @needs("unique", "cross_process")
    def test_a_key_raced_by_processes_has_one_holder(self, elsewhere: BackendFactory) -> None:
        options = BackendOptions(namespace=fresh_namespace())
        with elsewhere(options) as backend:
            made = [
                Player(race_for_keys, elsewhere, options.namespace, number)
                for number in range(RACERS)
            ]
            with players(made):
                answers = [player.end() for player in made]
            _check_race(backend, answers)

    @needs("locks", "cross_process")
    def test_a_lock_raced_by_processes_has_one_holder_at_a_time(
        self, elsewhere: BackendFactory
    ) -> None:
        options = BackendOptions(namespace=fresh_namespace())
        with elsewhere(options) as backend:
            made = [Player(race_for_lock, elsewhere, options.namespace) for _ in range(RACERS)]
            with players(made):
                held = [one for player in made for one in player.end()]
            assert list(backend.locks()) == []
        rounds = RACERS * _rounds()
        assert len(held) == rounds, f"{len(held)} holdings of {rounds}"
        held.sort()
        tokens = [token for _, _, token in held]
        assert tokens == sorted(set(tokens)), "tokens do not grow with time"
        for (_, released, _), (taken, _, _) in itertools.pairwise(held):
            assert released <= taken, "two held the lock at a time"

    def test_every_thread_may_use_every_operation(self, backend: Backend) -> None:
        """Inspection beside writing sees whole batches only."""
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                backend.enqueue([params.NewJob(task="add")] * 7)

        def read() -> None:
            for _ in range(current_profile().jobs // 4):
                total = sum(row.count for row in backend.counts())
                assert total % 7 == 0, f"counts: {total} jobs, but they came in sevens"

        with ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(write) for _ in range(2)]
            readers = [pool.submit(read) for _ in range(2)]
            try:
                for reader in readers:
                    reader.result(PATIENCE)
            finally:
                stop.set()
            for writer in writers:
                writer.result(PATIENCE)


# Histories --------------------------------------------------------------------------------------


class _Recorder:
    """Calls one backend and writes down when each call began and ended."""

    def __init__(self, backend: Backend, seed: str) -> None:
        self.backend = backend
        self.random = random.Random(seed)
        self.enqueues: list[Enqueue] = []
        self.exchanges: list[Exchange] = []

    def produce(self, jobs: int) -> None:
        """Enqueue jobs in small batches of one priority each."""
        left = jobs
        while left:
            size = min(left, self.random.randint(1, 4))
            priority = self.random.choice([0, 0, 0, 9])
            batch = [params.NewJob(task="add", priority=priority)] * size
            begin = time.monotonic_ns()
            answers = self.backend.enqueue(batch)
            end = time.monotonic_ns()
            self.enqueues.append(
                Enqueue(begin, end, tuple(answer.id for answer in answers), priority)
            )
            left -= size

    def work(self, worker: str, leases: list[params.Lease], is_done: Callable[[int], bool]) -> None:
        """Claim and settle until all is done; some jobs are given back, some settled twice.

        Args:
            worker: Its id.
            leases: What the worker ever claimed; other threads of it may settle it, too.
            is_done: Takes the number of jobs that ended just now.
        """
        held: list[params.Lease] = []
        ended = 0
        while not is_done(ended):
            reports = [lease for lease in held if self.random.random() < HURRY]
            held = [lease for lease in held if lease not in reports]
            again = [
                lease
                for lease in leases[-3:]
                if self.random.random() < CONFUSION and lease not in reports
            ]
            claimed = self._exchange(worker, [*reports, *again], self.random.randint(0, 3))
            held += claimed
            leases += claimed
            ended = sum(one.final and one.accepted for one in self.exchanges[-1].settled)

    def _exchange(self, worker: str, reports: list[params.Lease], want: int) -> list[params.Lease]:
        finals = [self.random.random() < HURRY for _ in reports]
        success = params.OutcomeSuccess(result=b"", serializer="msgpack")
        request = params.ExchangeRequest(
            worker=worker,
            settlements=tuple(
                params.Settlement(
                    lease=lease, outcome=success if final else params.OutcomeRelease()
                )
                for lease, final in zip(reports, finals, strict=True)
            ),
            want=want,
        )
        begin = time.monotonic_ns()
        reply = self.backend.exchange(request)
        end = time.monotonic_ns()
        settled = tuple(
            Settled(lease.id, lease.token, verdict is Verdict.OK, final)
            for lease, final, verdict in zip(reports, finals, reply.verdicts, strict=True)
        )
        claimed = tuple(Claimed(job.lease.id, job.lease.token) for job in reply.jobs)
        self.exchanges.append(Exchange(begin, end, settled, claimed, want))
        return [job.lease for job in reply.jobs]


def _play_in_threads(backend: Backend, seed: int) -> tuple[list[Enqueue], list[Exchange]]:
    jobs = current_profile().jobs // PRODUCERS
    recorders = [_Recorder(backend, f"{seed}-{n}") for n in range(PRODUCERS + 2 * WORKERS)]
    ended = _Ended(jobs * PRODUCERS)
    threads = RACERS + 1
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(one.produce, jobs) for one in recorders[:PRODUCERS]]
        for first, second in zip(
            recorders[PRODUCERS::2], recorders[PRODUCERS + 1 :: 2], strict=True
        ):
            # Two threads of one worker.
            worker = _register(backend)
            leases: list[params.Lease] = []
            futures += [pool.submit(one.work, worker, leases, ended.add) for one in (first, second)]
        for future in futures:
            future.result(PATIENCE)
    return (
        [call for one in recorders for call in one.enqueues],
        [call for one in recorders for call in one.exchanges],
    )


def _play_in_processes(
    factory: BackendFactory, namespace: str, seed: int
) -> tuple[list[Enqueue], list[Exchange]]:
    jobs = current_profile().jobs // PRODUCERS
    plays: list[tuple[Play, Any]] = [(produce, jobs)] * PRODUCERS
    plays += [(work, jobs * PRODUCERS)] * WORKERS
    made = [
        Player(play, factory, namespace, f"{seed}-{number}", amount)
        for number, (play, amount) in enumerate(plays)
    ]
    with players(made):
        told = [call for player in made for calls in player.end() for call in calls]
    return (
        [call for call in told if isinstance(call, Enqueue)],
        [call for call in told if isinstance(call, Exchange)],
    )


class _Ended:
    """Counts jobs that ended, over threads."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self._lock = threading.Lock()
        self._deadline = time.monotonic() + PATIENCE

    def add(self, ended: int) -> bool:
        assert time.monotonic() < self._deadline, f"{self._left} jobs were not handed out in time"
        with self._lock:
            self._left -= ended
            return self._left <= 0


def _register(backend: Backend) -> str:
    worker = uuid.uuid4().hex
    backend.register(
        params.WorkerRegistration(
            id=worker, pid=1, host="here", tasks=("add",), lease_ms=LEASE_MS, concurrency=4
        )
    )
    return worker


# What the processes do --------------------------------------------------------------------------


def produce(
    factory: BackendFactory,
    tell: Callable[[Any], None],
    ready: Callable[[], None],
    namespace: str,
    seed: str,
    jobs: int,
) -> None:
    """Enqueue ``jobs`` jobs and tell the history."""
    with factory(BackendOptions(namespace=namespace)) as backend:
        recorder = _Recorder(backend, seed)
        ready()
        recorder.produce(jobs)
    tell(recorder.enqueues)


def work(
    factory: BackendFactory,
    tell: Callable[[Any], None],
    ready: Callable[[], None],
    namespace: str,
    seed: str,
    jobs: int,
) -> None:
    """Work until ``jobs`` jobs are complete, whoever completed them, and tell the history."""
    with factory(BackendOptions(namespace=namespace)) as backend:
        recorder = _Recorder(backend, seed)
        worker = _register(backend)
        deadline = time.monotonic() + PATIENCE
        ready()

        def is_done(_: int) -> bool:
            assert time.monotonic() < deadline, "not all jobs were handed out in time"
            complete = [row for row in backend.counts() if row.state is params.JobState.COMPLETE]
            return sum(row.count for row in complete) >= jobs

        recorder.work(worker, [], is_done)
    tell(recorder.exchanges)


def race_for_keys(
    factory: BackendFactory,
    tell: Callable[[Any], None],
    ready: Callable[[], None],
    namespace: str,
    number: int,
) -> None:
    """Enqueue one job for each key, as the others do at the same time."""
    with factory(BackendOptions(namespace=namespace)) as backend:
        ready()
        for key in _keys():
            tell(_enqueue_key(backend, key, number))


def race_for_lock(
    factory: BackendFactory,
    tell: Callable[[Any], None],
    ready: Callable[[], None],
    namespace: str,
) -> None:
    """Take a lock again and again, and tell from when to when it was held, and the token."""
    deadline = time.monotonic() + PATIENCE
    with factory(BackendOptions(namespace=namespace)) as backend:
        ready()
        for _ in range(_rounds()):
            request = params.LockRequest(name="raced", owner="racer", ttl_ms=60_000)
            while (answer := backend.acquire_lock(request)).token is None:
                assert time.monotonic() < deadline, "the lock was not free in time"
                backend.wait(0, 0.002)
                time.sleep(0.001)
            taken = time.monotonic_ns()
            backend.extend_locks(
                [params.LockLease(name="raced", token=answer.token, ttl_ms=60_000)]
            )
            released = time.monotonic_ns()
            assert backend.release_lock("raced", answer.token), "release_lock: it was not held"
            tell((taken, released, answer.token))


def _rounds() -> int:
    return max(5, current_profile().jobs // 40)


# Races for keys ---------------------------------------------------------------------------------


def _keys() -> list[str]:
    return [f"key-{number}" for number in range(max(10, current_profile().jobs // 10))]


def _enqueue_key(backend: Backend, key: str, number: int) -> params.Enqueued:
    fields = {"unique_key": key} if number % 2 else {"unique_key": key, "idempotency_key": key}
    job = params.NewJob(task="add", **fields)  # type: ignore[arg-type]
    # Some ask twice in one batch: there, too, one item has the key at most.
    answers = backend.enqueue([job] * (1 + number % 3 // 2))
    assert all(answer.id == answers[0].id for answer in answers), f"{key}: two jobs in a batch"
    assert all(answer.duplicate for answer in answers[1:]), f"{key}: held twice in a batch"
    return answers[0]


def _check_race(backend: Backend, answers: list[list[params.Enqueued]]) -> None:
    for key, race in zip(_keys(), zip(*answers, strict=True), strict=True):
        assert len(race) == RACERS
        winners = [answer.id for answer in race if not answer.duplicate]
        assert len(winners) == 1, f"{key}: {len(winners)} jobs hold it"
        assert {answer.id for answer in race} == set(winners), (
            f"{key}: not all were told who has it"
        )
    total = sum(row.count for row in backend.counts())
    assert total == len(_keys()), f"{total} jobs for {len(_keys())} keys"
