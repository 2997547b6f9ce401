"""A queue in memory, and a worker whose every step a test takes itself."""

from __future__ import annotations

import os
import uuid

import pytest

from taskito import Queue
from taskito.backends import params
from taskito.errors import encode_error


class HandWorker:
    """Claims and settles through the seam, so that a test decides what happens when."""

    def __init__(self, queue: Queue, queues: tuple[str, ...] | None = None) -> None:
        self._backend = queue.backend
        self.id = uuid.uuid4().hex
        self._backend.register(
            params.WorkerRegistration(
                id=self.id,
                pid=os.getpid(),
                host="here",
                queues=queues,
                tasks=tuple(queue.tasks),
                concurrency=10,
            )
        )

    def claim(self, want: int = 1) -> list[params.ClaimedJob]:
        request = params.ExchangeRequest(worker=self.id, want=want)
        return list(self._backend.exchange(request).jobs)

    def settle(self, job: params.ClaimedJob, outcome: params.Outcome) -> params.Verdict:
        settlement = params.Settlement(lease=job.lease, outcome=outcome, started_ago_ms=0)
        request = params.ExchangeRequest(worker=self.id, settlements=(settlement,))
        return self._backend.exchange(request).verdicts[0]

    def succeed(self, job: params.ClaimedJob, result: bytes, serializer: str = "msgpack") -> None:
        outcome = params.OutcomeSuccess(result=result, serializer=serializer)
        assert self.settle(job, outcome) is params.Verdict.OK

    def retry(self, job: params.ClaimedJob, error: Exception, delay_ms: int = 60_000) -> None:
        outcome = params.OutcomeRetry(
            error=encode_error(error), kind=params.ErrorKind.FAILURE, delay_ms=delay_ms
        )
        assert self.settle(job, outcome) is params.Verdict.OK

    def bury(
        self,
        job: params.ClaimedJob,
        error: Exception,
        kind: params.ErrorKind = params.ErrorKind.FAILURE,
    ) -> None:
        outcome = params.OutcomeDead(error=encode_error(error, kind=kind), kind=kind)
        assert self.settle(job, outcome) is params.Verdict.OK


@pytest.fixture
def memory_queue():
    with Queue(backend="memory://") as queue:
        yield queue


@pytest.fixture
def hand_worker():
    """The class itself: a worker knows the tasks that exist when it is made."""
    return HandWorker
