"""What is to be run: a task as the runner needs it, and one attempt that is ready to be called."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from taskito.backends.params import JobInput
from taskito.batch import Batch, call_with_one, item_of
from taskito.context import JobContext, JobRun, current_job
from taskito.exceptions import ConfigurationError, JobCancelledError, Reject, Retry, Snooze
from taskito.middleware import FunctionHooks, Middleware
from taskito.plugins.serializers import get_serializer
from taskito.resources import Request, check_requests, requests_of
from taskito.serializers.base import Serializer
from taskito.task import Task
from taskito.worker.config import WorkerConfig
from taskito.worker.resources import Holding

__all__ = ["Attempt", "ClaimedRun", "Plan", "plan_of"]

_logger = logging.getLogger("taskito.worker")


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
class Plan:
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
class Attempt:
    """One attempt that is ready to be called."""

    run: ClaimedRun
    plan: Plan
    job: JobContext
    args: Sequence[Any]
    kwargs: dict[str, Any]
    middleware: list[Middleware]
    holding: Holding | None

    def before(self) -> None:
        """Call ``before`` of each middleware."""
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
        """Call the task; the arguments are checked if it refuses them."""
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
        """Call the other methods of each middleware; what they raise is logged."""
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
        """Return whether the error is the cancellation that was asked for."""
        return isinstance(error, JobCancelledError) or (
            isinstance(error, asyncio.CancelledError) and self.run.cancel_requested()
        )

    def retries(self, error: BaseException) -> bool:
        """Return whether another attempt may follow, as far as this error decides."""
        if isinstance(error, Reject):
            return False
        return isinstance(error, Retry) or self.plan.may_retry(error)


def plan_of(
    task: Task[..., Any],
    function: Callable[..., Any],
    config: WorkerConfig,
    middleware: tuple[Middleware, ...],
) -> Plan:
    """Look up once what running a task takes.

    Args:
        task: The task.
        function: Its function.
        config: The worker's settings.
        middleware: The worker's. The task's own follows it, but comes before ``FunctionHooks``.

    Raises:
        ConfigurationError: It names a serializer that does not exist, or asks for a resource that
            it cannot have.
    """
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
    return Plan(
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


def _check_signature(plan: Plan, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
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
