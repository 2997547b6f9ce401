"""A runner whose attempts plugins are told of."""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from taskito.backends.params import ErrorKind
from taskito.errors import decode_error
from taskito.plugins.events import (
    JobCancelled,
    JobDead,
    JobEvent,
    JobFinished,
    JobLost,
    JobRetried,
    JobSnoozed,
    JobStarted,
)
from taskito.plugins.observing import Publisher
from taskito.worker.runner import OutcomeTypes, Runner

if TYPE_CHECKING:
    from taskito import _core
    from taskito.worker.event_loop import ThreadLoop

__all__ = ["ObservedRunner"]

_FINISHED, _SNOOZED, _ABORTED = "finished", "snoozed", "aborted"
_FAILED, _LOST = "failed", "lost"

_Ended: TypeAlias = tuple[int, str, str, str, int, str, float]


class _Report:
    """How one attempt ended; filled in where its outcome is made."""

    __slots__ = ("detail", "kind", "retry")

    def __init__(self) -> None:
        self.kind = _FINISHED
        self.detail: Any = None
        self.retry = False

    def event(self, run: _core.Run, ended: _Ended) -> JobEvent:
        """Return the event; ``ended`` are the fields that all ends have."""
        if self.kind is _FINISHED:
            return JobFinished(*ended)
        if self.kind is _SNOOZED:
            return JobSnoozed(*ended, self.detail)
        if self.kind is _ABORTED:
            return JobCancelled(*ended[:4], self.detail)
        if self.kind is _LOST:
            return JobLost(*ended, self.detail)
        if self.retry and run.attempt < run.max_retries:
            return JobRetried(*ended, self.detail)
        return JobDead(*ended, self.detail)


_report: contextvars.ContextVar[_Report] = contextvars.ContextVar("taskito_report")


class ObservedRunner(Runner):
    """Publishes the start and the end of each attempt.

    Without observers a plain ``Runner`` is used, so nothing of this is paid for.

    Args:
        publisher: Where events go.
        arguments: As for ``Runner``.
    """

    def __init__(self, publisher: Publisher, *arguments: Any, **keywords: Any) -> None:
        tasks, config, outcomes = arguments
        super().__init__(tasks, config, _reporting(outcomes), **keywords)
        self._publisher = publisher
        self._open: dict[str, tuple[_core.Run, float]] = {}

    def run(self, run: _core.Run, loop: ThreadLoop) -> Any:  # type: ignore[override] # never less
        """Run one attempt, with an event before and one after it."""
        with self._observe(run):
            return super().run(run, loop)

    async def run_coroutine(self, run: _core.Run) -> Any:  # type: ignore[override] # never less
        """Run one attempt on the event loop, with an event before and one after it."""
        with self._observe(run):
            return await super().run_coroutine(run)

    @contextlib.contextmanager
    def _observe(self, run: _core.Run) -> Iterator[None]:
        publish = self._publisher.publish
        start = time.time()
        attempt = (run.id, run.task, run.queue, run.attempt, self._worker)
        publish(JobStarted(int(start * 1000), *attempt))
        self._open[run.id] = run, start
        report = _Report()
        mark = _report.set(report)
        try:
            yield
        finally:
            _report.reset(mark)
            # An attempt that was over before its body is told by the dispatcher's notice, which may
            # come later than the end of the body.
            if not run.abandoned() and self._open.pop(run.id, None) is not None:
                end = time.time()
                publish(report.event(run, (int(end * 1000), *attempt, max(0.0, end - start))))

    def noticed(self, notice: _core.Notice) -> None:
        """Publish what the dispatcher says about an attempt whose body still runs."""
        if notice.kind not in {"timeout", "lost"} or notice.job_id is None:
            return
        run, start = self._open.pop(notice.job_id, (None, 0.0))
        if run is None:
            return
        report = _Report()
        report.detail = notice.message
        report.kind = _FAILED if notice.kind == "timeout" else _LOST
        report.retry = True
        end = time.time()
        self._publisher.publish(
            report.event(
                run,
                (
                    int(end * 1000),
                    *(run.id, run.task, run.queue, run.attempt, self._worker),
                    max(0.0, end - start),
                ),
            )
        )


def _reporting(outcomes: OutcomeTypes) -> OutcomeTypes:
    """Return the same outcomes, noted in the report of the attempt."""

    def noted(kind: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any) -> Any:
            report = _report.get()
            report.kind = kind
            if kind is _FAILED:
                error, reason, retry, _delay = arguments
                report.detail = decode_error(error).summary
                if reason == ErrorKind.CRASH.value:
                    report.kind = _LOST
                report.retry = retry and reason != ErrorKind.REJECTED.value
            elif kind is _SNOOZED:
                report.detail = arguments[0] / 1000
            else:
                report.detail = arguments[0]
            return make(*arguments)

        return made

    return OutcomeTypes(
        outcomes.success,
        noted(_FAILED, outcomes.failure),
        noted(_SNOOZED, outcomes.snoozed),
        noted(_ABORTED, outcomes.aborted),
    )
