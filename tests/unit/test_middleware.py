from __future__ import annotations

from types import SimpleNamespace

import pytest

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
