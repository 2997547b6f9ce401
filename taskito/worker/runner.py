"""One attempt: from its payload to the outcome that the dispatcher stores."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from taskito.backends.params import ErrorKind, JobInput
from taskito.batch import Batch, call_with_one, item_of
from taskito.canvas.shape import first_argument
from taskito.config import to_milliseconds
from taskito.context import JobContext, JobRun, ProgressSink, activate, current_job
from taskito.errors import encode_error
from taskito.exceptions import (
    ConfigurationError,
    JobCancelledError,
    PayloadTooLargeError,
    Reject,
    Retry,
    SerializationError,
    Snooze,
    SoftTimeoutError,
    StorageError,
    TaskNotRegisteredError,
)
from taskito.middleware import FunctionHooks, Middleware
from taskito.plugins.serializers import get_serializer
from taskito.resources import Request, check_requests, requests_of, wire
from taskito.serializers.base import Serializer
from taskito.serializers.context import PayloadContext, PayloadKind
from taskito.task import Task
from taskito.worker.batching import Batcher
from taskito.worker.config import WorkerConfig
from taskito.worker.event_loop import ThreadLoop
from taskito.worker.progress import flush
from taskito.worker.resources import Holding, Resources, finish
from taskito.worker.soft_timeout import SoftTimeouts, with_soft_timeout

if TYPE_CHECKING:
    from taskito import _core

    Outcome: TypeAlias = _core.Success | _core.Failure | _core.Snoozed | _core.Aborted

__all__ = ["OutcomeTypes", "Runner"]

_logger = logging.getLogger("taskito.worker")

_UNRUNNABLE = "job %s: the attempt could not be run"


class ClaimedRun(JobRun, Protocol):
    """One attempt together with its encoded call; ``taskito._core.Run`` is one."""

    @property
    def payload(self) -> bytes:
        """The encoded arguments."""

    @property
    def serializer(self) -> str:
        """The name of the serializer that encoded them."""

    @property
    def max_retries(self) -> int:
        """Failures and timeouts allowed beyond the first."""

    @property
    def inputs(self) -> Sequence[JobInput]:
        """How the steps before it ended, of which it takes the results."""


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


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the runner needs of a task, looked up once."""

    name: str
    function: Callable[..., Any]
    bind: bool
    serializer: Serializer
    soft_timeout: float | None
    batch: Batch | None
    retry_on: tuple[type[BaseException] | str, ...] | None
    dont_retry_on: tuple[type[BaseException] | str, ...] | None
    middleware: tuple[Middleware, ...]
    requests: tuple[Request, ...]
    is_async: bool

    def may_retry(self, error: BaseException) -> bool:
        """Return whether the task's filters let this error be retried."""
        if self.dont_retry_on and _is_one_of(error, self.dont_retry_on):
            return False
        return self.retry_on is None or _is_one_of(error, self.retry_on)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt that is ready to be called."""

    run: ClaimedRun
    plan: _Plan
    job: JobContext
    args: Sequence[Any]
    kwargs: dict[str, Any]
    middleware: list[Middleware]
    holding: Holding | None

    def before(self) -> None:
        for item in self.middleware:
            item.before(self.job, self.args, self.kwargs)

    async def pick_up(self, holding: Holding) -> None:
        """Get the resources that the caller has not passed."""
        passed = len(self.args) + self.plan.bind
        await holding.take(
            request
            for request in self.plan.requests
            if request.parameter not in self.kwargs
            and (request.position is None or request.position >= passed)
        )

    async def let_go(self, holding: Holding, error: BaseException | None) -> BaseException | None:
        """Give the resources back and return why the attempt has failed in the end, if it has."""
        try:
            if error is None and self.run.abandoned():
                # Its result will be refused, so its transactions must not be committed.
                error = JobCancelledError("the attempt was given up before it ended")
            return await holding.end(error)
        finally:
            error = None

    def call(self) -> Any:
        if self.plan.batch is not None:
            item = item_of(self.plan.name, self.args, self.kwargs)
            return call_with_one(self.plan.name, self.plan.function, item)
        args = (current_job, *self.args) if self.plan.bind else self.args
        kwargs = self.kwargs
        if self.holding is not None:
            kwargs = {**kwargs, **self.holding.arguments}
        try:
            return self.plan.function(*args, **kwargs)
        except TypeError as error:
            # Only an exception of the call itself has no frame below this one.
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                _check_signature(self.plan, args, kwargs)
            raise

    def after(self, result: Any, error: BaseException | None, *, rejected: bool) -> None:
        if not self.middleware:
            return
        calls: list[tuple[str, tuple[Any, ...]]] = []
        if error is not None and not self.was_cut_short(error):
            calls.append(("on_error", (error,)))
            if not rejected and self.run.attempt < self.run.max_retries and self.retries(error):
                calls.append(("on_retry", (error,)))
        calls.append(("after", (result, error)))
        for item in self.middleware:
            for method, outcome in calls:
                try:
                    getattr(item, method)(self.job, self.args, self.kwargs, *outcome)
                except BaseException:
                    _logger.exception(
                        "%s.%s failed for job %s of task %r; the outcome of the job stays as it is",
                        type(item).__name__,
                        method,
                        self.job.id,
                        self.job.task_name,
                    )

    def was_cut_short(self, error: BaseException) -> bool:
        """Return whether the attempt has neither succeeded nor failed."""
        return isinstance(error, Snooze) or self.was_cancelled(error)

    def was_cancelled(self, error: BaseException) -> bool:
        return isinstance(error, JobCancelledError) or (
            isinstance(error, asyncio.CancelledError) and self.run.cancel_requested()
        )

    def retries(self, error: BaseException) -> bool:
        """Return whether another attempt may follow, as far as this error decides."""
        if isinstance(error, Reject):
            return False
        return isinstance(error, Retry) or self.plan.may_retry(error)


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
            name: _plan(task, task.function, config, tuple(middleware))
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
        if not isinstance(attempt, _Attempt):
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
        if not isinstance(attempt, _Attempt):
            return attempt
        outcome = await self._perform_coroutine(attempt)
        if attempt.job.has_progress():
            # The store may take its time, which is not the loop's. A cancellation comes too late.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(asyncio.to_thread(flush, attempt.job, last=True))
        else:
            attempt.job.close()
        return outcome

    def _perform(self, attempt: _Attempt, loop: ThreadLoop) -> Outcome:
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

    async def _perform_coroutine(self, attempt: _Attempt) -> Outcome:
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

    def _prepare(self, run: ClaimedRun) -> _Attempt | Outcome:
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
        return _Attempt(run, plan, job, args, kwargs, middleware, holding)

    def _call(self, attempt: _Attempt, loop: ThreadLoop) -> Any:
        """Call the task in this thread; a coroutine that it returns runs on this thread's loop."""
        seconds = attempt.plan.soft_timeout
        if seconds is None:
            result = attempt.call()
            return loop.run(result) if isinstance(result, CoroutineType) else result
        result = self._soft_timeouts.call(seconds, attempt.call)
        if isinstance(result, CoroutineType):
            return loop.run(with_soft_timeout(seconds, result))
        return result

    async def _await(self, attempt: _Attempt) -> Any:
        if attempt.plan.batch is not None:
            item = item_of(attempt.plan.name, attempt.args, attempt.kwargs)
            return await self._batcher(attempt.plan, attempt.plan.batch).add(item)
        result = attempt.call()
        if not isinstance(result, CoroutineType):
            return await result if inspect.isawaitable(result) else result
        if attempt.plan.soft_timeout is not None:
            result = with_soft_timeout(attempt.plan.soft_timeout, result)
        return await result

    def _batcher(self, plan: _Plan, batch: Batch) -> Batcher:
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
        attempt: _Attempt,
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

    def _outcome_of(self, attempt: _Attempt, error: BaseException) -> Outcome:
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

    def _encode(self, plan: _Plan, run: ClaimedRun, result: Any) -> bytes:
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


