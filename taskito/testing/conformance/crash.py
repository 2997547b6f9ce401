"""The crash stage: processes are killed at random moments, and what is left must be whole."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from taskito.backends import Backend, BackendOptions, params
from taskito.backends.params import FINAL_STATES, JobState, Verdict
from taskito.testing.conformance.fixtures import BackendFactory, fresh_namespace
from taskito.testing.conformance.processes import Player, players
from taskito.testing.conformance.profiles import current_profile
from taskito.testing.conformance.topic import Topic

__all__ = ["CrashStage"]

BATCH = 5
LEASE_MS = 1_000
LONGEST_LIFE = 0.4
PATIENCE = 50.0
TASK = "add"
PAGE = 1_000


class CrashStage(Topic):
    """Kill the processes that enqueue, exchange and maintain; then look, and finish the work."""

    stage = "crash"
    topic = "crash"
    needed = ("cross_process",)

    def test_what_was_acknowledged_survives_the_kill_of_every_process(
        self, elsewhere: BackendFactory
    ) -> None:
        dice = random.Random(uuid.uuid4().hex)
        options = BackendOptions(namespace=fresh_namespace())
        with elsewhere(options) as backend:
            promised = _Promised()
            for _ in range(current_profile().rounds + 1):
                promised.take(_storm(elsewhere, options.namespace, dice))
                _check_rest(backend, promised)
            _finish(backend)
            _check_rest(backend, promised)
            unfinished = [job.id for job in _all(backend) if job.state is not JobState.COMPLETE]
            assert unfinished == [], f"jobs that did not end well: {unfinished}"


class _Promised:
    """What the store had answered when its callers died."""

    def __init__(self) -> None:
        self.enqueued: set[str] = set()
        self.completed: dict[str, int] = {}

    def take(self, told: list[tuple[str, Any]]) -> None:
        for word, value in told:
            if word == "enqueued":
                assert not self.enqueued & set(value), "an id was given out twice"
                self.enqueued |= set(value)
            else:
                for job_id, token in value:
                    assert job_id not in self.completed, f"job {job_id} was completed twice"
                    self.completed[job_id] = token


def _storm(factory: BackendFactory, namespace: str, dice: random.Random) -> list[tuple[str, Any]]:
    """Let processes work for a moment, kill them one after the other, return what they told."""
    made = [
        Player(play, factory, namespace)
        for play in (keep_enqueueing, keep_enqueueing, keep_working, keep_working, keep_maintaining)
    ]
    with players(made):
        order = list(made)
        dice.shuffle(order)
        ends = sorted(time.monotonic() + dice.random() * LONGEST_LIFE for _ in order)
        for player, end in zip(order, ends, strict=True):
            while time.monotonic() < end:
                for other in made:
                    other.listen()
                time.sleep(0.001)
            player.kill()
    return [told for player in made for told in player.told]


def _check_rest(backend: Backend, promised: _Promised) -> None:
    jobs = _all(backend)
    ids = Counter(job.id for job in jobs)
    assert [job_id for job_id, times in ids.items() if times > 1] == [], "a job is listed twice"
    lost = promised.enqueued - ids.keys()
    assert not lost, f"{len(lost)} of {len(promised.enqueued)} acknowledged jobs are lost: {lost}"
    _check_batches(jobs)
    _check_counts(backend, jobs)
    for record in backend.get(sorted(promised.completed)):
        assert record is not None
        kept = (record.state, record.run, record.result)
        expected = (JobState.COMPLETE, promised.completed[record.id], _result(record.id))
        assert kept == expected, f"job {record.id}: {kept}, but its end was acknowledged"


def _check_batches(jobs: list[params.JobRecord]) -> None:
    """A batch is one atom: all its jobs are there, or none."""
    batches: dict[bytes | None, list[str]] = defaultdict(list)
    for job in jobs:
        batches[job.metadata].append(job.id)
    torn = {batch: ids for batch, ids in batches.items() if len(ids) != BATCH}
    assert not torn, f"batches of {BATCH} that are not whole: {torn}"


def _check_counts(backend: Backend, jobs: list[params.JobRecord]) -> None:
    counted: Counter[JobState] = Counter()
    for row in backend.counts():
        counted[row.state] += row.count
    listed = Counter(job.state for job in jobs)
    assert +counted == listed, f"counts: {dict(counted)}, but the jobs are {dict(listed)}"


def _finish(backend: Backend) -> None:
    """Run what is left, as a new worker would: the jobs of the dead ones have to come back."""
    worker = _register(backend)
    deadline = time.monotonic() + PATIENCE
    while any(row.state not in FINAL_STATES for row in backend.counts()):
        assert time.monotonic() < deadline, f"stuck: {backend.counts()}"
        backend.maintain(PAGE)
        jobs = backend.exchange(params.ExchangeRequest(worker=worker, want=100)).jobs
        if not jobs:
            time.sleep(0.05)
        backend.exchange(
            params.ExchangeRequest(
                worker=worker, settlements=tuple(_success(job.lease) for job in jobs)
            )
        )
    backend.unregister(worker)


def _all(backend: Backend) -> list[params.JobRecord]:
    jobs: list[params.JobRecord] = []
    page = backend.list(params.ListRequest(limit=PAGE))
    while True:
        jobs += page.jobs
        if page.next is None:
            return jobs
        page = backend.list(params.ListRequest(limit=PAGE, after=page.next))


def _register(backend: Backend) -> str:
    worker = uuid.uuid4().hex
    backend.register(
        params.WorkerRegistration(
            id=worker, pid=1, host="here", tasks=(TASK,), lease_ms=LEASE_MS, concurrency=4
        )
    )
    return worker


def _success(lease: params.Lease) -> params.Settlement:
    outcome = params.OutcomeSuccess(result=_result(lease.id), serializer="msgpack")
    return params.Settlement(lease=lease, outcome=outcome, started_ago_ms=0)


def _result(job_id: str) -> bytes:
    return f"result of {job_id}".encode()


# What the processes do until they are killed ----------------------------------------------------


def keep_enqueueing(
    factory: BackendFactory,
    tell: Callable[[Any], None],
    ready: Callable[[], None],
    namespace: str,
) -> None:
    """Enqueue batches, and tell the ids of each one that was acknowledged."""
    with factory(BackendOptions(namespace=namespace)) as backend:
        ready()
        while True:
            batch = uuid.uuid4().bytes
            jobs = [
                params.NewJob(
                    task=TASK,
                    payload=batch * 20,
                    metadata=batch,
                    delay_ms=10 * (number % 2),
                    max_crashes=1_000,
                )
                for number in range(BATCH)
            ]
            tell(("enqueued", [answer.id for answer in backend.enqueue(jobs)]))


def keep_working(
    factory: BackendFactory,
    tell: Callable[[Any], None],
    ready: Callable[[], None],
    namespace: str,
) -> None:
    """Claim, start, complete and retry, and tell which completions were acknowledged."""
    with factory(BackendOptions(namespace=namespace)) as backend:
        worker = _register(backend)
        retry = params.OutcomeRetry(error=b"no", kind=params.ErrorKind.FAILURE, delay_ms=1)
        settlements: tuple[params.Settlement, ...] = ()
        ready()
        while True:
            reply = backend.exchange(
                params.ExchangeRequest(worker=worker, settlements=settlements, want=4)
            )
            tell(
                (
                    "completed",
                    [
                        (done.lease.id, done.lease.token)
                        for done, verdict in zip(settlements, reply.verdicts, strict=True)
                        if verdict is Verdict.OK and isinstance(done.outcome, params.OutcomeSuccess)
                    ],
                )
            )
            leases = [job.lease for job in reply.jobs]
            starts = tuple(params.Start(lease=lease, ago_ms=0) for lease in leases)
            backend.exchange(params.ExchangeRequest(worker=worker, starts=starts))
            settlements = tuple(
                _success(lease)
                if lease.token % 5
                else params.Settlement(lease=lease, outcome=retry, started_ago_ms=0)
                for lease in leases
            )


def keep_maintaining(
    factory: BackendFactory,
    tell: Callable[[Any], None],
    ready: Callable[[], None],
    namespace: str,
) -> None:
    """Do one small step of upkeep after the other."""
    del tell
    with factory(BackendOptions(namespace=namespace)) as backend:
        ready()
        while True:
            backend.maintain(3)
