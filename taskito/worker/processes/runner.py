"""One attempt in a child process, from its payload to the outcome that the dispatcher stores."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from taskito.backends.params import ErrorKind
from taskito.context import JobContext
from taskito.errors import encode_error, encode_text
from taskito.exceptions import BackendError, TaskNotRegisteredError
from taskito.worker.observed import ObservedRunner
from taskito.worker.processes import logs, messages
from taskito.worker.processes.child import ChildProcess, describe_status
from taskito.worker.processes.messages import Message
from taskito.worker.progress import flush
from taskito.worker.runner import Runner

if TYPE_CHECKING:
    from taskito.worker.attempt import ClaimedRun
    from taskito.worker.runner import Outcome

__all__ = ["CANCEL_GRACE", "ObservedProcessRunner", "ProcessRunner"]

CANCEL_GRACE = 1.0
"""Seconds that a task gets to end by itself after its cancellation was asked for."""

_LOOK = 0.05
_SHORTEST_LOOK = 0.005

_logger = logging.getLogger("taskito.worker")


class ProcessRunner(Runner):
    """Has attempts run by child processes; decodes and calls nothing itself."""

    def _run(self, run: ClaimedRun, child: ChildProcess) -> Outcome | None:  # type: ignore[override]
        if run.task not in self._plans:
            return self._failure(
                run, TaskNotRegisteredError(f"this worker does not know the task {run.task!r}")
            )
        job = JobContext(run, self._sink, self._config.decode_metadata)
        try:
            return self._watch(run, child, job)
        finally:
            flush(job, last=True)

    def _watch(self, run: ClaimedRun, child: ChildProcess, job: JobContext) -> Outcome | None:
        started = time.monotonic()
        ends_at = started + run.timeout_ms / 1000 if run.timeout_ms else None
        limit = self._config.max_memory_per_child
        cancelled_at: float | None = None
        child.attempts += 1
        child.send(_call(run))
        while True:
            outcome: Message | None = None
            for message in child.exchange(_until(ends_at)):
                if message[0] in messages.OUTCOMES and message[1] == run.token:
                    outcome = message
                else:
                    self._heed(message, run, child, job)
            if outcome is not None:
                return self._outcome(outcome)
            if run.abandoned():
                child.kill()
                _logger.info(
                    "killed child process %d: the attempt of job %s (%s) was over",
                    *(child.pid, run.id, run.task),
                )
                return None
            if child.broken:
                return self._crash(run, child)
            if cancelled_at is None:
                if run.cancel_requested():
                    cancelled_at = time.monotonic()
                    child.send([messages.CANCEL, run.token])
            elif time.monotonic() - cancelled_at >= CANCEL_GRACE:
                child.kill()
                return self._outcomes.aborted(
                    "cancelled by request while running; its process was killed, since the task "
                    f"did not end within {CANCEL_GRACE:g} s"
                )
            if limit is not None and (used := child.memory()) > limit:
                child.kill()
                return self._too_large(run, child, used, limit)

    def _heed(
        self, message: Message, run: ClaimedRun, child: ChildProcess, job: JobContext
    ) -> None:
        """Do what a child asks for while it runs an attempt."""
        match message:
            case [messages.PROGRESS, token, percent] if token == run.token:
                job.update_progress(percent)
            case [messages.LOG, token, level, line] if token == run.token:
                try:
                    self._sink.append_log(run.id, run.token, level, line)
                except BackendError as error:
                    _logger.warning("a log line of job %s could not be stored: %s", run.id, error)
            case [messages.ORIGINALS, job_id]:
                originals = list(self._config.originals(job_id))
                child.send([messages.ORIGINALS, originals])
            case [messages.RECORD, record]:
                logs.handle(record)

    def _outcome(self, message: Message) -> Outcome:
        match message:
            case [messages.SUCCESS, _, result, serializer]:
                return self._outcomes.success(result, serializer)
            case [messages.FAILURE, _, error, kind, retry, delay_ms]:
                return self._outcomes.failure(error, kind, retry, delay_ms)
            case [messages.SNOOZED, _, delay_ms]:
                return self._outcomes.snoozed(delay_ms)
            case [messages.ABORTED, _, reason]:
                return self._outcomes.aborted(reason)
        raise ValueError(f"a child process sent {message!r}")

    def _crash(self, run: ClaimedRun, child: ChildProcess) -> Outcome:
        ended = child.end_soon()
        how = describe_status(child.status) if ended else "closed its connection to the worker"
        text = f"child process {child.pid} {how}"
        _logger.error("job %s (%s): %s", run.id, run.task, text)
        return self._outcomes.failure(encode_text(text), ErrorKind.CRASH.value, True, 0)

    def _too_large(self, run: ClaimedRun, child: ChildProcess, used: int, limit: int) -> Outcome:
        error = MemoryError(
            f"child process {child.pid} used {used >> 20} MiB of memory, max_memory_per_child "
            f"is {limit >> 20} MiB, and was killed"
        )
        _logger.error("job %s (%s): %s", run.id, run.task, error)
        stored = encode_error(error, run=run.token, worker=self._worker)
        retry = self._plans[run.task].may_retry(error)
        return self._outcomes.failure(stored, ErrorKind.FAILURE.value, retry, None)


class ObservedProcessRunner(ObservedRunner, ProcessRunner):
    """The same, with plugins told of each attempt."""


def _until(ends_at: float | None) -> float:
    """Return how long to wait for a message: until the next look, or the end of the job's time."""
    if ends_at is None:
        return _LOOK
    # The dispatcher says when the time is over, a moment later.
    return min(_LOOK, max(_SHORTEST_LOOK, ends_at - time.monotonic()))


def _call(run: Any) -> Message:
    inputs = [
        [item.id, item.state.value, item.serializer, item.result, item.error, item.reason]
        for item in run.inputs
    ]
    return [
        messages.RUN,
        *(run.id, run.token, run.task, run.queue, run.payload, run.serializer, run.metadata),
        *(run.attempt, run.max_retries, run.priority, run.timeout_ms, run.schedule, run.fire_ms),
        inputs,
    ]
