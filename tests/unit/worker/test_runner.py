from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from types import SimpleNamespace

import pytest

from taskito import current_job
from taskito.errors import decode_error
from taskito.exceptions import JobCancelledError, Reject, Retry, Snooze
from taskito.middleware import FunctionHooks, Middleware
from taskito.serializers.json import JsonSerializer
from taskito.serializers.msgpack import MsgpackSerializer
from taskito.task import Task, TaskOptions
from taskito.worker.config import WorkerConfig
from taskito.worker.event_loop import ThreadLoop
from taskito.worker.runner import OutcomeTypes, Runner

MSGPACK, JSON = MsgpackSerializer(), JsonSerializer()

OUTCOMES = OutcomeTypes(
    success=lambda result, serializer: SimpleNamespace(
        kind="success", result=result, serializer=serializer
    ),
    failure=lambda error, kind, retry, delay_ms: SimpleNamespace(
        kind=kind, error=decode_error(error), retry=retry, delay_ms=delay_ms
    ),
    snoozed=lambda delay_ms: SimpleNamespace(kind="snoozed", delay_ms=delay_ms),
    aborted=lambda reason: SimpleNamespace(kind="aborted", reason=reason),
)


class Sink:
    def __init__(self) -> None:
        self.progress: list[int] = []
        self.fails = False

    def set_progress(self, job_id, token, percent):
        if self.fails:
            raise OSError("disk full")
        self.progress.append(percent)
        return True

    def append_log(self, job_id, token, level, message):
        return True

    def flush_later(self, job):
        pass


@pytest.fixture
def loop():
    loop = ThreadLoop()
    yield loop
    loop.close()


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
def perform(loop, sink):
    """Run one attempt of a function and return its outcome."""

    def perform(function, *args, middleware=(), max_result_bytes=1_000, run=None, **options):
        config = WorkerConfig(
            serializers={"msgpack": MSGPACK, "json": JSON},
            serializer=MSGPACK,
            decode_metadata=MSGPACK.loads,
            concurrency=1,
            max_result_bytes=max_result_bytes,
        )
        task = Task(None, "shop.work", function, TaskOptions.checked(options))
        runner = Runner(
            {"shop.work": task},
            config,
            OUTCOMES,
            sink=sink,
            worker="w" * 32,
            middleware=middleware,
        )
        return runner.run(run or make_run(*args), loop)

    return perform


def make_run(*args, kwargs=None, **changes):
    values = {
        "id": "job-1",
        "token": 7,
        "task": "shop.work",
        "queue": "default",
        "payload": MSGPACK.dumps([list(args), kwargs or {}]),
        "serializer": "msgpack",
        "metadata": None,
        "attempt": 0,
        "max_retries": 3,
        "timeout_ms": 0,
        "cancel_requested": lambda: False,
        "abandoned": lambda: False,
    }
    return SimpleNamespace(**{**values, **changes})


def never(*args, **kwargs):
    raise AssertionError("the body must not run")


def raising(error):
    def body():
        raise error

    return body


# Success ------------------------------------------------------------------------------------------


def test_result_is_encoded_with_the_default_serializer(perform) -> None:
    outcome = perform(lambda a, b: a + b, run=make_run(2, kwargs={"b": 3}))
    assert (outcome.kind, outcome.serializer) == ("success", "msgpack")
    assert MSGPACK.loads(outcome.result) == 5


def test_result_is_encoded_with_the_serializer_of_the_task(perform) -> None:
    outcome = perform(lambda: [1], serializer="json")
    assert (outcome.serializer, JSON.loads(outcome.result)) == ("json", [1])
    assert perform(lambda: [1], serializer=JsonSerializer()).serializer == "json"


def test_payload_is_decoded_with_the_serializer_it_names(perform) -> None:
    run = make_run(payload=JSON.dumps([["a"], {}]), serializer="json")
    assert MSGPACK.loads(perform(lambda a: a * 2, run=run).result) == "aa"


def test_none_is_a_result(perform) -> None:
    assert MSGPACK.loads(perform(lambda: None).result) is None


def test_bound_task_gets_the_current_job(perform) -> None:
    outcome = perform(lambda job, a: [job.id, a], 1, bind=True)
    assert MSGPACK.loads(outcome.result) == ["job-1", 1]


def test_current_job_is_there_in_the_body_and_gone_afterwards(perform) -> None:
    assert MSGPACK.loads(perform(lambda: current_job.task_name).result) == "shop.work"
    with pytest.raises(RuntimeError):
        _ = current_job.id


def test_context_variables_do_not_reach_the_next_attempt(perform) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="empty")

    def body():
        before = variable.get()
        variable.set("full")
        return before

    assert [MSGPACK.loads(perform(body).result) for _ in range(2)] == ["empty", "empty"]


# Coroutines ---------------------------------------------------------------------------------------


def test_coroutines_of_several_attempts_share_one_loop(perform) -> None:
    loops = []

    async def body():
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return current_job.id

    assert [MSGPACK.loads(perform(body).result) for _ in range(2)] == ["job-1"] * 2
    assert loops[0] is loops[1]


