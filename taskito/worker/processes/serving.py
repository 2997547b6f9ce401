"""The child's side: takes attempts from the pipe, one at a time, and runs them."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from taskito.backends.capabilities import Capabilities
from taskito.backends.params import JobInput, JobState
from taskito.context import JobContext
from taskito.worker.event_loop import ThreadLoop
from taskito.worker.processes import messages
from taskito.worker.processes.messages import ChildPipe, Message
from taskito.worker.runner import OutcomeTypes, Runner

__all__ = [
    "OUTCOMES",
    "PipeSink",
    "die_with_parent",
    "leave_signals_to_worker",
    "originals",
    "serve",
]

_PR_SET_PDEATHSIG = 1

OUTCOMES = OutcomeTypes(
    success=lambda result, serializer: [messages.SUCCESS, result, serializer],  # type: ignore[arg-type,return-value]
    failure=lambda error, kind, retry, delay: [messages.FAILURE, error, kind, retry, delay],  # type: ignore[arg-type,return-value]
    snoozed=lambda delay_ms: [messages.SNOOZED, delay_ms],  # type: ignore[arg-type,return-value]
    aborted=lambda reason: [messages.ABORTED, reason],  # type: ignore[arg-type,return-value]
)
"""Outcomes as messages, without the token of the run."""


class PipeRun:
    """One attempt as it came through the pipe; what the runner and ``current_job`` see of it."""

    def __init__(self, message: Message, pipe: ChildPipe) -> None:
        # As ``runner`` packs it.
        _, self.id, self.token, self.task, self.queue, self.payload, *rest = message
        self.serializer, self.metadata, self.attempt, self.max_retries, *rest = rest
        self.priority, self.timeout_ms, self.schedule, self.fire_ms, inputs = rest
        self.inputs = tuple(
            JobInput(
                id=job_id,
                state=JobState(state),
                serializer=serializer,
                result=result,
                error=error,
                reason=reason,
            )
            for job_id, state, serializer, result, error, reason in inputs
        )
        self._pipe = pipe

    def cancel_requested(self) -> bool:
        """Whether somebody asked for the cancellation of this job."""
        return self._pipe.cancelled(self.token)

    def abandoned(self) -> bool:
        """Return False: a child whose attempt is over is killed."""
        return False


class PipeSink:
    """Sends progress and log lines to the worker, which stores them.

    Args:
        pipe: The way to the worker.
        backend: The name of its store.
        supported: Whether that keeps progress and logs.
    """

    def __init__(self, pipe: ChildPipe, backend: str, *, supported: bool) -> None:
        self._pipe = pipe
        self._backend = backend
        self._capabilities = Capabilities(progress_log=supported)

    def set_progress(self, job_id: str, token: int, percent: int) -> bool:
        """Send the progress of a run."""
        del job_id
        self._pipe.send([messages.PROGRESS, token, percent])
        return True

    def append_log(self, job_id: str, token: int, level: str, message: str) -> bool:
        """Send a log line of a run."""
        del job_id
        self._require("storing a log line")
        self._pipe.send([messages.LOG, token, level, message])
        return True

    def flush_later(self, job: JobContext) -> None:
        """Send the progress now: the worker stores it a few times a second at most."""
        self._require("storing progress")
        job.flush()

    def _require(self, feature: str) -> None:
        self._capabilities.require("progress_log", feature, self._backend)


def originals(pipe: ChildPipe, job_id: str) -> Iterator[str]:
    """Ask the worker which jobs a job replays, nearest first; the child opens no store for it."""
    pipe.send([messages.ORIGINALS, job_id])
    answer = pipe.receive(messages.ORIGINALS)
    if answer is not None:
        yield from answer[1]


def leave_signals_to_worker() -> None:
    """Let no signal end this process: the worker decides what happens to a running attempt.

    Signals are caught, not ignored: what a task starts would inherit the latter. A crash says where
    it happened.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _left_to_the_worker)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        faulthandler.enable()


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, whatever its task is doing.

    The kernel means the thread that has started it, which the worker keeps for as long as the
    child. A template does without: it is always listening to its pipe.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(pipe: ChildPipe, runner: Runner) -> None:
    """Run attempts until the worker closes the pipe."""
    owner = os.getpid()
    loop = ThreadLoop()
    try:
        while (message := pipe.receive(messages.RUN)) is not None:
            run = PipeRun(message, pipe)
            outcome: Any = runner.run(run, loop)
            if os.getpid() != owner:
                # A fork that the task has made, and that returned from the task like its parent.
                os._exit(0)
            kind, *rest = outcome
            pipe.send([kind, run.token, *rest])
            # Nothing of it is kept while the child waits.
            del message, run, outcome, rest
    finally:
        if os.getpid() == owner:
            try:
                runner.end_thread(loop)
            finally:
                loop.close()
                runner.close()


def _left_to_the_worker(_number: int, _frame: object) -> None:
    pass
