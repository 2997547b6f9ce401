"""What resources are, who may ask for which, and what becomes of their values in one thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from taskito import (
    INJECTED,
    ConfigurationError,
    JobFailedError,
    Queue,
    Reject,
    Resource,
    Retry,
    Snooze,
    TaskCancelledError,
    current_job,
)
from taskito.exceptions import JobCancelledError
from taskito.resources import requests_of

if TYPE_CHECKING:
    from collections.abc import Sized as OnlyForTypeCheckers

Db = Annotated[str, Resource("db")]


@pytest.fixture
def queue():
    with Queue(backend="memory://", workers=1, default_retry=0) as queue:
        yield queue


class Diary:
    """Resources that write down when they are set up and torn down."""

    def __init__(self, queue: Queue) -> None:
        self.lines: list[str] = []
        self.queue = queue

    def declare(self, name: str, scope: Any = "job", **options: Any) -> None:
        def resource() -> Iterator[str]:
            self.lines.append(f"+{name}")
            try:
                yield name
            except BaseException as error:
                self.lines.append(f"{type(error).__name__} in {name}")
                raise
            finally:
                self.lines.append(f"-{name}")

        resource.__qualname__ = name
        self.queue.resource(name, scope=scope, **options)(resource)

    def declare_async(self, name: str, scope: Any = "job", **options: Any) -> None:
        async def resource() -> AsyncIterator[str]:
            await asyncio.sleep(0)
            self.lines.append(f"+{name}")
            try:
                yield name
            except BaseException as error:
                self.lines.append(f"{type(error).__name__} in {name}")
                raise
            finally:
                await asyncio.sleep(0)
                self.lines.append(f"-{name}")

        resource.__qualname__ = name
        self.queue.resource(name, scope=scope, **options)(resource)


@pytest.fixture
def diary(queue):
    return Diary(queue)


def run(task, *args, **kwargs):
    """Run one call in test mode and return its result."""
    with task._producer.test_mode():
        return task.delay(*args, **kwargs).result()


def refused(queue, text):
    """Check that a worker cannot be made, and why."""
    with pytest.raises(ConfigurationError, match=text):
        queue.worker()


# Passing ------------------------------------------------------------------------------------------


def test_a_task_gets_what_it_asks_for(queue, diary):
    diary.declare("db")
    diary.declare("mail", "thread")

    @queue.task()
    def work(
        n: int, db: Db = INJECTED, *, mail: Annotated[str, Resource("mail")] = INJECTED
    ) -> list[object]:
        return [n, db, mail, current_job.task_name]

    assert run(work, 3)[:3] == [3, "db", "mail"]
    assert diary.lines == ["+db", "+mail", "-db", "-mail"]


def test_what_the_caller_passes_wins(queue, diary):
    diary.declare("db")

    @queue.task()
    def work(n: int, db: Db = INJECTED) -> list[object]:
        return [n, db]

    assert run(work, 1, "mine") == [1, "mine"]
    assert run(work, 1, db="mine") == [1, "mine"]
    assert run(work, n=1) == [1, "db"]
    assert diary.lines == ["+db", "-db"]


def test_a_bound_task_and_odd_callables_get_theirs(queue, diary):
    diary.declare("db")

    class Callable:
        __module__, __qualname__ = "odd", "callable"

        def __call__(self, n: int, db: Db) -> list[object]:
            return [n, db]

    def work(job: object, n: int, db: Db = INJECTED) -> list[object]:
        return [n, db]

    def partly(m: int, n: int, db: Db) -> list[object]:
        return [m + n, db]

    @functools.wraps(partly)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return partly(*args, **kwargs)

    assert run(queue.task("bound", bind=True)(work), 1) == [1, "db"]
    assert run(queue.task("bound", bind=True)(work), 1, "mine") == [1, "mine"]
    assert run(queue.task("callable")(Callable()), 2) == [2, "db"]
    assert run(queue.task("partial")(functools.partial(partly, 40)), 2) == [42, "db"]
    assert run(queue.task("wrapped")(wrapped), 1, 2) == [3, "db"]


def test_no_more_is_set_up_than_is_asked_for(queue, diary):
    diary.declare("db", "worker")

    @queue.task()
    def work(n: int) -> int:
        return n

    assert run(work, 1) == 1
    assert diary.lines == []
    with queue.test_mode():
        assert not queue._make_runner({"w": work}, queue.backend, None, "w").has_resources


def test_middleware_sees_what_the_caller_passed(diary, queue):
    diary.declare("db")
    seen = []
    queue.before_task(lambda _name, args, kwargs: seen.append((list(args), dict(kwargs))))

    @queue.task()
    def work(n: int, db: Db) -> int:
        return n

    run(work, 1)
    assert seen == [([1], {})]


def test_arguments_that_do_not_fit_are_told_without_what_is_injected(queue, diary):
    diary.declare("db")

    @queue.task()
    def work(n: int, db: Db) -> int:
        return n

    with queue.test_mode():
        job = work.delay()
        with pytest.raises(
            JobFailedError, match=r"signature is \(n: 'int'\) -> 'int': missing.*'n'"
        ):
            job.result()


def test_a_direct_call_says_what_is_missing(queue):
    @queue.task()
    def work(db: Annotated[Any, Resource("db")] = INJECTED) -> int:
        return db.cursor()

    assert repr(INJECTED) == "INJECTED"
    with pytest.raises(AttributeError, match="'cursor': a worker passes this resource"):
        work()


# Made of one another ------------------------------------------------------------------------------


def test_resources_are_made_of_others_and_end_in_reverse_order(queue, diary):
    diary.declare("db", "worker")

    @queue.resource("session")
    def session(db: Db) -> Iterator[str]:
        diary.lines.append("+session")
        yield f"session of {db}"
        diary.lines.append("-session")

    @queue.resource("shop", scope="job")
    def shop(
        session: Annotated[str, Resource("session")], db: Db, size: int = 3
    ) -> Iterator[tuple[str, ...]]:
        diary.lines.append("+shop")
        yield (session, db, "x" * size)
        diary.lines.append("-shop")

    @queue.task()
    def work(
        shop: Annotated[tuple[str, ...], Resource("shop")],
        session: Annotated[str, Resource("session")],
    ) -> list[object]:
        return [shop, session]

    assert run(work) == [("session of db", "db", "xxx"), "session of db"]
    assert diary.lines == ["+db", "+session", "+shop", "-shop", "-session", "-db"]


# Jobs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(1), Retry(), Reject("broken"), JobCancelledError()]
)
@pytest.mark.parametrize("is_async", [False, True])
def test_the_exception_of_the_task_is_raised_in_the_generator(queue, diary, error, is_async):
    diary.declare_async("db") if is_async else diary.declare("db")

    @queue.task("plain")
    def plain(db: Db) -> None:
        raise error

    @queue.task("coroutine")
    async def coroutine(db: Db) -> None:
        raise error

    del queue._tasks["plain" if is_async else "coroutine"]
    task = coroutine if is_async else plain
    with pytest.raises((JobFailedError, TaskCancelledError)):
        run(task)
    assert diary.lines == ["+db", f"{type(error).__name__} in db", "-db"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_generator_cannot_swallow_or_replace_the_exception_of_the_task(queue, is_async, caplog):
    @queue.resource("swallows")
    def swallows() -> Iterator[int]:
        with contextlib.suppress(ValueError):
            yield 1

    @queue.resource("replaces")
    def replaces() -> Iterator[int]:
        try:
            yield 1
        except ValueError:
            raise KeyError("another") from None

    @queue.resource("repeats")
    def repeats() -> Iterator[int]:
        try:
            yield 1
        except ValueError:
            yield 2

    def body(
        swallows: Annotated[int, Resource("swallows")],
        replaces: Annotated[int, Resource("replaces")],
        repeats: Annotated[int, Resource("repeats")],
    ) -> None:
        raise ValueError("the first")

    async def coroutine(
        swallows: Annotated[int, Resource("swallows")],
        replaces: Annotated[int, Resource("replaces")],
        repeats: Annotated[int, Resource("repeats")],
    ) -> None:
        raise ValueError("the first")

    with (
        caplog.at_level(logging.ERROR, "taskito.worker"),
        pytest.raises(JobFailedError, match="ValueError: the first"),
    ):
        run(queue.task("work")(coroutine if is_async else body))
    assert "the teardown of resource 'replaces' failed" in caplog.text
    assert "the teardown of resource 'repeats' failed" in caplog.text
    assert "swallows" not in "".join(record.message for record in caplog.records)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_teardown_that_raises_fails_the_attempt(queue, diary, is_async):
    diary.declare("outer")

    @queue.resource("db")
    def db(outer: Annotated[str, Resource("outer")]) -> Iterator[int]:
        yield 1
        raise OSError("the commit failed")

    def body(db: Annotated[int, Resource("db")]) -> int:
        return db

    async def coroutine(db: Annotated[int, Resource("db")]) -> int:
        return db

    with pytest.raises(JobFailedError, match="the commit failed") as caught:
        run(queue.task("work", dont_retry_on=OSError)(coroutine if is_async else body))
    assert diary.lines == ["+outer", "OSError in outer", "-outer"]
    assert "raised by the teardown of resource 'db'" in caught.value.remote_traceback


def test_a_result_that_cannot_be_encoded_is_not_committed(queue, diary):
    diary.declare("db")

    @queue.task()
    def work(db: Db) -> object:
        return object()

    with pytest.raises(JobFailedError, match="cannot be encoded"):
        run(work)
    assert diary.lines == ["+db", "SerializationError in db", "-db"]


def test_snoozing_is_told_and_the_next_attempt_gets_a_new_value(queue, diary):
    diary.declare("db")
    snoozed = []

    @queue.task()
    def work(db: Db) -> str:
        if not snoozed:
            snoozed.append(1)
            raise Snooze(5)
        return db

    assert run(work) == "db"
    assert diary.lines == ["+db", "Snooze in db", "-db", "+db", "-db"]


def test_a_setup_that_fails_fails_the_attempt_and_is_tried_again(queue, diary):
    diary.declare("outer")
    tried = []

    @queue.resource("db", scope="worker")
    def db() -> Iterator[str]:
        tried.append(1)
        if len(tried) == 1:
            raise ConnectionError("refused")
        yield "db"

    @queue.task(max_retries=1, retry_on=ConnectionError)
    def work(outer: Annotated[str, Resource("outer")], db: Db) -> str:
        return db

    assert run(work) == "db"
    assert diary.lines == ["+outer", "ConnectionError in outer", "-outer", "+outer", "-outer"]


def test_a_generator_that_yields_not_or_twice_fails_the_attempt_by_name(queue):
    @queue.resource("never")
    def never() -> Iterator[int]:
        if not queue:
            yield 1

    @queue.resource("twice")
    def twice() -> Iterator[int]:
        yield 1
        yield 2

    @queue.task()
    def first(it: Annotated[int, Resource("never")]) -> None: ...

    @queue.task()
    def second(it: Annotated[int, Resource("twice")]) -> None: ...

    with pytest.raises(JobFailedError, match="generator didn't yield") as caught:
        run(first)
    assert "set-up of resource 'never'" in caught.value.remote_traceback
    with pytest.raises(JobFailedError, match="generator didn't stop") as caught:
        run(second)
    assert "teardown of resource 'twice'" in caught.value.remote_traceback


def test_failures_leave_no_cycles_behind(queue, diary):
    class Big:
        pass

    diary.declare("db")
    references = []

    @queue.task()
    def work(db: Db) -> None:
        big = Big()
        references.append(weakref.ref(big))
        raise ValueError("no")

    gc.collect()
    gc.disable()
    try:
        with queue.test_mode():
            work.delay()
        assert references[0]() is None
    finally:
        gc.enable()


# Coroutines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["job", "thread", "worker"])
def test_a_coroutine_gets_async_resources_made_of_others(queue, diary, scope):
    diary.declare("settings", "worker")
    diary.declare_async("client", scope)

    @queue.resource("api", scope=scope)
    async def api(
        client: Annotated[str, Resource("client")], settings: Annotated[str, Resource("settings")]
    ) -> AsyncIterator[str]:
        diary.lines.append("+api")
        yield f"{client}, {settings}"
        diary.lines.append("-api")

    @queue.task()
    async def work(api: Annotated[str, Resource("api")]) -> str:
        await asyncio.sleep(0)
        return api

    assert run(work) == "client, settings"
    assert diary.lines == ["+client", "+settings", "+api", "-api", "-client", "-settings"]


def test_a_long_lived_async_resource_begins_and_ends_in_one_asyncio_task(queue):
    tasks = []

    @queue.resource("db", scope="worker")
    async def db() -> AsyncIterator[str]:
        async with asyncio.timeout(60), asyncio.TaskGroup():
            tasks.append(asyncio.current_task())
            yield "db"
        tasks.append(asyncio.current_task())

    @queue.task()
    async def work(db: Db) -> bool:
        return asyncio.current_task() is not tasks[0]

    assert run(work)
    assert tasks[0] is tasks[1]


def test_a_setup_of_an_async_resource_that_fails_fails_the_attempt(queue):
    @queue.resource("db", scope="worker")
    async def db() -> AsyncIterator[str]:
        raise ConnectionError("refused")
        yield "db"

    @queue.task()
    async def work(db: Db) -> None: ...

    with pytest.raises(JobFailedError, match="refused"):
        run(work)


# Checks -------------------------------------------------------------------------------------------


def drop(value: list[int]) -> bool:
    return value[0] != 1


def complain(value: list[int]) -> None:
    if value[0] == 1:
        raise OSError("gone")


async def drop_async(value: list[int]) -> bool:
    await asyncio.sleep(0)
    return drop(value)


@pytest.mark.parametrize("scope", ["thread", "worker"])
@pytest.mark.parametrize("check", [drop, complain, drop_async])
def test_what_fails_its_check_is_made_anew(queue, scope, check, caplog):
    lines = []

    def plain() -> Iterator[list[int]]:
        number = 1 + sum(line.startswith("+") for line in lines)
        lines.append(f"+{number}")
        yield [number]
        lines.append(f"-{number}")

    async def coroutine() -> AsyncIterator[list[int]]:
        with contextlib.contextmanager(plain)() as value:
            yield value

    is_async = check is drop_async
    queue.resource("db", scope=scope, check=check)(coroutine if is_async else plain)

    @queue.resource("shop", scope=scope)
    def shop(db: Annotated[list[int], Resource("db")]) -> Iterator[int]:
        lines.append(f"shop of {db[0]}")
        yield db[0]
        lines.append(f"end of shop of {db[0]}")

    if is_async:
        del queue._resources["shop"]

    def work(shop: Annotated[int, Resource("shop")]) -> int:
        return attempts(shop)

    async def work_async(db: Annotated[list[int], Resource("db")]) -> int:
        return attempts(db[0])

    seen: list[int] = []

    def attempts(number: int) -> int:
        seen.append(number)
        if len(seen) < 3:
            raise Snooze(1)
        return number

    with caplog.at_level(logging.WARNING, "taskito.worker"):
        assert run(queue.task("work")(work_async if is_async else work)) == 2
    assert seen == [1, 2, 2]
    plain_lines = [line for line in lines if "shop" not in line]
    assert plain_lines == (["+1", "-1", "+2", "-2"] if is_async else ["+1", "+2", "-1", "-2"])
    assert caplog.text.count("resource 'db' failed its check") == 1
    assert ("gone" in caplog.text) is (check is complain)
    if not is_async:
        # What was made of the one that is gone ends before it, and is made anew with it.
        assert lines.index("end of shop of 1") < lines.index("-1")
        assert "shop of 2" in lines


# What cannot be had -------------------------------------------------------------------------------


def test_what_does_not_yield_is_refused(queue):
    def plain() -> int:
        raise NotImplementedError

    def generator() -> Iterator[int]:
        yield 1

    for function in (plain, contextlib.contextmanager(generator), 3):
        with pytest.raises(ConfigurationError, match=r"resource 'db': .* is no generator function"):
            queue.resource("db")(function)
    with pytest.raises(ConfigurationError, match="give it a name"):
        queue.resource(generator)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"scope": "queue"},
            "scope: 'queue' is not allowed; give one of 'job', 'thread', 'worker'",
        ),
        ({"scope": "worker", "check": 3}, "check: 3 of resource 'db' is not a function"),
        ({"check": print}, "check: resource 'db' is made for each job"),
        ({"scope": "worker", "check": drop_async}, "check: .* is async, and resource 'db' is not"),
    ],
)
def test_options_that_mean_nothing_are_refused(queue, options, text):
    def db() -> Iterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match=text):
        queue.resource("db", **options)(db)


def test_a_name_belongs_to_one_function_that_may_be_defined_again(queue):
    def make(number: int):
        @queue.resource("db")
        def db() -> Iterator[int]:
            yield number

    make(1)
    make(2)

    @queue.task()
    def work(db: Annotated[int, Resource("db")]) -> int:
        return db

    assert run(work) == 2
    with pytest.raises(ConfigurationError, match=r"name: the resource 'db' is declared by .*make"):

        @queue.resource("db")
        def other() -> Iterator[int]:
            yield 3


def test_an_unknown_resource_is_named_with_who_asks(queue, diary):
    diary.declare("database")

    @queue.task("work")
    def work(it: Db) -> None: ...

    refused(
        queue,
        "task 'work': the parameter 'it' asks for resource 'db', which is not declared; "
        "known: 'database'",
    )


def test_an_async_resource_is_for_coroutines(queue, diary):
    diary.declare_async("db")

    @queue.task("work")
    def work(db: Db) -> None: ...

    refused(queue, "task 'work': the parameter 'db' asks for resource 'db', which is async")
    del queue._tasks["work"]

    @queue.resource("shop")
    def shop(db: Db) -> Iterator[int]:
        yield 1

    refused(queue, "resource 'shop': the parameter 'db' asks for resource 'db', which is async")


@pytest.mark.parametrize(
    ("asking", "asked"), [("worker", "thread"), ("worker", "job"), ("thread", "job")]
)
def test_a_resource_cannot_be_made_of_one_that_lives_shorter(queue, diary, asking, asked):
    diary.declare("db", asked)

    @queue.resource("shop", scope=asking)
    def shop(db: Db) -> Iterator[int]:
        yield 1

    refused(queue, f"resource 'shop': .*'db', which lives shorter: its scope is '{asked}'")


def test_circles_are_shown(queue):
    @queue.resource("a")
    def a(b: Annotated[int, Resource("b")]) -> Iterator[int]:
        yield 1

    @queue.resource("b")
    def b(a: Annotated[int, Resource("a")]) -> Iterator[int]:
        yield 1

    refused(queue, "circle: 'a' -> 'b' -> 'a'")


def test_a_parameter_that_nobody_passes_is_refused(queue):
    @queue.resource("db")
    def db(url: str) -> Iterator[int]:
        yield 1

    refused(queue, "resource 'db': nobody passes the parameter 'url'")


def test_parameters_that_take_no_keyword_are_refused(queue, diary):
    diary.declare("db")

    @queue.task("work")
    def work(db: Db, /) -> None: ...

    refused(queue, "task 'work': the parameter 'db' .* is positional-only")


def test_injected_without_a_resource_is_refused(queue):
    @queue.task("work")
    def work(db: str = INJECTED) -> None: ...

    refused(queue, "task 'work': the parameter 'db' is INJECTED, but asks for nothing")


def test_annotations_that_cannot_be_evaluated_matter_only_if_they_ask_for_something(queue, diary):
    diary.declare("db")

    def fine(one: OnlyForTypeCheckers, db: Annotated[str, Resource("db")], three: Db) -> None: ...

    assert [request.parameter for request in requests_of(fine, "it")] == ["db", "three"]

    @queue.task("work")
    def work(db: Annotated[OnlyForTypeCheckers, Resource("db")]) -> None: ...

    refused(queue, "task 'work': the annotation of the parameter 'db' cannot be evaluated .*Only")


def test_optional_parameters_and_functions_without_a_signature():
    def work(db: Annotated[str, Resource("db")] | None = None, n: int | None = None) -> None: ...

    [request] = requests_of(work, "it")
    assert (request.parameter, request.resource, request.position) == ("db", "db", 0)
    assert requests_of(dict.fromkeys, "it") == requests_of(print, "it") == ()


def test_markers_compare_by_name():
    assert Resource("a") == Resource("a") != Resource("b")
    assert len({Resource("a"), Resource("a")}) == 1
    assert repr(Resource("a")) == "Resource('a')"
    with pytest.raises(ConfigurationError, match="Resource"):
        Resource("")
