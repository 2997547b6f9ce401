"""A registered worker whose every step the test decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from taskito.backends import Backend, params

__all__ = ["PlayedWorker", "StartWorker"]


class PlayedWorker:
    """A worker that runs nothing: the test claims, starts and settles in its name.

    Args:
        backend: Where to register it.
        registration: What it says about itself.
    """

    def __init__(self, backend: Backend, registration: params.WorkerRegistration) -> None:
        self.backend = backend
        self.id = registration.id
        self.registration = registration
        backend.register(registration)

    def exchange(self, **fields: Any) -> params.ExchangeReply:
        """Make an exchange with these fields of an ``ExchangeRequest``."""
        return self.backend.exchange(params.ExchangeRequest(worker=self.id, **fields))

    def claim(self, want: int = 1) -> list[params.ClaimedJob]:
        """Claim up to ``want`` jobs."""
        return list(self.exchange(want=want).jobs)

    def claim_ids(self, want: int = 100) -> list[str]:
        """Claim up to ``want`` jobs and return their ids."""
        return [job.lease.id for job in self.claim(want)]

    def start(self, *jobs: params.ClaimedJob, ago_ms: int = 0) -> None:
        """Report that these jobs have started."""
        starts = tuple(params.Start(lease=job.lease, ago_ms=ago_ms) for job in jobs)
        self.exchange(starts=starts)

    def settle(
        self, lease: params.Lease, outcome: params.Outcome, started_ago_ms: int | None = 0
    ) -> params.Verdict:
        """Settle one attempt and return the verdict."""
        settlement = params.Settlement(lease=lease, outcome=outcome, started_ago_ms=started_ago_ms)
        [verdict] = self.exchange(settlements=(settlement,)).verdicts
        return verdict

    def finish(self, outcome: params.Outcome) -> str:
        """Claim the next job, settle it and return its id."""
        [job] = self.claim()
        assert self.settle(job.lease, outcome) is params.Verdict.OK
        return job.lease.id

    def succeed(self) -> str:
        """Claim the next job, complete it and return its id."""
        return self.finish(params.OutcomeSuccess(result=b"5", serializer="json"))

    def fail(self) -> str:
        """Claim the next job, make it a dead letter and return its id."""
        return self.finish(params.OutcomeDead(error=b"no", kind=params.ErrorKind.FAILURE))

    def give_back(self, job: params.ClaimedJob) -> None:
        """Give a claimed job back that has not started."""
        self.settle(job.lease, params.OutcomeRelease(), started_ago_ms=None)

    def leave(self) -> None:
        """Unregister."""
        self.backend.unregister(self.id)


StartWorker: TypeAlias = Callable[..., PlayedWorker]
"""Registers a worker: ``start_worker(queues=None, tasks=("add",), lease_ms=30_000, limits=())``."""
