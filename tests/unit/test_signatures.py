"""The public API as promised: names, parameters and defaults, from a table written by hand."""

from __future__ import annotations

import inspect

import pytest

from taskito import (
    ConfigurationError,
    JobFailedError,
    JobNotFoundError,
    JobResult,
    MaxRetriesExceededError,
    Queue,
    Reject,
    ResultTimeoutError,
    Retry,
    SerializationError,
    Snooze,
    Task,
    TaskCancelledError,
    TaskFailedError,
    TaskitoError,
    TaskNotRegisteredError,
    current_job,
)

CALL = (
    "args=(), kwargs=None, priority=None, delay=None, queue=None, max_retries=None, timeout=None, "
    "unique_key=None, metadata=None, depends_on=None, *, eta=None, expires=None, result_ttl=None, "
    "idempotency_key=None"
)
BATCH = (
    "task_name, args_list, kwargs_list=None, priority=None, queue=None, max_retries=None, "
    "timeout=None, *, delay=None, delay_list=None, unique_keys=None, metadata=None, "
    "metadata_list=None"
)

PROMISED = {
    Queue: {
        "__init__": "db_path=None, workers=0, default_retry=3, default_timeout=300, "
        "default_priority=0, result_ttl=None, *, backend=None, serializer='msgpack', accept=None, "
        "durability='full', namespace='default', drain_timeout=30.0, max_payload_bytes=1048576, "
        "clock=None",
        "task": "name=None, max_retries=None, retry_backoff=1.0, timeout=None, priority=None, "
        "rate_limit=None, queue='default', *, retry_on=None, dont_retry_on=None, "
        "retry_delays=None, max_retry_delay=300, retry_jitter=True, expires=None, "
        "max_concurrent=None, concurrency_key=None, max_crashes=2, unique=None, idempotent=False, "
        "result_ttl=None, serializer=None, bind=False",
        "remote_task": "name, **options",
        "enqueue": f"task_name, {CALL}",
        "enqueue_many": BATCH,
        "get_job": "id",
        "list_jobs": "status=None, queue=None, task_name=None, limit=50, offset=0",
        "list_jobs_after": "status=None, queue=None, task_name=None, limit=50, *, after=None",
        "stats": "",
        "stats_by_queue": "name='default'",
        "stats_all_queues": "",
        "job_errors": "id",
        "cancel_job": "id",
        "cancel_running_job": "id",
        "update_progress": "id, n",
        "requeue_job": "id",
        "replay": "id",
        "purge": "queue='default'",
        "purge_completed": "older_than=86400",
        "purge_dead": "older_than=86400",
        "dead_letters": "limit=10, offset=0",
        "retry_dead": "id",
        "retry_all_dead": "task_name=None",
        "delete_dead": "id",
        "pause": "queue='default'",
        "resume": "queue='default'",
        "paused_queues": "",
        "workers": "",
        "lock": "name, ttl=30.0, timeout=None",
        "run_worker": "queues=None, *, pool='thread'",
        "shutdown": "",
        "close": "",
        "aenqueue": f"task_name, {CALL}",
        "aenqueue_many": BATCH,
        "aget_job": "id",
        "alist_jobs": "status=None, queue=None, task_name=None, limit=50, offset=0",
        "astats": "",
        "adead_letters": "limit=10, offset=0",
        "aretry_dead": "id",
        "acancel_job": "id",
        "arun_worker": "queues=None, *, pool='thread'",
        "before_task": "function",
        "after_task": "function",
        "on_success": "function",
        "on_failure": "function",
        "test_mode": "",
    },
    Task: {
        "delay": "*args, **kwargs",
        "adelay": "*args, **kwargs",
        "apply_async": CALL,
        "aapply_async": CALL,
        "map": "calls",
        "__call__": "*args, **kwargs",
    },
    JobResult: {
        "refresh": "",
        "to_dict": "",
        "result": "timeout=30.0, poll_interval=0.05, max_poll_interval=0.5",
        "aresult": "timeout=30.0, poll_interval=0.05, max_poll_interval=0.5",
        "__await__": "",
    },
    type(current_job): {
        "update_progress": "n",
        "log": "message, level='info'",
        "check_cancelled": "",
        "check_timeout": "",
        "snooze": "seconds",
    },
    Retry: {"__init__": "delay=None"},
    Snooze: {"__init__": "seconds"},
}