def test_closed_loop_is_replaced(perform) -> None:
    async def body():
        return id(asyncio.get_running_loop())

    async def closing():
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.stop)
        await asyncio.sleep(3600)

    assert perform(closing).kind == "failure"
    assert perform(body).kind == "success"


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(2), KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_whatever_a_coroutine_raises_is_the_failure_of_its_job(perform, error) -> None:
    async def body():
        raise error

    outcome = perform(body)
    assert (outcome.kind, outcome.retry) == ("failure", True)
    assert outcome.error.type == type(error).__qualname__
    assert perform(body).kind == "failure"


# Failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SystemExit(2),
        KeyboardInterrupt(),
        GeneratorExit(),
        MemoryError(),
        asyncio.CancelledError(),
        BaseExceptionGroup("several", [ValueError("one")]),
    ],
)
def test_whatever_a_body_raises_is_a_failure_with_a_retry(perform, error) -> None:
    outcome = perform(raising(error))
    assert (outcome.kind, outcome.retry, outcome.delay_ms) == ("failure", True, None)
    assert outcome.error.type == type(error).__qualname__
    assert (outcome.error.run, outcome.error.worker) == (7, "w" * 32)


def test_endless_recursion_is_a_failure(perform) -> None:
    def body():
        return body()

    assert perform(body).error.type == "RecursionError"


def test_traceback_begins_in_the_task(perform) -> None:
    lines = perform(raising(ValueError("no"))).error.traceback.splitlines()
    assert "test_runner.py" in lines[1]
    assert "in body" in lines[1]

    async def body():
        raise ValueError("no")

    lines = perform(body).error.traceback.splitlines()
    assert "test_runner.py" in lines[1]


def test_filters_decide_about_the_retry(perform) -> None:
    body = raising(KeyError("x"))
    assert perform(body, retry_on=[LookupError]).retry
    assert not perform(body, retry_on=[ValueError]).retry
    assert not perform(body, dont_retry_on=[LookupError]).retry
    assert perform(body, dont_retry_on=[ValueError]).retry
    assert not perform(body, retry_on=[KeyError], dont_retry_on=[LookupError]).retry


def test_filters_by_name_match_classes_that_cannot_be_imported(perform):
    # As if requests were installed where the task runs, and only there.
    base = type("RequestException", (OSError,), {"__module__": "requests.exceptions"})
    error = type("ConnectionError", (base,), {"__module__": "requests.exceptions"})

    def body():
        raise error("no route")

    assert perform(body, retry_on=["requests.exceptions.ConnectionError"]).retry
    assert perform(body, retry_on="requests.exceptions.RequestException").retry
    assert perform(body, retry_on="OSError").retry
    assert perform(body, retry_on=[ValueError, "builtins.OSError"]).retry
    assert not perform(body, retry_on="requests.exceptions.Timeout").retry
    assert not perform(body, retry_on="ConnectionError").retry  # that is Python's own
    assert not perform(body, dont_retry_on="requests.exceptions.RequestException").retry
    assert perform(body, dont_retry_on="requests.ConnectionError").retry


def test_failures_leave_no_cycles_behind(perform) -> None:
    class Big:
        pass

    references = []

    def body():
        big = Big()
        references.append(weakref.ref(big))
        raise ValueError("no")

    gc.disable()
    try:
        perform(body)
        assert references[0]() is None
    finally:
        gc.enable()


# Steering -----------------------------------------------------------------------------------------


def test_retry_carries_its_delay(perform) -> None:
    outcome = perform(raising(Retry(delay=2.5)), retry_on=[ValueError])
    assert (outcome.kind, outcome.retry, outcome.delay_ms) == ("failure", True, 2_500)
    assert perform(raising(Retry())).delay_ms is None


def test_snooze_uses_no_attempt(perform) -> None:
    assert vars(perform(raising(Snooze(1.5)))) == {"kind": "snoozed", "delay_ms": 1_500}
    assert perform(lambda: current_job.snooze(3)).delay_ms == 3_000


def test_reject_ends_the_job(perform) -> None:
    outcome = perform(raising(Reject("broken order")))
    assert (outcome.kind, outcome.retry, outcome.error.message) == (
        "rejected",
        False,
        "broken order",
    )


def test_cancelled_body_is_aborted(perform) -> None:
    run = make_run(cancel_requested=lambda: True)
    outcome = perform(current_job.check_cancelled, run=run)
    assert vars(outcome) == {"kind": "aborted", "reason": "cancelled by request while running"}
    assert perform(raising(JobCancelledError())).kind == "aborted"


# What cannot succeed by repetition ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"payload": b"\xc1"}, "'msgpack'"),
        ({"payload": b""}, "'msgpack'"),
        ({"payload": MSGPACK.dumps(5)}, "not a call"),
        ({"payload": MSGPACK.dumps([[1]])}, "not a call"),
        ({"payload": MSGPACK.dumps([[1], {2: 3}])}, "not a call"),
        ({"payload": MSGPACK.dumps([{}, []])}, "not a call"),
        ({"serializer": "pickle"}, "accepts only json, msgpack"),
        ({"serializer": "unheard-of"}, "accept="),
    ],
)
def test_unreadable_payload_ends_the_job_without_running_it(perform, changes, text) -> None:
    outcome = perform(never, run=make_run(**changes))
    assert (outcome.kind, outcome.retry) == ("rejected", False)
    assert outcome.error.qualified_type == "taskito.exceptions.SerializationError"
    assert text in outcome.error.message
    assert "job-1" in outcome.error.message


