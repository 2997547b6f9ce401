"""Checks of what crosses the seam, for backends written in Python.

Each check raises ``ConfigurationError`` with a message that names the field and the value, so that
every backend refuses the same input with the same words. Call them before anything is changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from taskito.backends import params
from taskito.backends.base import BackendOptions
from taskito.backends.ids import parse_job_id
from taskito.exceptions import ConfigurationError
from taskito.schedule import Schedule

__all__ = [
    "check_exchange",
    "check_integer",
    "check_list",
    "check_lock_lease",
    "check_lock_request",
    "check_name",
    "check_new_jobs",
    "check_new_schedules",
    "check_options",
    "check_purge",
    "check_rate",
    "check_worker",
]

MAX_NAME_LENGTH = 255
MAX_KEY_BYTES = 1_024
MAX_LIST_LIMIT = 10_000
MAX_MILLISECONDS = (1 << 47) - 1
"""Longest duration and latest instant: a due time must fit beside the priority in one integer."""

MAX_LOCK_MS = 86_400_000
"""The longest time that a lock is held without an extension: a day."""

MAX_RATE = 1_000_000
MAX_PERIOD_MS = 366 * 24 * 60 * 60 * 1_000

_DURABILITIES = ("full", "normal", "off")
_CONDITIONS = frozenset(str(condition) for condition in params.Condition)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WORKER_ID = re.compile(r"[0-9a-f]{32}")


def check_name(field: str, value: object) -> None:
    """Refuse a name that is not a text of 1 to 255 characters without control characters."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{field}: {value!r} is not a string")
    if not 1 <= len(value) <= MAX_NAME_LENGTH:
        raise ConfigurationError(
            f"{field}: {value[:40]!r} has {len(value)} characters, not 1 to {MAX_NAME_LENGTH}"
        )
    if _CONTROL.search(value):
        raise ConfigurationError(f"{field}: {value!r} contains control characters")
    _byte_length(field, value)


