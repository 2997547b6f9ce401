from __future__ import annotations

import asyncio
import logging
import threading
from types import SimpleNamespace

import pytest

from taskito import Queue
from taskito.exceptions import (
    ConfigurationError,
    JobCancelledError,
    Reject,
    Retry,
    Snooze,
)
from taskito.middleware import FunctionHooks, Middleware

JOB = SimpleNamespace(id="job-1", task_name="shop.resize")


def recorder(calls, name):
    def hook(*args):
        calls.append((name, *args))

    return hook


def test_decorators_return_the_function() -> None:
    hooks = FunctionHooks()

    def hook(*args):
        raise NotImplementedError

    assert hooks.before_task(hook) is hook
    assert hooks.after_task(hook) is hook
    assert hooks.on_success(hook) is hook
    assert hooks.on_failure(hook) is hook


def test_only_hooks_with_functions_are_active() -> None:
    hooks = FunctionHooks()
    assert not hooks.active
    hooks.on_success(print)
    assert hooks.active
    assert Middleware().active


def test_functions_run_in_order_of_registration() -> None:
    calls: list[tuple[object, ...]] = []
    hooks = FunctionHooks()
    for name in ("first", "second"):
        hooks.before_task(recorder(calls, f"before {name}"))
        hooks.after_task(recorder(calls, f"after {name}"))
        hooks.on_success(recorder(calls, f"success {name}"))
        hooks.on_failure(recorder(calls, f"failure {name}"))
    hooks.before(JOB, [1], {"b": 2})
    hooks.after(JOB, [1], {"b": 2}, 3, None)
    common = ("shop.resize", [1], {"b": 2})
    assert calls == [
        ("before first", *common),
        ("before second", *common),
        ("success first", *common, 3),
        ("success second", *common, 3),
        ("after first", *common, 3, None),
        ("after second", *common, 3, None),
    ]


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (ValueError("no"), True),
        (Retry(), True),
        (Reject(), True),
        (SystemExit(1), True),
        (Snooze(1), False),
        (JobCancelledError(), False),
    ],
)
def test_failure_hooks_are_for_failed_attempts(error, failed) -> None:
    calls: list[tuple[object, ...]] = []
    hooks = FunctionHooks()
    hooks.on_success(recorder(calls, "success"))
    hooks.on_failure(recorder(calls, "failure"))
    hooks.after_task(recorder(calls, "after"))
    hooks.after(JOB, [], {}, None, error)
    common = ("shop.resize", [], {})
    expected = [("after", *common, None, error)]
    assert calls == ([("failure", *common, error)] if failed else []) + expected


def test_first_exception_before_ends_it() -> None:
    calls: list[tuple[object, ...]] = []
    hooks = FunctionHooks()

    @hooks.before_task
    def refuse(*args):
        raise PermissionError("no")

    hooks.before_task(recorder(calls, "second"))
    with pytest.raises(PermissionError):
        hooks.before(JOB, [], {})
    assert calls == []


def test_exception_after_does_not_stop_the_others() -> None:
    calls: list[tuple[object, ...]] = []
    hooks = FunctionHooks()

    @hooks.on_success
    def leave(*args):
        raise SystemExit

    hooks.on_success(recorder(calls, "second"))
    hooks.after_task(recorder(calls, "after"))
    with pytest.raises(BaseExceptionGroup) as caught:
        hooks.after(JOB, [], {}, None, None)
    assert [type(error) for error in caught.value.exceptions] == [SystemExit]
    assert [call[0] for call in calls] == ["second", "after"]


def test_what_cannot_be_called_is_refused() -> None:
    async def hook(*args):
        raise NotImplementedError

    with pytest.raises(ConfigurationError, match=r"before_task: .* is async"):
        FunctionHooks().before_task(hook)
    with pytest.raises(ConfigurationError, match="on_failure: 3 is not a function"):
        FunctionHooks().on_failure(3)


# For a queue, for a task --------------------------------------------------------------------------


class Noting(Middleware):
    def __init__(self, name: str = "it") -> None:
        self.name = name
        self.notes: list[tuple[object, ...]] = []

    def before(self, job, args, kwargs):
        self.notes.append((self.name, "before", list(args), dict(kwargs)))

    def on_error(self, job, args, kwargs, error):
        self.notes.append((self.name, "on_error", type(error).__name__))

    def on_retry(self, job, args, kwargs, error):
        self.notes.append((self.name, "on_retry", job.retry_count))

    def after(self, job, args, kwargs, result, error):
        self.notes.append((self.name, "after", result))

    def kinds(self) -> list[object]:
        return [note[1] for note in self.notes]


@pytest.fixture
def noting():
    return Noting()


@pytest.fixture
def queue(noting):
    with Queue(backend="memory://", workers=1, default_retry=0, middleware=[noting]) as queue:
        yield queue


def run(task, *args, **kwargs):
    with task._producer.test_mode():
        return task.delay(*args, **kwargs)