@pytest.mark.parametrize("result", [object(), lambda: None, {1: object()}])
def test_result_that_cannot_be_encoded_ends_the_job(perform, result) -> None:
    outcome = perform(lambda: result)
    assert (outcome.kind, outcome.retry) == ("rejected", False)
    assert outcome.error.qualified_type == "taskito.exceptions.SerializationError"
    assert "the result of task 'shop.work'" in outcome.error.message


def test_result_that_is_too_large_ends_the_job(perform) -> None:
    outcome = perform(lambda: b"x" * 2_000)
    assert (outcome.kind, outcome.retry) == ("rejected", False)
    assert outcome.error.type == "PayloadTooLargeError"
    assert "1000" in outcome.error.message


@pytest.mark.parametrize("args", [(), (1, 2, 3)])
def test_arguments_that_do_not_fit_end_the_job(perform, args) -> None:
    def body(a, b):
        raise AssertionError

    async def coroutine(a, b):
        raise AssertionError

    for function in (body, coroutine):
        outcome = perform(function, *args)
        assert (outcome.kind, outcome.retry) == ("rejected", False)
        assert "do not fit task 'shop.work'" in outcome.error.message


def test_type_error_of_the_body_is_an_ordinary_failure(perform) -> None:
    def body(a):
        return a + "text"

    assert perform(body, 1).kind == "failure"
    assert perform(int, [1]).kind == "failure"


def test_unknown_task_is_retried(perform) -> None:
    outcome = perform(never, run=make_run(task="shop.other"))
    assert (outcome.kind, outcome.retry) == ("failure", True)
    assert "shop.other" in outcome.error.message


# Middleware ---------------------------------------------------------------------------------------


class Recording(Middleware):
    def __init__(self) -> None:
        self.calls: list[object] = []

    def before(self, job, args, kwargs):
        self.calls.append(("before", current_job.id, list(args), dict(kwargs)))

    def after(self, job, args, kwargs, result, error):
        self.calls.append(("after", job.task_name, result, type(error)))


def test_middleware_sees_the_call_and_its_outcome(perform) -> None:
    middleware = Recording()
    perform(lambda a, b: a + b, middleware=[middleware], run=make_run(2, kwargs={"b": 3}))
    assert middleware.calls == [
        ("before", "job-1", [2], {"b": 3}),
        ("after", "shop.work", 5, type(None)),
    ]


def test_middleware_sees_why_a_result_was_refused(perform) -> None:
    middleware = Recording()
    perform(object, middleware=[middleware])
    kind, _, result, error = middleware.calls[-1]
    assert (kind, result, error.__name__) == ("after", None, "SerializationError")


def test_exception_before_the_task_is_its_failure(perform) -> None:
    hooks, recording = FunctionHooks(), Recording()

    @hooks.before_task
    def refuse(task_name, args, kwargs):
        raise PermissionError("not today")

    outcome = perform(never, middleware=[hooks, recording], dont_retry_on=[PermissionError])
    assert (outcome.kind, outcome.error.type, outcome.retry) == (
        "failure",
        "PermissionError",
        False,
    )
    assert recording.calls == [("after", "shop.work", None, PermissionError)]


def test_exception_after_the_task_changes_nothing(perform, caplog) -> None:
    hooks, recording = FunctionHooks(), Recording()

    @hooks.after_task
    def leave(*args):
        raise SystemExit(1)

    with caplog.at_level(logging.ERROR, "taskito.worker"):
        assert perform(lambda: 1, middleware=[hooks, recording]).kind == "success"
    assert len(recording.calls) == 2
    assert "stays as it is" in caplog.text


# Progress -----------------------------------------------------------------------------------------


def test_last_progress_is_stored_before_the_outcome(perform, sink) -> None:
    def body():
        for percent in range(40):
            current_job.update_progress(percent)
        raise ValueError("no")

    perform(body)
    assert sink.progress == [39]


def test_lost_progress_costs_the_job_nothing(perform, sink, caplog) -> None:
    sink.fails = True
    with caplog.at_level(logging.WARNING, "taskito.worker"):
        assert perform(lambda: current_job.update_progress(5)).kind == "success"
    assert "disk full" in caplog.text


def test_attempts_run_in_several_threads_at_a_time(perform) -> None:
    barrier = threading.Barrier(2, timeout=10)
    seen = []

    def body():
        barrier.wait()
        return current_job.id

    def work(job_id):
        seen.append(MSGPACK.loads(perform(body, run=make_run(id=job_id)).result))

    threads = [threading.Thread(target=work, args=(f"job-{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == ["job-0", "job-1"]
