"""Tasks: their names, options and direct calls."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import subprocess
import sys

import pytest

from taskito import (
    CapabilityError,
    ConfigurationError,
    Queue,
    Task,
    TaskNotRegisteredError,
    TaskOptions,
)
from taskito.backends.memory import MemoryBackend
from taskito.task import AsyncTask, default_task_name


@pytest.fixture
def queue(memory_queue):
    return memory_queue


def test_decorator_works_with_and_without_parentheses(queue):
    @queue.task
    def first(a: int) -> int:
        """Say first."""
        return a + 1

    @queue.task()
    def second(a: int) -> int:
        return a + 2

    assert first(1) == 2
    assert second(1) == 3
    assert isinstance(first, Task)
    assert first.__doc__ == "Say first."
    assert first.function(1) == 2
    assert inspect.signature(first) == inspect.signature(first.function)
    assert set(queue.tasks) == {first.name, second.name}


def test_default_name_is_module_and_qualified_name(queue):
    @queue.task
    def named() -> None: ...

    assert named.name == f"{__name__}.{named.__qualname__}"
    assert queue.task(name="given")(lambda: None).name == "given"


@pytest.mark.parametrize("how", ["script", "module"])
def test_name_of_a_script_is_its_real_one(tmp_path, how):
    (tmp_path / "jobs.py").write_text(
        "from taskito import Queue\n"
        "queue = Queue(backend='memory://')\n"
        "@queue.task\n"
        "def work(): ...\n"
        "print(work.name)\n"
    )
    arguments = ["jobs.py"] if how == "script" else ["-m", "jobs"]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "jobs.work\n"


def test_without_any_module_main_stays():
    def work() -> None: ...

    names = {"__name__": "__main__"}
    code = type(work)(work.__code__, names)
    code.__module__ = "__main__"
    assert default_task_name(code).startswith("__main__.")


def test_a_callable_without_a_name_needs_one(queue):
    class Callable:
        def __call__(self) -> int:
            return 7

    with pytest.raises(ConfigurationError, match="name="):
        queue.task()(Callable())
    assert queue.task("given")(Callable())() == 7


def test_coroutine_functions_are_tasks_as_well(queue):
    @queue.task
    async def work(a: int) -> int:
        return a + 1

    assert isinstance(work, AsyncTask)
    assert asyncio.run(work(1)) == 2


def test_bind_passes_the_current_job(queue):
    @queue.task(bind=True)
    def work(job, a: int) -> tuple[str, int]:
        return repr(job), a

    assert work(5) == ("<current_job: none>", 5)


def test_options_are_kept_as_they_were_given(queue):
    task = queue.task(
        max_retries=0, timeout=1.5, retry_on=OSError, retry_delays=[1, 2], result_ttl=3
    )(lambda: None)
    assert task.options == TaskOptions(
        max_retries=0,
        timeout=1.5,
        retry_on=(OSError,),
        retry_delays=(1.0, 2.0),
        result_ttl=3.0,
        max_retry_delay=300.0,
    )


WRONG = {
    "max_retries": -1,
    "retry_backoff": -1,
    "timeout": -0.1,
    "priority": 128,
    "rate_limit": "fast",
    "queue": "",
    "retry_on": "NoSuchError",
    "dont_retry_on": int,
    "retry_delays": [],
    "max_retry_delay": "long",
    "retry_jitter": 1,
    "expires": True,
    "max_concurrent": 0,
    "concurrency_key": 5,
    "max_crashes": -1,
    "idempotent": "yes",
    "result_ttl": float("nan"),
    "serializer": "unheard-of",
    "bind": None,
}


@pytest.mark.parametrize("option", WRONG)
def test_each_wrong_option_is_named(queue, option):
    with pytest.raises(ConfigurationError, match=f"^{option}: "):
        queue.task("x", **{option: WRONG[option]})(lambda: None)
    if option != "bind":
        with pytest.raises(ConfigurationError, match=f"^{option}: "):
            queue.remote_task("x", **{option: WRONG[option]})
    assert not queue.tasks


def test_options_that_never_mean_the_default_refuse_none(queue):
    for option in ("queue", "retry_backoff", "max_retry_delay", "retry_jitter", "max_crashes"):
        with pytest.raises(ConfigurationError, match=f"^{option}: "):
            queue.task("x", **{option: None})


def test_unknown_options_are_refused(queue):
    with pytest.raises(TypeError, match="max_retrys"):
        queue.task(max_retrys=1)
    with pytest.raises(TypeError, match=r"max_retrys.*max_retries"):
        queue.remote_task("x", max_retrys=1)


@pytest.mark.parametrize(
    "option", [{"rate_limit": "1/s"}, {"max_concurrent": 1}, {"concurrency_key": "k"}]
)
def test_limits_are_refused_where_the_backend_has_none(option):
    class Unlimited(MemoryBackend):
        capabilities = dataclasses.replace(MemoryBackend.capabilities, limits=False)

    queue = Queue(backend=Unlimited())
    with pytest.raises(CapabilityError, match=next(iter(option))):
        queue.task("x", **option)(lambda: None)
    assert not queue.tasks
    for set_limit in (queue.set_queue_rate_limit, queue.set_queue_concurrency):
        with pytest.raises(CapabilityError, match=set_limit.__name__):
            set_limit("x", None)


def test_a_concurrency_key_without_a_limit_is_refused(queue):
    with pytest.raises(ConfigurationError, match=r"concurrency_key.*max_concurrent"):
        queue.task("x", concurrency_key="k")(lambda: None)
    # Of a remote task, the limit is said where its code is.
    queue.remote_task("elsewhere", concurrency_key=lambda customer: customer)


def test_a_name_is_taken_once(queue):
    queue.task("x")(max)
    with pytest.raises(ConfigurationError, match=r"'x' is taken by builtins.max"):
        queue.task("x")(min)
    with pytest.raises(ConfigurationError, match="taken"):
        queue.remote_task("x")
    assert queue.tasks["x"].function is max


def test_the_same_function_may_be_defined_again(queue):
    for result in (1, 2):

        @queue.task(name="x", priority=result)
        def work(result=result) -> int:
            return result

    assert queue.tasks["x"]() == 2
    assert queue.enqueue("x").to_dict()["priority"] == 2


def test_what_is_no_function_is_refused(queue):
    task = queue.task("x")(max)
    for wrong in (task, 5, None):
        with pytest.raises(ConfigurationError, match="not a function"):
            queue.task("y")(wrong)


def test_a_remote_task_can_be_enqueued_and_not_called(queue):
    remote = queue.remote_task("images.resize", queue="images", max_retries=7)
    assert remote.is_remote
    job = remote.delay("a.png", width=3).to_dict()
    assert (job["task_name"], job["queue"], job["max_retries"]) == ("images.resize", "images", 7)
    with pytest.raises(TaskNotRegisteredError, match="remote"):
        remote("a.png")


def test_the_registry_is_read_only(queue):
    with pytest.raises(TypeError):
        queue.tasks["x"] = None


def test_a_task_of_another_queue_is_not_enqueued(queue):
    with Queue(backend="memory://") as other:
        foreign = other.task("x")(max)
        queue.task("x")(max)
        with pytest.raises(TaskNotRegisteredError, match="not a task of this queue"):
            queue.enqueue(foreign)
