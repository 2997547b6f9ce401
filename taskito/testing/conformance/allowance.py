"""The simplest model of limits: how many run, and fractions of tokens, taken literally.

Nothing here is shared with a backend: tokens are exact fractions that flow in with steady time, and
running jobs are counted anew for each question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING

from taskito.backends import params
from taskito.backends.params import JobState, LimitedBy, LimitKind, Rate

if TYPE_CHECKING:
    from taskito.testing.conformance.model import Model, ModelJob

__all__ = ["Allowances"]


@dataclass(slots=True)
class _Limit:
    max_concurrent: int | None = None
    rate: Rate | None = None
    tokens: Fraction = Fraction(0)
    at_ms: int = 0

    def refill(self, now_ms: int) -> None:
        if self.rate is not None:
            flowed = Fraction(self.rate.count * (now_ms - self.at_ms), self.rate.period_ms)
            self.tokens = min(Fraction(self.rate.burst), self.tokens + flowed)
        self.at_ms = now_ms


class Allowances:
    """The limits of one model.

    Args:
        model: The jobs and workers that they are about.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._limits: dict[tuple[LimitKind, str], _Limit] = {}

    # What is set --------------------------------------------------------------------------------

    def announce(self, registration: params.WorkerRegistration) -> None:
        """Note what a starting worker says of its tasks."""
        given = {limit.task: limit for limit in registration.limits}
        for task in registration.tasks:
            limit = given.get(task, params.TaskLimit(task=task))
            self._put(LimitKind.TASK, task, limit.rate, limit.max_concurrent)

    def limit_queue(self, queue: str, rate: Rate | None, max_concurrent: int | None) -> None:
        """Note the limits of a queue."""
        self._put(LimitKind.QUEUE, queue, rate, max_concurrent)

    def _put(
        self, kind: LimitKind, name: str, rate: Rate | None, max_concurrent: int | None
    ) -> None:
        limit = self._limits.setdefault((kind, name), _Limit(at_ms=self._now()))
        limit.refill(self._now())
        limit.max_concurrent = max_concurrent
        if rate == limit.rate:
            return
        if rate is not None and limit.rate is None:
            limit.tokens = Fraction(rate.burst)
        elif rate is not None:
            limit.tokens = Fraction(min(rate.burst, floor(limit.tokens)))
        limit.rate = rate

    # What is allowed ----------------------------------------------------------------------------

    def limited_by(self, job: ModelJob, claimed: Sequence[ModelJob] = ()) -> LimitedBy | None:
        """Return the limit that keeps a ready job from running, if there is one.

        Args:
            job: The job.
            claimed: Jobs that were claimed since the model was brought up to date.
        """
        running = [*self._model.in_state(JobState.RUNNING), *claimed]
        for kind, limit in self._of(job):
            count = sum(
                (other.spec.task, other.spec.concurrency_key)
                == (job.spec.task, job.spec.concurrency_key)
                if kind is LimitKind.TASK
                else other.spec.queue == job.spec.queue
                for other in running
            )
            if limit.max_concurrent is not None and count >= limit.max_concurrent:
                return LimitedBy.CONCURRENCY
        if any(self._wait_ms(kind, limit, job, claimed) for kind, limit in self._of(job)):
            return LimitedBy.RATE
        return None

    def is_limited(self, job: ModelJob) -> bool:
        """Return whether any limit is set for a job."""
        return any(
            limit.rate is not None or limit.max_concurrent is not None for _, limit in self._of(job)
        )

    def wait_ms(self, job: ModelJob) -> int:
        """Return how long until the rates let a job start."""
        return max(
            (self._wait_ms(kind, limit, job, ()) for kind, limit in self._of(job)), default=0
        )

    def _wait_ms(
        self, kind: LimitKind, limit: _Limit, job: ModelJob, claimed: Sequence[ModelJob]
    ) -> int:
        if limit.rate is None:
            return 0
        limit.refill(self._now())
        used = sum(
            other.spec.task == job.spec.task
            if kind is LimitKind.TASK
            else other.spec.queue == job.spec.queue
            for other in claimed
        )
        missing = 1 - (limit.tokens - used)
        return max(0, ceil(missing * limit.rate.period_ms / limit.rate.count))

    # What happens -------------------------------------------------------------------------------

    def take(self, job: ModelJob) -> None:
        """A job was claimed."""
        self._add(job, -1)

    def give_back(self, job: ModelJob) -> None:
        """A claim came to nothing before its start."""
        self._add(job, 1)

    def _add(self, job: ModelJob, tokens: int) -> None:
        for _, limit in self._of(job):
            limit.refill(self._now())
            limit.tokens += tokens
            if limit.rate is not None:
                limit.tokens = min(Fraction(limit.rate.burst), limit.tokens)

    def _of(self, job: ModelJob) -> Iterator[tuple[LimitKind, _Limit]]:
        for kind, name in ((LimitKind.TASK, job.spec.task), (LimitKind.QUEUE, job.spec.queue)):
            limit = self._limits.get((kind, name))
            if limit is not None:
                yield kind, limit

    def _now(self) -> int:
        return self._model.clock.steady_ms()

    def records(self) -> set[tuple[LimitKind, str, Rate | None, int | None, int | None]]:
        """Return kind, name, rate, most and whole tokens of each limit in force."""
        found = set()
        for (kind, name), limit in self._limits.items():
            limit.refill(self._now())
            tokens = None if limit.rate is None else floor(limit.tokens)
            if limit.rate is not None or limit.max_concurrent is not None:
                found.add((kind, name, limit.rate, limit.max_concurrent, tokens))
        return found