def test_middleware_of_a_queue_is_called_around_all_of_its_tasks(queue, noting) -> None:
    @queue.task()
    def double(n, *, plus=0):
        return 2 * n + plus

    @queue.task()
    async def triple(n):
        await asyncio.sleep(0)
        return 3 * n

    run(double, 4, plus=1)
    run(triple, 5)
    assert noting.notes == [
        ("it", "before", [4], {"plus": 1}),
        ("it", "after", 9),
        ("it", "before", [5], {}),
        ("it", "after", 15),
    ]


def test_middleware_of_a_task_comes_after_that_of_the_queue_and_before_functions(queue, noting):
    own = Noting("own")
    own.notes = noting.notes
    queue.before_task(lambda *_: noting.notes.append(("function", "before")))

    @queue.task(middleware=[own])
    def work():
        return 1

    @queue.task()
    def other():
        return 2

    run(work)
    assert [note[:2] for note in noting.notes] == [
        ("it", "before"),
        ("own", "before"),
        ("function", "before"),
        ("it", "after"),
        ("own", "after"),
    ]
    noting.notes.clear()
    run(other)
    assert {note[0] for note in noting.notes} == {"it", "function"}


def test_each_failure_and_each_retry_is_told(queue, noting) -> None:
    @queue.task(max_retries=2, retry_jitter=False)
    def fail():
        raise ValueError("no")

    run(fail)
    attempt = ["before", "on_error", "on_retry", "after"]
    assert noting.kinds() == [*attempt, *attempt, "before", "on_error", "after"]
    assert [note[2] for note in noting.notes if note[1] == "on_retry"] == [0, 1]


@pytest.mark.parametrize(
    ("error", "options", "kinds"),
    [
        (KeyError("x"), {}, ["on_error", "on_retry"]),
        (KeyError("x"), {"retry_on": ValueError}, ["on_error"]),
        (KeyError("x"), {"dont_retry_on": KeyError}, ["on_error"]),
        (Retry(), {"retry_on": ValueError}, ["on_error", "on_retry"]),
        (Reject("broken"), {}, ["on_error"]),
        (JobCancelledError(), {}, []),
    ],
)
def test_only_failures_are_errors_and_only_what_runs_again_is_a_retry(
    queue, noting, error, options, kinds
) -> None:
    raised = []

    @queue.task(max_retries=1, **options)
    def work():
        if not raised:
            raised.append(error)
            raise error

    run(work)
    assert noting.kinds()[: len(kinds) + 2] == ["before", *kinds, "after"]


def test_a_snooze_is_no_error(queue, noting) -> None:
    snoozed = []

    @queue.task()
    def work():
        if not snoozed:
            snoozed.append(1)
            raise Snooze(1)

    run(work)
    assert noting.kinds() == ["before", "after"] * 2


def test_a_result_that_cannot_be_encoded_is_an_error_without_a_retry(queue, noting) -> None:
    @queue.task(max_retries=3)
    def work():
        return object()

    run(work)
    assert noting.notes[1:] == [("it", "on_error", "SerializationError"), ("it", "after", None)]


@pytest.mark.parametrize("method", ["on_error", "on_retry", "after"])
def test_what_fails_after_the_task_is_named_and_stops_nothing(method, caplog) -> None:
    broken, noting = Noting(), Noting()

    def leave(*_):
        raise SystemExit(1)

    setattr(broken, method, leave)
    with Queue(backend="memory://", middleware=[broken, noting]) as queue:

        @queue.task(max_retries=1)
        def fail():
            raise ValueError("no")

        with caplog.at_level(logging.ERROR, "taskito.worker"):
            run(fail)
    assert f"Noting.{method} failed for job" in caplog.text
    assert noting.kinds().count("after") == 2


def test_middleware_works_in_threads_and_on_the_loop_of_a_worker(queue, noting) -> None:
    threads = []

    class Where(Middleware):
        def before(self, job, args, kwargs):
            threads.append(threading.current_thread())

    where = Where()

    @queue.task(middleware=[where])
    def plain():
        return threading.current_thread() is threads[-1]

    @queue.task(middleware=[where], max_retries=1, retry_backoff=0, retry_jitter=False)
    async def coroutine():
        if len(threads) == 2:
            raise ValueError("no")
        return threading.current_thread() is threads[-1]

    with queue.worker():
        assert plain.delay().result(timeout=20)
        assert coroutine.delay().result(timeout=20)
    before, after = ["before"], ["after"]
    failed = ["before", "on_error", "on_retry", "after"]
    assert noting.kinds() == [*before, *after, *failed, *before, *after]


class Asynchronous(Middleware):
    async def on_error(self, job, args, kwargs, error):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([Asynchronous()], "middleware: on_error of .* is async; it has to be a plain method"),
        ([Noting(), 3], "middleware: 3 is no taskito.Middleware"),
        ([Noting], r"Noting'> is a class; give an object of it, such as Noting\(\)"),
        (Noting(), "is not a list"),
        (7, "is not a list"),
    ],
)
def test_what_is_no_middleware_is_refused_by_name(queue, given, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Queue(backend="memory://", middleware=given)
    with pytest.raises(ConfigurationError, match=message):
        queue.task(middleware=given)