def _check_key(field: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(f"{field}: {value!r} is not a string")
    if not 1 <= _byte_length(field, value) <= MAX_KEY_BYTES:
        raise ConfigurationError(
            f"{field}: {value[:40]!r} has {_byte_length(field, value)} bytes, "
            f"not 1 to {MAX_KEY_BYTES}"
        )


def _byte_length(field: str, value: str) -> int:
    """Return the length in UTF-8; refuse text that has no such form."""
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(f"{field}: {value[:40]!r} contains lone surrogates") from None


def check_integer(field: str, value: object, low: int, high: int = MAX_MILLISECONDS) -> None:
    """Refuse what is not an integer from ``low`` to ``high``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(f"{field}: {value!r} is not an integer")
    if not low <= value <= high:
        raise ConfigurationError(f"{field}: {value} is not between {low} and {high}")


def check_new_jobs(jobs: Sequence[params.NewJob]) -> None:
    """Refuse a batch with an item that no store could keep.

    Whether dependencies exist is not looked at.
    """
    for index, job in enumerate(jobs):
        check_new_job(f"item {index}: ", index, job)


def check_new_job(place: str, index: int, job: params.NewJob) -> None:
    """Refuse one item of a batch; ``place`` begins each message."""
    check_name(f"{place}task", job.task)
    check_name(f"{place}queue", job.queue)
    check_name(f"{place}serializer", job.serializer)
    check_integer(f"{place}priority", job.priority, params.MIN_PRIORITY, params.MAX_PRIORITY)
    for field in ("delay_ms", "max_retries", "max_crashes", "timeout_ms"):
        check_integer(f"{place}{field}", getattr(job, field), 0)
    for field in ("eta_ms", "expires_in_ms", "expires_at_ms", "result_ttl_ms"):
        value = getattr(job, field)
        if value is not None:
            check_integer(f"{place}{field}", value, 0)
    if job.eta_ms is not None and job.delay_ms:
        raise ConfigurationError(
            f"{place}eta_ms: {job.eta_ms} excludes delay_ms ({job.delay_ms}); give one of the two"
        )
    if job.expires_in_ms is not None and job.expires_at_ms is not None:
        raise ConfigurationError(
            f"{place}expires_at_ms: {job.expires_at_ms} excludes expires_in_ms "
            f"({job.expires_in_ms}); give one of the two"
        )
    for field in ("unique_key", "idempotency_key", "concurrency_key"):
        if getattr(job, field) is not None:
            _check_key(f"{place}{field}", getattr(job, field))
    if job.id is not None and parse_job_id(job.id) is None:
        raise ConfigurationError(f"{place}id: {job.id!r} is not a UUID")
    for dependency in job.depends_on:
        _check_dependency(f"{place}depends_on", index, dependency)
    if job.workflow is not None:
        check_name(f"{place}workflow", job.workflow)


def _check_dependency(field: str, index: int, dependency: str | int | params.Dependency) -> None:
    target = dependency
    if isinstance(dependency, params.Dependency):
        target = dependency.job
        if dependency.condition not in _CONDITIONS:
            raise ConfigurationError(
                f"{field}: condition: {dependency.condition!r} is not one of "
                f"{', '.join(params.Condition)}"
            )
    if isinstance(target, int) and not 0 <= target < index:
        raise ConfigurationError(f"{field}: {target} is not the index of an earlier item")


def check_new_schedules(schedules: Sequence[params.NewSchedule]) -> None:
    """Refuse schedules of which one could not be kept."""
    for index, one in enumerate(schedules):
        place = f"schedule {index}: "
        check_name(f"{place}name", one.name)
        for field, kind in (("catch_up", params.CatchUp), ("overlap", params.Overlap)):
            if getattr(one, field) not in tuple(kind):
                raise ConfigurationError(
                    f"{place}{field}: {getattr(one, field)!r} is not one of {', '.join(kind)}"
                )
        check_new_job(place, 0, one.job)
        for field, empty in (
            ("id", None),
            ("eta_ms", None),
            ("expires_at_ms", None),
            ("idempotency_key", None),
            ("depends_on", ()),
            ("workflow", None),
        ):
            if getattr(one.job, field) != empty:
                raise ConfigurationError(
                    f"{place}{field}: each fire makes a job of its own; leave it out"
                )
        try:
            Schedule(one.line, one.timezone)
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}{error}") from error


def check_worker(worker: params.WorkerRegistration) -> None:
    """Refuse a worker that does not describe itself as it should."""
    if not _WORKER_ID.fullmatch(worker.id):
        raise ConfigurationError(f"id: {worker.id!r} does not consist of 32 hexadecimal digits")
    check_integer("lease_ms", worker.lease_ms, 1)
    check_integer("concurrency", worker.concurrency, 1)
    for field in ("ttl_ms", "most"):
        value = getattr(worker.dead_letters, field)
        if value is not None:
            check_integer(f"dead_letters: {field}", value, 0)
    for queue in worker.queues or ():
        check_name("queues", queue)
    for schedule in worker.schedules:
        check_name("schedules", schedule)
    for task in worker.tasks:
        check_name("tasks", task)
    for index, limit in enumerate(worker.limits):
        place = f"limit {index}: "
        if limit.task not in worker.tasks:
            raise ConfigurationError(
                f"{place}task: {limit.task!r} is not among the tasks of the worker"
            )
        if limit.rate is not None:
            check_rate(f"{place}rate", limit.rate)
        if limit.max_concurrent is not None:
            check_integer(f"{place}max_concurrent", limit.max_concurrent, 1)


def check_rate(field: str, rate: params.Rate) -> None:
    """Refuse a rate whose numbers no bucket could hold."""
    check_integer(f"{field}: count", rate.count, 1, MAX_RATE)
    check_integer(f"{field}: burst", rate.burst, 1, MAX_RATE)
    check_integer(f"{field}: period_ms", rate.period_ms, 1, MAX_PERIOD_MS)


def check_exchange(request: params.ExchangeRequest) -> None:
    """Refuse an exchange with a number that cannot be."""
    check_integer("want", request.want, 0)
    if request.idle is not None:
        check_integer("idle", request.idle, 0)
    if request.tasks is not None:
        for task in request.tasks:
            check_name("tasks", task)
    for index, start in enumerate(request.starts):
        check_integer(f"start {index}: ago_ms", start.ago_ms, 0)
    for index, settlement in enumerate(request.settlements):
        place = f"settlement {index}: "
        if settlement.started_ago_ms is not None:
            check_integer(f"{place}started_ago_ms", settlement.started_ago_ms, 0)
        outcome = settlement.outcome
        if isinstance(outcome, params.OutcomeRetry | params.OutcomeSnooze):
            check_integer(f"{place}delay_ms", outcome.delay_ms, 0)
        elif not isinstance(outcome, params.Outcome):
            raise ConfigurationError(f"{place}outcome: {outcome!r} is not an outcome")


def check_lock_request(request: params.LockRequest) -> None:
    """Refuse a lock that could not be kept."""
    check_name("name", request.name)
    check_name("owner", request.owner)
    check_integer("ttl_ms", request.ttl_ms, 1, MAX_LOCK_MS)


def check_lock_lease(lease: params.LockLease) -> None:
    """Refuse an extension by a time that is none, or too long."""
    check_integer("ttl_ms", lease.ttl_ms, 1, MAX_LOCK_MS)


def check_list(request: params.ListRequest) -> None:
    """Refuse a listing without bounds."""
    check_integer("limit", request.limit, 1, MAX_LIST_LIMIT)


def check_purge(request: params.PurgeRequest) -> None:
    """Refuse to purge jobs that are not finished."""
    for state in request.states:
        if state not in params.FINAL_STATES:
            raise ConfigurationError(f"states: {state!r} is not a final state")
    check_integer("older_than_ms", request.older_than_ms, 0)
    check_integer("limit", request.limit, 1)


def check_options(options: BackendOptions) -> None:
    """Refuse options that no backend could follow."""
    check_name("namespace", options.namespace)
    if options.durability not in _DURABILITIES:
        raise ConfigurationError(
            f"durability: {options.durability!r} is not one of {', '.join(_DURABILITIES)}"
        )
    check_integer("busy_timeout_ms", options.busy_timeout_ms, 0)
