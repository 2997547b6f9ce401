"""Runs attempts: from the payload to the outcome that the dispatcher stores."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias

from taskito.backends.params import ErrorKind
from taskito.batch import Batch, item_of
from taskito.canvas.shape import first_argument
from taskito.config import to_milliseconds
from taskito.context import JobContext, ProgressSink, activate
from taskito.errors import encode_error
from taskito.exceptions import (
    PayloadTooLargeError,
    Reject,
    Retry,
    SerializationError,
    Snooze,
    SoftTimeoutError,
    StorageError,
    TaskNotRegisteredError,
)
from taskito.middleware import Middleware
from taskito.resources import wire
from taskito.serializers.context import PayloadContext, PayloadKind
from taskito.task import Task
from taskito.worker.attempt import Attempt, ClaimedRun, Plan, plan_of
from taskito.worker.batching import Batcher
from taskito.worker.config import WorkerConfig
from taskito.worker.event_loop import ThreadLoop
from taskito.worker.progress import flush
from taskito.worker.resources import Resources, finish
from taskito.worker.soft_timeout import SoftTimeouts, with_soft_timeout

if TYPE_CHECKING:
    from taskito import _core

    Outcome: TypeAlias = _core.Success | _core.Failure | _core.Snoozed | _core.Aborted

__all__ = ["OutcomeTypes", "Runner"]

_logger = logging.getLogger("taskito.worker")

_UNRUNNABLE = "job %s: the attempt could not be run"


@dataclass(frozen=True, slots=True)
class OutcomeTypes:
    """The classes in which the dispatcher takes outcomes; those of ``taskito._core``, or a test's.

    Attributes:
        success: Takes the encoded result and the serializer's name.
        failure: Takes the stored error, the kind, whether to retry, and the delay in ms or None.
        snoozed: Takes the delay in ms.
        aborted: Takes the reason.
    """

    success: Callable[[bytes, str], Outcome]
    failure: Callable[[bytes, str, bool, int | None], Outcome]
    snoozed: Callable[[int], Outcome]
    aborted: Callable[[str], Outcome]


class Runner:
    """Runs attempts, in any number of threads and coroutines at a time.

    Whoever runs attempts says when a thread, an event loop and the worker end, so that resources
    can be torn down: ``end_thread``, ``end_loop`` and ``close``, in this order. Without resources
    they do nothing.

    Args:
        tasks: The tasks by name.
        config: The worker's settings.
        outcomes: The classes of the outcomes.
        sink: Where progress and log lines go.
        worker: The worker's id, kept with each error.
        middleware: Called around each attempt, in this order. That of a task comes last, but
            before ``FunctionHooks`` at the end.

    Raises:
        ConfigurationError: A task names a serializer that does not exist, or asks for a resource
            that it cannot have.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task[..., Any]],
        config: WorkerConfig,
        outcomes: OutcomeTypes,
        *,
        sink: ProgressSink,
        worker: str,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        recipes = wire(config.resources)
        self._plans = {
            name: plan_of(task, task.function, config, tuple(middleware))
            for name, task in tasks.items()
            if task.function is not None
        }
        self._config = config
        self._sink = sink
        self._worker = worker
        self._outcomes = outcomes
        self._soft_timeouts = SoftTimeouts()
        self._batchers: dict[str, Batcher] = {}
        asked = any(plan.requests for plan in self._plans.values())
        self._resources = Resources(recipes) if asked else None

    @property
    def has_resources(self) -> bool:
        """Whether any task asks for a resource, so that ending may take a moment."""
        return self._resources is not None

    def run(self, run: ClaimedRun, loop: ThreadLoop) -> Outcome:
        """Run one attempt; whatever its task does, it comes to an outcome.

        Args:
            run: The attempt.
            loop: The event loop of the calling thread.
        """
        # Each attempt has a context of its own, so that what a task sets does not reach the next.
        try:
            return contextvars.copy_context().run(self._run, run, loop)
        except BaseException as error:
            _logger.exception(_UNRUNNABLE, run.id)
            return self._failure(run, error)

    async def run_coroutine(self, run: ClaimedRun) -> Outcome:
        """Run one attempt of an ``async def`` task on the running event loop.

        Args:
            run: The attempt. The calling ``asyncio.Task`` must be there for it alone: it gets the
                attempt's context, and cancelling it cancels the attempt.
        """
        try:
            return await self._run_coroutine(run)
        except BaseException as error:
            _logger.exception(_UNRUNNABLE, run.id)
            return self._failure(run, error)

    def end_thread(self, loop: ThreadLoop) -> None:
        """Tear down what belongs to the calling thread, which takes no more attempts.

        Args:
            loop: The one that ``run`` was given in this thread; it is closed afterwards.
        """
        if self._resources is not None:
            self._resources.end_thread(loop)

    async def end_loop(self) -> None:
        """Tear down what belongs to the running event loop, which takes no more attempts."""
        if self._resources is not None:
            await self._resources.end_loop()

    def close(self) -> None:
        """Tear down what belongs to the worker, in whose threads no attempt runs any more.

        What an abandoned attempt still uses is torn down when that ends.
        """
        if self._resources is not None:
            self._resources.close()

    def _run(self, run: ClaimedRun, loop: ThreadLoop) -> Outcome:
        attempt = self._prepare(run)
        if not isinstance(attempt, Attempt):
            return attempt
        try:
            if attempt.holding is not None and attempt.plan.is_async:
                # Its resources live on the loop, and not only its body.
                outcome: Outcome = loop.run(self._perform_coroutine(attempt))
                return outcome
            return self._perform(attempt, loop)
        finally:
            flush(attempt.job, last=True)

    async def _run_coroutine(self, run: ClaimedRun) -> Outcome:
        attempt = self._prepare(run)
        if not isinstance(attempt, Attempt):
            return attempt
        outcome = await self._perform_coroutine(attempt)
        if attempt.job.has_progress():
            # The store may take its time, which is not the loop's. A cancellation comes too late.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(asyncio.to_thread(flush, attempt.job, last=True))
        else:
            attempt.job.close()
        return outcome

    def _perform(self, attempt: Attempt, loop: ThreadLoop) -> Outcome:
        holding = attempt.holding
        error: BaseException | None = None
        result, encoded, called = None, b"", False
        try:
            try:
                attempt.before()
                if holding is not None:
                    finish(attempt.pick_up(holding))
                result = self._call(attempt, loop)
                called = True
                # Before resources are given back: what cannot be encoded must not be committed.
                encoded = self._encode(attempt.plan, attempt.run, result)
            except BaseException as raised:  # noqa: BLE001 - sys.exit() ends the job, not the worker
                error = raised
            rejected = called and isinstance(error, SerializationError)
            if holding is not None:
                error = finish(attempt.let_go(holding, error))
            return self._conclude(attempt, result, encoded, error, rejected=rejected)
        finally:
            # The exception refers to this frame through its traceback, the frame to the exception.
            error = None

    async def _perform_coroutine(self, attempt: Attempt) -> Outcome:
        holding = attempt.holding
        error: BaseException | None = None
        result, encoded, called = None, b"", False
        try:
            try:
                attempt.before()
                if holding is not None:
                    await attempt.pick_up(holding)
                result = await self._await(attempt)
                called = True
                encoded = self._encode(attempt.plan, attempt.run, result)
            except BaseException as raised:  # noqa: BLE001 - as in _perform
                error = raised
            rejected = called and isinstance(error, SerializationError)
            if holding is not None:
                error = await attempt.let_go(holding, error)
            return self._conclude(attempt, result, encoded, error, rejected=rejected)
        finally:
            error = None

    def _prepare(self, run: ClaimedRun) -> Attempt | Outcome:
        """Decode the call and make the job the current one; or say why it cannot be run."""
        plan = self._plans.get(run.task)
        if plan is None:
            return self._failure(
                run, TaskNotRegisteredError(f"this worker does not know the task {run.task!r}")
            )
        try:
            args, kwargs = self._decode(run)
        except SerializationError as unreadable:
            return self._rejected(run, unreadable)
        job = JobContext(run, self._sink, self._config.decode_metadata)
        activate(job)
        middleware = [item for item in plan.middleware if item.active]
        # There are requests only if there are resources.
        holding = self._resources.hold() if plan.requests and self._resources else None
        return Attempt(run, plan, job, args, kwargs, middleware, holding)

    def _call(self, attempt: Attempt, loop: ThreadLoop) -> Any:
        """Call the task in this thread; a coroutine that it returns runs on this thread's loop."""
        seconds = attempt.plan.soft_timeout
        if seconds is None:
            result = attempt.call()
            return loop.run(result) if isinstance(result, CoroutineType) else result
        result = self._soft_timeouts.call(seconds, attempt.call)
        if isinstance(result, CoroutineType):
            return loop.run(with_soft_timeout(seconds, result))
        return result

    async def _await(self, attempt: Attempt) -> Any:
        if attempt.plan.batch is not None:
            item = item_of(attempt.plan.name, attempt.args, attempt.kwargs)
            return await self._batcher(attempt.plan, attempt.plan.batch).add(item)
        result = attempt.call()
        if not isinstance(result, CoroutineType):
            return await result if inspect.isawaitable(result) else result
        if attempt.plan.soft_timeout is not None:
            result = with_soft_timeout(attempt.plan.soft_timeout, result)
        return await result

    def _batcher(self, plan: Plan, batch: Batch) -> Batcher:
        """Return what collects the task's jobs; called on the one event loop only."""
        batcher = self._batchers.get(plan.name)
        if batcher is None:
            batcher = self._batchers[plan.name] = Batcher(
                plan.name,
                plan.function,
                batch,
                most=self._config.async_concurrency,
                soft_timeout=plan.soft_timeout,
                soft_timeouts=self._soft_timeouts,
            )
        return batcher

    def _conclude(
        self,
        attempt: Attempt,
        result: Any,
        encoded: bytes,
        error: BaseException | None,
        *,
        rejected: bool,
    ) -> Outcome:
        """Turn what came of the call into an outcome, and let middleware see it."""
        try:
            attempt.after(result if error is None else None, error, rejected=rejected)
            if error is None:
                return self._outcomes.success(encoded, attempt.plan.serializer.name)
            if rejected:
                return self._rejected(attempt.run, error)
            return self._outcome_of(attempt, error)
        finally:
            error = None

    def _outcome_of(self, attempt: Attempt, error: BaseException) -> Outcome:
        run = attempt.run
        if isinstance(error, Snooze):
            return self._outcomes.snoozed(to_milliseconds(error.seconds))
        if attempt.was_cancelled(error):
            return self._outcomes.aborted(str(error) or "cancelled while running")
        if isinstance(error, Reject):
            return self._rejected(run, error)
        if isinstance(error, Retry):
            delay_ms = None if error.delay is None else to_milliseconds(error.delay)
            return self._failure(run, error, delay_ms=delay_ms)
        kind = ErrorKind.TIMEOUT if isinstance(error, SoftTimeoutError) else ErrorKind.FAILURE
        return self._failure(run, error, kind=kind, retry=attempt.retries(error))

    def _failure(
        self,
        run: ClaimedRun,
        error: BaseException,
        *,
        kind: ErrorKind = ErrorKind.FAILURE,
        retry: bool = True,
        delay_ms: int | None = None,
    ) -> Outcome:
        stored = encode_error(error, kind=kind, run=run.token, worker=self._worker)
        return self._outcomes.failure(stored, kind.value, retry, delay_ms)

    def _rejected(self, run: ClaimedRun, error: BaseException) -> Outcome:
        stored = encode_error(error, kind=ErrorKind.REJECTED, run=run.token, worker=self._worker)
        return self._outcomes.failure(stored, ErrorKind.REJECTED.value, False, None)

    def _decode(self, run: ClaimedRun) -> tuple[Sequence[Any], dict[str, Any]]:
        name = run.serializer
        serializer = self._config.serializers.get(name)
        if serializer is None:
            raise SerializationError(
                f"the payload of job {run.id} was encoded by serializer {name!r}, and this worker "
                f"accepts only {', '.join(sorted(self._config.serializers))}; add it to the "
                "queue's accept= if you trust whoever enqueues"
            )
        try:
            if serializer.contextual:
                context = PayloadContext(
                    kind=PayloadKind.CALL,
                    task=run.task,
                    job=run.id,
                    origins=self._config.originals(run.id),
                )
                call = serializer.loads_in(run.payload, context)
            else:
                call = serializer.loads(run.payload)
        except StorageError:
            raise  # The store could not be asked; that says nothing about the payload.
        except Exception as error:
            raise SerializationError(
                f"the payload of job {run.id} cannot be read by serializer {name!r}: {error}"
            ) from error
        match call:
            case [list() | tuple() as args, dict() as kwargs, *shape] if (
                all(isinstance(key, str) for key in kwargs) and len(shape) <= 1
            ):
                if shape:
                    args = [first_argument(shape[0], run.inputs, self._config.serializers), *args]
                return args, kwargs
        raise SerializationError(
            f"the payload of job {run.id} is not a call: a list of arguments and a map of keyword "
            f"arguments were expected, and serializer {name!r} gave {type(call).__name__}"
        )

    def _encode(self, plan: Plan, run: ClaimedRun, result: Any) -> bytes:
        name = plan.serializer.name
        try:
            if plan.serializer.contextual:
                context = PayloadContext(
                    kind=PayloadKind.RESULT, task=run.task, job=run.id, run=run.token
                )
                encoded = plan.serializer.dumps_in(result, context)
            else:
                encoded = plan.serializer.dumps(result)
        except Exception as error:
            raise SerializationError(
                f"the result of task {plan.name!r} (a {type(result).__name__}) cannot be encoded "
                f"by serializer {name!r}: {error}"
            ) from error
        limit = self._config.max_result_bytes
        if len(encoded) > limit:
            raise PayloadTooLargeError(
                f"the result of task {plan.name!r} takes {len(encoded)} bytes, max_payload_bytes "
                f"is {limit}; store the data elsewhere and return a reference to it"
            )
        return encoded
