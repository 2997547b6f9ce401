"""Every store under a clock that the test moves, and a worker that the test plays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskito._core import VirtualClock
from taskito.backends import Backend, BackendOptions, params
from taskito.backends.memory import MemoryBackend
from taskito.backends.sqlite import SqliteBackend

NOW = 1_800_000_000_000


class PlayedWorker:
    """A registered worker whose every step the test decides."""

    def __init__(self, backend: Backend, registration: params.WorkerRegistration) -> None:
        self.backend = backend
        self.id = registration.id
        self.registration = registration
        backend.register(registration)

    def exchange(self, **fields: object) -> params.ExchangeReply:
        return self.backend.exchange(params.ExchangeRequest(worker=self.id, **fields))

    def claim(self, want: int = 1) -> list[params.ClaimedJob]:
        return list(self.exchange(want=want).jobs)

    def claim_ids(self, want: int = 100) -> list[str]:
        return [job.lease.id for job in self.claim(want)]

    def start(self, *jobs: params.ClaimedJob, ago_ms: int = 0) -> None:
        starts = tuple(params.Start(lease=job.lease, ago_ms=ago_ms) for job in jobs)
        self.exchange(starts=starts)

    def settle(
        self, lease: params.Lease, outcome: params.Outcome, started_ago_ms: int | None = 0
    ) -> params.Verdict:
        settlement = params.Settlement(lease=lease, outcome=outcome, started_ago_ms=started_ago_ms)
        [verdict] = self.exchange(settlements=(settlement,)).verdicts
        return verdict

    def finish(self, outcome: params.Outcome) -> str:
        """Claim the next job, settle it and return its id."""
        [job] = self.claim()
        assert self.settle(job.lease, outcome) is params.Verdict.OK
        return job.lease.id

    def succeed(self) -> str:
        return self.finish(params.OutcomeSuccess(result=b"5", serializer="json"))

    def fail(self) -> str:
        return self.finish(params.OutcomeDead(error=b"no", kind=params.ErrorKind.FAILURE))

    def leave(self) -> None:
        self.backend.unregister(self.id)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOW)


@pytest.fixture(params=["memory", "sqlite-file", "sqlite-memory"])
def backend(
    request: pytest.FixtureRequest, clock: VirtualClock, tmp_path: Path
) -> Iterator[Backend]:
    options = BackendOptions(clock=clock, durability="off")
    made: Backend
    if request.param == "memory":
        made = MemoryBackend("", options)
    elif request.param == "sqlite-file":
        made = SqliteBackend(str(tmp_path / "tasks.db"), options)
    else:
        made = SqliteBackend(":memory:", options)
    with made:
        yield made


@pytest.fixture
def start_worker(backend: Backend) -> Callable[..., PlayedWorker]:
    numbers = itertools.count(1)

    def start(
        *,
        queues: tuple[str, ...] | None = None,
        tasks: tuple[str, ...] = ("add",),
        lease_ms: int = 30_000,
    ) -> PlayedWorker:
        registration = params.WorkerRegistration(
            id=f"{next(numbers):032x}",
            pid=1,
            host="here",
            queues=queues,
            tasks=tasks,
            lease_ms=lease_ms,
            concurrency=4,
        )
        return PlayedWorker(backend, registration)

    return start


@pytest.fixture
def worker(start_worker: Callable[..., PlayedWorker]) -> PlayedWorker:
    return start_worker()


@pytest.fixture
def enqueue(backend: Backend) -> Callable[..., str]:
    """Enqueue one job and return its id."""

    def enqueue_one(task: str = "add", **fields: object) -> str:
        [answer] = backend.enqueue([params.NewJob(task=task, **fields)])
        return answer.id

    return enqueue_one


@pytest.fixture
def job(backend: Backend) -> Callable[[str], params.JobRecord]:
    """Return the record of a job that must exist."""

    def get(id: str) -> params.JobRecord:
        [record] = backend.get([id])
        assert record is not None
        return record

    return get