PROPERTIES = {
    JobResult: "id status progress error errors metadata dependencies dependents waiting_on",
    type(current_job): "id task_name retry_count queue_name metadata",
}

TREE = {
    ConfigurationError: ValueError,
    TaskNotRegisteredError: ValueError,
    SerializationError: ValueError,
    JobNotFoundError: KeyError,
    ResultTimeoutError: TimeoutError,
    JobFailedError: RuntimeError,
    TaskFailedError: RuntimeError,
    MaxRetriesExceededError: TaskFailedError,
    TaskCancelledError: RuntimeError,
    Retry: TaskitoError,
    Snooze: TaskitoError,
    Reject: TaskitoError,
}


def promised_parameters(text):
    """Read a promised signature: Python does it, so the table is written like code."""
    made = {}
    exec(f"def promised({text}): ...", made)
    return list(inspect.signature(made["promised"]).parameters.values())


@pytest.mark.parametrize(
    ("owner", "name"),
    [(owner, name) for owner, members in PROMISED.items() for name in members],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_names_parameters_and_defaults_are_those_that_were_promised(owner, name):
    function = getattr(owner, name)
    bound = isinstance(inspect.getattr_static(owner, name), staticmethod)
    found = list(inspect.signature(inspect.unwrap(function)).parameters.values())[not bound :]
    expected = promised_parameters(PROMISED[owner][name])
    by_name = {parameter.name: parameter for parameter in found}
    for parameter in expected:
        assert parameter.name in by_name, f"{name}: no parameter {parameter.name}"
        real = by_name[parameter.name]
        assert real.default == parameter.default, f"{name}: the default of {parameter.name}"
        assert real.kind is parameter.kind or {real.kind, parameter.kind} <= {
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.POSITIONAL_ONLY,
        }, f"{name}: the kind of {parameter.name}"
    # What may be given by position comes in the promised order; what came later needs its name.
    positional = [one.name for one in found if one.kind is one.POSITIONAL_OR_KEYWORD]
    promised = [one.name for one in expected if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert positional == promised
    for extra in by_name.keys() - {one.name for one in expected}:
        assert by_name[extra].kind is inspect.Parameter.KEYWORD_ONLY
        assert by_name[extra].default is not inspect.Parameter.empty


@pytest.mark.parametrize("owner", PROPERTIES, ids=lambda owner: owner.__name__)
def test_properties_are_those_that_were_promised(owner):
    for name in PROPERTIES[owner].split():
        assert isinstance(inspect.getattr_static(owner, name), property), name


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_errors_are_caught_as_promised(error):
    assert issubclass(error, TREE[error])
    assert issubclass(error, TaskitoError)


@pytest.mark.parametrize("name", ["before_task", "after_task", "on_success", "on_failure"])
def test_a_hook_is_a_decorator_that_leaves_its_function_alone(memory_queue, name):
    def hook(*args):
        return args

    assert getattr(memory_queue, name)(hook) is hook


def test_the_counts_have_the_promised_names(memory_queue):
    names = {"pending", "running", "completed", "failed", "dead", "cancelled"}
    assert set(memory_queue.stats()) == names


def test_a_job_as_a_dict_has_the_promised_names(memory_queue):
    job = memory_queue.remote_task("t").delay()
    names = (
        "id queue task_name status priority progress retry_count max_retries created_at "
        "scheduled_at started_at completed_at error timeout_ms unique_key metadata namespace"
    )
    assert set(job.to_dict()) == set(names.split())
