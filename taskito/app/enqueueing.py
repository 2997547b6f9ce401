"""The way of a call into the store: options checked, arguments encoded, one atom per batch."""

from __future__ import annotations

import difflib
import hashlib
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from taskito import config
from taskito.backends.ids import MAX_SEQUENCE, new_job_id
from taskito.backends.params import Enqueued, NewJob
from taskito.canvas.plan import Step
from taskito.connection import Connection
from taskito.exceptions import (
    ConfigurationError,
    JobNotFoundError,
    TaskitoError,
    TaskNotRegisteredError,
)
from taskito.plugins.events import JobEnqueued
from taskito.plugins.observing import Publisher
from taskito.result import JobResult
from taskito.serializers.base import Serializer
from taskito.task import Task, TaskOptions

__all__ = ["Defaults", "Enqueueing"]

_MAX_SUGGESTIONS = 3
_NO_OPTIONS: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds for every task of a queue that does not say otherwise; durations are seconds."""

    max_retries: int
    timeout: float
    priority: int
    result_ttl: float | None


@dataclass(frozen=True, slots=True)
class _Template:
    """What is the same for every call of a task."""

    serializer: Serializer
    fields: Mapping[str, Any]
    derives_key: bool
    concurrency_key: str | Callable[..., str | None] | None


class Enqueueing:
    """The part of ``Queue`` that enqueues."""

    _connection: Connection
    _events: Publisher | None
    _defaults: Defaults
    _tasks: dict[str, Task[..., Any]]
    _templates: dict[str, _Template]

    def enqueue(  # noqa: PLR0917 - the order is part of the public API
        self,
        task_name: str | Task[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        priority: int | None = None,
        delay: float | None = None,
        queue: str | None = None,
        max_retries: int | None = None,
        timeout: float | None = None,
        unique_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        depends_on: str | JobResult[Any] | Iterable[str | JobResult[Any]] | None = None,
        *,
        eta: datetime | None = None,
        expires: float | datetime | None = None,
        result_ttl: float | None = None,
        idempotency_key: str | None = None,
    ) -> JobResult[Any]:
        """Store one call of a task; a worker runs it.

        Every option that is None follows the task, and then the queue.

        Args:
            task_name: A task of this queue, by its name or itself.
            args: Positional arguments, a list or a tuple.
            kwargs: Keyword arguments.
            priority: -128 to 127, higher first.
            delay: Seconds to wait, counted from now or from the end of the last dependency.
            queue: The queue to put it in.
            max_retries: Failures and timeouts allowed beyond the first.
            timeout: Longest run of an attempt in seconds; 0 means no limit.
            unique_key: While a pending or running job holds this key, that job is returned.
            metadata: Values to keep with the job, by text; not seen by the task's function.
            depends_on: Jobs that have to complete first: ids or ``JobResult`` objects.
            eta: The instant before which it does not start, an aware datetime; excludes ``delay``.
            expires: Cancelled unless started by then: seconds from now, or an aware datetime.
            result_ttl: Seconds for which the finished job is kept.
            idempotency_key: Like ``unique_key``, but held until the job is purged.

        Returns:
            The job, new or holding the key. When this returns, the job is stored.

        Raises:
            TaskNotRegisteredError: There is no such task; names the closest ones.
            ConfigurationError: A value is not allowed, or a dependency does not exist.
            SerializationError: An argument cannot be encoded, or all of them are too large.
            CapabilityError: The backend lacks what an option needs.
            StorageError: The job could not be stored. In every case nothing was stored.

        Example:
            >>> job = queue.enqueue("shop.tasks.send_invoice", (42,), delay=60)
        """
        return self.submit(
            self._task(task_name),
            args,
            kwargs,
            {
                "priority": priority,
                "delay": delay,
                "queue": queue,
                "max_retries": max_retries,
                "timeout": timeout,
                "unique_key": unique_key,
                "metadata": metadata,
                "depends_on": depends_on,
                "eta": eta,
                "expires": expires,
                "result_ttl": result_ttl,
                "idempotency_key": idempotency_key,
            },
        )

    def enqueue_many(  # noqa: PLR0917 - as above
        self,
        task_name: str | Task[..., Any],
        args_list: Iterable[Sequence[Any]],
        kwargs_list: Iterable[Mapping[str, Any] | None] | None = None,
        priority: int | None = None,
        queue: str | None = None,
        max_retries: int | None = None,
        timeout: float | None = None,
        *,
        delay: float | None = None,
        delay_list: Iterable[float | None] | None = None,
        unique_keys: Iterable[str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
        metadata_list: Iterable[Mapping[str, Any] | None] | None = None,
    ) -> list[JobResult[Any]]:
        """Store many calls of one task in one atom: all of them, or none and an error.

        Args:
            task_name: A task of this queue, by its name or itself.
            args_list: The positional arguments of each call.
            kwargs_list: The keyword arguments of each call; as long as ``args_list``.
            priority: As in ``enqueue``, for each call.
            queue: As in ``enqueue``, for each call.
            max_retries: As in ``enqueue``, for each call.
            timeout: As in ``enqueue``, for each call.
            delay: Seconds to wait, for each call.
            delay_list: The delay of each call; excludes ``delay``.
            unique_keys: The unique key of each call, or None. An item whose key is held, also by an
                earlier item, yields the job that holds it.
            metadata: For each call.
            metadata_list: The metadata of each call; excludes ``metadata``.

        Returns:
            One job per call, in order.

        Raises:
            TaskitoError: As in ``enqueue``; the message names the item. Nothing was stored.

        Example:
            >>> jobs = queue.enqueue_many("shop.tasks.add", [(1, 2), (3, 4)])
        """
        task = self._task(task_name)
        if delay is not None and delay_list is not None:
            raise ConfigurationError("delay: give it or delay_list, not both")
        if metadata is not None and metadata_list is not None:
            raise ConfigurationError("metadata: give it or metadata_list, not both")
        calls = _listed("args_list", args_list)
        columns = {
            name: _listed(name, values)
            for name, values in {
                "kwargs_list": kwargs_list,
                "delay_list": delay_list,
                "unique_keys": unique_keys,
                "metadata_list": metadata_list,
            }.items()
            if values is not None
        }
        for name, values in columns.items():
            if len(values) != len(calls):
                raise ConfigurationError(
                    f"{name}: it has {len(values)} items, args_list has {len(calls)}; give one for "
                    f"each call"
                )
        common = {
            "priority": priority,
            "queue": queue,
            "max_retries": max_retries,
            "timeout": timeout,
            "delay": delay,
            "metadata": metadata,
        }
        return self._store(self._new_jobs(task, calls, columns, common))

    # What tasks and the asynchronous twins call ---------------------------------------------------

    def submit(
        self, task: Task[..., Any], args: Any, kwargs: Any, options: Mapping[str, Any]
    ) -> JobResult[Any]:
        """Store one call; ``options`` are those of ``enqueue``. Used by ``Task``."""
        checked_args = config.check_arguments("args", args)
        checked_kwargs = config.check_keywords("kwargs", kwargs)
        return self._store([self._new_job(task, checked_args, checked_kwargs, options)])[0]

    def submit_many(self, task: Task[..., Any], calls: Iterable[Any]) -> list[JobResult[Any]]:
        """Store many calls in one atom. Used by ``Task.map``."""
        return self._store(self._new_jobs(task, _listed("calls", calls), {}, _NO_OPTIONS))

    async def asubmit(
        self, task: Task[..., Any], args: Any, kwargs: Any, options: Mapping[str, Any]
    ) -> JobResult[Any]:
        """Store one call without blocking the event loop. Used by ``Task``."""
        return await self._connection.run(self.submit, task, args, kwargs, options)

    # From a call to a job -------------------------------------------------------------------------

    def _task(self, task_name: str | Task[..., Any]) -> Task[..., Any]:
        if isinstance(task_name, Task):
            if self._tasks.get(task_name.name) is task_name:
                return task_name
            raise TaskNotRegisteredError(f"task_name: {task_name!r} is not a task of this queue")
        name = config.check_name("task_name", task_name)
        if name in self._tasks:
            return self._tasks[name]
        close = difflib.get_close_matches(name, self._tasks, _MAX_SUGGESTIONS)
        advice = (
            "did you mean " + " or ".join(repr(candidate) for candidate in close) + "?"
            if close
            else "register it with @queue.task() or declare it with queue.remote_task(name)"
        )
        raise TaskNotRegisteredError(f"task_name: this queue has no task {name!r}; {advice}")

    def _new_jobs(
        self,
        task: Task[..., Any],
        calls: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],
        common: Mapping[str, Any],
    ) -> list[NewJob]:
        nothing = (None,) * len(calls)
        keywords = columns.get("kwargs_list", nothing)
        per_item = {
            option: columns[name]
            for option, name in (
                ("delay", "delay_list"),
                ("unique_key", "unique_keys"),
                ("metadata", "metadata_list"),
            )
            if name in columns
        }
        jobs = []
        for index, (args, kwargs) in enumerate(zip(calls, keywords, strict=True)):
            checked_args = config.check_arguments(f"args_list[{index}]", args)
            checked_kwargs = config.check_keywords(f"kwargs_list[{index}]", kwargs)
            options = common
            if per_item:
                options = {**common, **{name: items[index] for name, items in per_item.items()}}
            try:
                jobs.append(self._new_job(task, checked_args, checked_kwargs, options))
            except TaskitoError as error:
                error.args = (f"item {index} of the batch: {error}", *error.args[1:])
                raise
        return jobs

    def _new_job(
        self,
        task: Task[..., Any],
        args: list[Any],
        kwargs: dict[str, Any],
        options: Mapping[str, Any],
    ) -> NewJob:
        template = self._template(task)
        fields = dict(template.fields)
        if options:
            fields.update(self._checked(options))
        payload = self._encode(template.serializer, task.name, args, kwargs, fields)
        if template.derives_key and fields.get("unique_key") is None:
            fields["unique_key"] = _call_key(template.serializer, task.name, args, kwargs, payload)
        if template.concurrency_key is not None:
            fields["concurrency_key"] = _concurrency_key(template.concurrency_key, args, kwargs)
        return NewJob(payload=payload, **fields)

    def _new_step(self, step: Step, workflow: str) -> NewJob:
        """Make the job of one step of a workflow."""
        signature = step.signature
        task = self._task(signature.task)
        args = config.check_arguments("args", signature.args)
        kwargs = config.check_keywords("kwargs", signature.kwargs)
        if step.takes_input:
            job = self._new_input_step(task, args, kwargs, step)
        else:
            job = self._new_job(task, args, kwargs, signature.options)
        depends_on = (*step.depends_on, *job.depends_on)
        return replace(job, depends_on=depends_on, workflow=workflow)

    def _new_input_step(
        self, task: Task[..., Any], args: list[Any], kwargs: dict[str, Any], step: Step
    ) -> NewJob:
        """Make a job whose first argument is not known yet, nor what is derived from arguments."""
        template = self._template(task)
        fields = dict(template.fields) | self._checked(step.signature.options)
        if callable(template.concurrency_key):
            raise ConfigurationError(
                f"concurrency_key: that of task {task.name!r} is a function of its arguments, and "
                f"the first one is the result of the step before, which is not known yet; use "
                f".si(), or a text as concurrency_key"
            )
        payload = self._encode(
            template.serializer, task.name, args, kwargs, fields, shape=[step.shape]
        )
        return NewJob(payload=payload, concurrency_key=template.concurrency_key, **fields)

    def _encode(
        self,
        serializer: Serializer,
        task: str,
        args: list[Any],
        kwargs: dict[str, Any],
        fields: dict[str, Any],
        *,
        shape: Sequence[Any] = (),
    ) -> bytes:
        """Encode a call; what is bound to its job gets an id before the store has seen it."""
        if serializer.authenticates:
            fields["id"] = new_job_id(time.time_ns() // 1_000_000, random.randint(0, MAX_SEQUENCE))
        return self._connection.codec.encode_call(
            serializer, task, args, kwargs, job=fields.get("id"), shape=shape
        )

    def _template(self, task: Task[..., Any]) -> _Template:
        template = self._templates.get(task.name)
        if template is None:
            template = self._make_template(task)
            self._templates[task.name] = template
        return template

    def _make_template(self, task: Task[..., Any]) -> _Template:
        options: TaskOptions = task.options
        codec = self._connection.codec
        serializer = codec.serializer
        if options.serializer is not None:
            serializer = codec.accepted_serializer(options.serializer)
        if serializer.authenticates:
            self._connection.require("given_ids", f"serializer {serializer.name!r}")
        if task.function is not None:
            serializer.learn_task(task.name, task.function, skip=int(options.bind))
        timeout = self._defaults.timeout if options.timeout is None else options.timeout
        ttl = self._defaults.result_ttl if options.result_ttl is None else options.result_ttl
        fields: dict[str, Any] = {
            "task": task.name,
            "queue": options.queue,
            "serializer": serializer.name,
            "priority": self._defaults.priority if options.priority is None else options.priority,
            "max_retries": (
                self._defaults.max_retries if options.max_retries is None else options.max_retries
            ),
            "max_crashes": options.max_crashes,
            "timeout_ms": config.to_milliseconds(timeout),
        }
        if ttl is not None:
            fields["result_ttl_ms"] = config.to_milliseconds(ttl)
        if options.unique == "until_start":
            fields["unique_until_start"] = True
        if options.expires is not None:
            fields["expires_in_ms"] = config.to_milliseconds(options.expires)
        derives_key = options.idempotent or options.unique is not None
        return _Template(serializer, fields, derives_key, options.concurrency_key)

    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a job that the given options of a call set."""
        given = {name: value for name, value in options.items() if value is not None}
        if "delay" in given and "eta" in given:
            raise ConfigurationError("delay: give it or eta, not both")
        fields: dict[str, Any] = {}
        for name, value in given.items():
            if name in _PLAIN_OPTIONS:
                fields[name] = _PLAIN_OPTIONS[name](name, value)
            elif name in _DURATIONS:
                fields[f"{name}_ms"] = config.to_milliseconds(config.check_seconds(name, value))
            elif name == "eta":
                fields["eta_ms"] = config.check_instant(name, value)
            elif name == "expires":
                relative, absolute = config.check_expiry(name, value)
                fields |= {"expires_in_ms": relative, "expires_at_ms": absolute}
            elif name == "metadata":
                fields[name] = self._connection.codec.encode_metadata(name, value)
            else:
                raise TypeError(f"{name!r} is not an option of a call")
        for name, capability in _NEEDED_CAPABILITIES.items():
            if fields.get(name):
                self._connection.require(capability, f"{name}=")
        return fields

    def _store(self, jobs: Sequence[NewJob]) -> list[JobResult[Any]]:
        if not jobs:
            return []
        if self._events is None:
            answers = self._stored(jobs)
        else:
            with self._events.enqueue():
                answers = self._stored(jobs)
                at_ms = time.time_ns() // 1_000_000
                for job, answer in zip(jobs, answers, strict=True):
                    if not answer.duplicate:
                        self._events.publish(JobEnqueued(at_ms, answer.id, job.task, job.queue))
        return [JobResult(self._connection, answer.id) for answer in answers]

    def _stored(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        try:
            return list(self._connection.backend.enqueue(jobs))
        except JobNotFoundError as error:
            raise ConfigurationError(str(error)) from error


def _listed(field: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ConfigurationError(f"{field}: {values!r} is not allowed; give a list, one per call")
    return list(values)


def _job_ids(field: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, JobResult)):
        return (config.check_job_id(field, value),)
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise ConfigurationError(
            f"{field}: {value!r} is not allowed; give a job's id, a JobResult or a list of them"
        )
    return tuple(
        dict.fromkeys(
            config.check_job_id(f"{field}[{index}]", item) for index, item in enumerate(value)
        )
    )


def _call_key(
    serializer: Serializer, task: str, args: list[Any], kwargs: dict[str, Any], payload: bytes
) -> str:
    """Return a key that two calls share exactly if task and arguments are the same."""
    if serializer.contextual:
        # Of each job the payload is another one.
        payload = serializer.digest([args, dict(sorted(kwargs.items()))])
    elif len(kwargs) > 1:
        # The order in which keyword arguments were written does not make another call.
        payload = serializer.dumps([args, dict(sorted(kwargs.items()))])
    digest = hashlib.sha256(payload)
    name = f"{serializer.name}\0{task}".encode()
    digest.update(name + len(name).to_bytes(4))
    return f"idempotent:{digest.hexdigest()}"


def _concurrency_key(
    key: str | Callable[..., str | None], args: list[Any], kwargs: dict[str, Any]
) -> str | None:
    value = key(*args, **kwargs) if callable(key) else key
    return None if value is None else config.check_key("concurrency_key", value)


_DURATIONS = {"timeout", "delay", "result_ttl"}

_PLAIN_OPTIONS: Mapping[str, Callable[[str, Any], Any]] = {
    "priority": config.check_priority,
    "max_retries": config.check_integer,
    "queue": config.check_name,
    "unique_key": config.check_key,
    "idempotency_key": config.check_key,
    "depends_on": _job_ids,
}

_NEEDED_CAPABILITIES = {
    "unique_key": "unique",
    "idempotency_key": "unique",
    "depends_on": "dependencies",
}