def _plan(
    task: Task[..., Any],
    function: Callable[..., Any],
    config: WorkerConfig,
    middleware: tuple[Middleware, ...],
) -> _Plan:
    options = task.options
    if options.middleware:
        hooks = len(middleware)
        while hooks and isinstance(middleware[hooks - 1], FunctionHooks):
            hooks -= 1
        middleware = (*middleware[:hooks], *options.middleware, *middleware[hooks:])
    owner = f"task {task.name!r}"
    requests = requests_of(function, owner)
    check_requests(requests, config.resources, owner, task.is_async)
    if requests and options.batch is not None:
        raise ConfigurationError(
            f"{owner}: parameter {requests[0].parameter!r} asks for a resource, which a task with "
            "batch= cannot do: each of its calls is for many attempts. Use a module's own object"
        )
    serializer = config.serializer
    if isinstance(options.serializer, Serializer):
        serializer = options.serializer
    elif options.serializer is not None:
        known = config.serializers.get(options.serializer)
        serializer = get_serializer(options.serializer) if known is None else known
    return _Plan(
        name=task.name,
        function=function,
        bind=options.bind,
        serializer=serializer,
        soft_timeout=options.soft_timeout,
        batch=options.batch,
        retry_on=options.retry_on,
        dont_retry_on=options.dont_retry_on,
        middleware=middleware,
        requests=requests,
        is_async=task.is_async,
    )


def _is_one_of(error: BaseException, kinds: tuple[type[BaseException] | str, ...]) -> bool:
    """Return whether an error is of a class, or of a subclass, that is given itself or by name."""
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return any(
        kind in names if isinstance(kind, str) else isinstance(error, kind) for kind in kinds
    )


def _check_signature(plan: _Plan, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raise ``Reject`` if the arguments do not fit: no repetition can change that."""
    try:
        signature = inspect.signature(plan.function)
    except (TypeError, ValueError):
        return  # Some functions written in C do not have one.
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        injected = {request.parameter for request in plan.requests}
        expected = [item for item in signature.parameters.values() if item.name not in injected]
        signature = signature.replace(parameters=expected)
        raise Reject(
            f"the arguments do not fit task {plan.name!r}, whose signature is {signature}: {error}"
        ) from None
