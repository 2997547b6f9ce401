"""Resources in workers: whose they are, and when they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import pytest

from taskito import (
    INJECTED,
    JobFailedError,
    MaxRetriesExceededError,
    Queue,
    Resource,
    TaskCancelledError,
    current_job,
)

WAIT = 20


@pytest.fixture(params=["sqlite", "memory"])
def queue(request, tmp_path):
    place = (
        {"backend": "memory://"} if request.param == "memory" else {"db_path": tmp_path / "t.db"}
    )
    with Queue(workers=4, drain_timeout=5, default_retry=0, **place) as queue:
        yield queue


@pytest.fixture
def diary():
    """What happened, in order; appended to by any thread."""
    return []


def test_threads_have_their_own_and_share_those_of_the_worker(queue, diary):
    @queue.resource("settings", scope="worker")
    def settings() -> Iterator[object]:
        diary.append(("+settings", threading.get_ident()))
        yield object()
        diary.append(("-settings", threading.get_ident()))

    @queue.resource("db", scope="thread")
    def db(settings: Annotated[object, Resource("settings")]) -> Iterator[object]:
        diary.append(("+db", threading.get_ident()))
        yield object()
        diary.append(("-db", threading.get_ident()))

    together = threading.Barrier(4)
    seen = []

    @queue.task()
    def work(
        db: Annotated[object, Resource("db")] = INJECTED,
        settings: Annotated[object, Resource("settings")] = INJECTED,
    ) -> None:
        together.wait(WAIT)
        seen.append((threading.get_ident(), id(db), id(settings)))

    with queue.worker():
        for job in work.map([()] * 12):
            job.result(timeout=WAIT)
    assert len(seen) == 12
    assert len({settings for _, _, settings in seen}) == 1
    threads = {thread for thread, _, _ in seen}
    assert len(threads) == len({(thread, db) for thread, db, _ in seen}) == 4
    lines = [line for line, _ in diary]
    assert lines.count("+settings") == lines.count("-settings") == 1
    assert {thread for line, thread in diary if line == "+db"} == threads
    assert {thread for line, thread in diary if line == "-db"} == threads
    assert lines.index("+settings") == 0
    assert lines[-1] == "-settings"


def test_coroutines_share_what_lives_on_the_loop(queue, diary):
    @queue.resource("client", scope="worker")
    async def client() -> AsyncIterator[object]:
        diary.append("+client")
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        yield loop
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is loop
        diary.append("-client")

    @queue.resource("session")
    async def session(client: Annotated[object, Resource("client")]) -> AsyncIterator[object]:
        diary.append("+session")
        await asyncio.sleep(0)
        yield client
        diary.append("-session")

    inside = []
    together = threading.Event()

    @queue.task()
    async def work(
        session: Annotated[object, Resource("session")],
        client: Annotated[object, Resource("client")],
    ) -> bool:
        inside.append(1)
        if len(inside) == 30:
            together.set()
        await asyncio.to_thread(together.wait, WAIT) if len(inside) == 1 else None
        return session is client is asyncio.get_running_loop()

    with queue.worker(async_concurrency=30):
        assert all(job.result(timeout=WAIT) for job in work.map([()] * 30))
    assert diary.count("+client") == 1
    assert diary.count("+session") == diary.count("-session") == 30
    assert diary[0] == "+client"
    assert diary[-1] == "-client"


def test_functions_and_coroutines_share_a_plain_resource_of_the_worker(queue, diary):
    @queue.resource("settings", scope="worker")
    def settings() -> Iterator[str]:
        diary.append("+settings")
        yield current_job.task_name
        diary.append("-settings")

    together = threading.Barrier(2)

    @queue.task("function")
    def function(settings: Annotated[str, Resource("settings")]) -> str:
        together.wait(WAIT)
        return settings

    @queue.task("coroutine")
    async def coroutine(settings: Annotated[str, Resource("settings")]) -> str:
        await asyncio.to_thread(together.wait, WAIT)
        return settings

    with queue.worker():
        jobs = [function.delay(), coroutine.delay()]
        first, second = (job.result(timeout=WAIT) for job in jobs)
    assert first == second
    assert diary == ["+settings", "-settings"]


def test_a_transaction_is_committed_exactly_if_the_attempt_succeeds(queue, tmp_path):
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table item (name text check (name <> 'refused'))")

    @queue.resource("connection", scope="thread")
    def connection() -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            yield connection

    @queue.resource("db")
    def db(
        connection: Annotated[sqlite3.Connection, Resource("connection")],
    ) -> Iterator[sqlite3.Connection]:
        with connection:
            yield connection
        if connection.execute("select 1 from item where name = 'too late'").fetchone():
            connection.execute("delete from item where name = 'too late'")
            connection.commit()
            raise OSError("the commit failed")

    @queue.task()
    def add(name: str, db: Annotated[sqlite3.Connection, Resource("db")] = INJECTED) -> object:
        db.execute("insert into item values (?)", (name,))
        if name == "broken":
            raise ValueError(name)
        return object() if name == "unreadable" else name

    with queue.worker():
        jobs = {
            name: add.delay(name)
            for name in ("good", "broken", "refused", "unreadable", "too late")
        }
        assert jobs.pop("good").result(timeout=WAIT) == "good"
        for job in jobs.values():
            with pytest.raises(JobFailedError):
                job.result(timeout=WAIT)
    with contextlib.closing(sqlite3.connect(path)) as check:
        assert check.execute("select name from item").fetchall() == [("good",)]


def test_what_is_in_use_lives_on_when_its_successor_is_made(queue, diary, caplog):
    @queue.resource("db", scope="worker", check=lambda value: value["usable"])
    def db() -> Iterator[dict[str, object]]:
        number = sum(line.startswith("+") for line in diary) + 1
        diary.append(f"+{number}")
        yield {"number": number, "usable": True}
        diary.append(f"-{number}")

    started, go_on = threading.Event(), threading.Event()

    @queue.task()
    def slow(db: Annotated[dict[str, object], Resource("db")]) -> object:
        started.set()
        assert go_on.wait(WAIT)
        diary.append("end of slow")
        return db["number"]

    @queue.task()
    def quick(db: Annotated[dict[str, object], Resource("db")]) -> object:
        number = db["number"]
        db["usable"] = False
        return number

    with caplog.at_level(logging.WARNING, "taskito.worker"), queue.worker():
        job = slow.delay()
        assert started.wait(WAIT)
        assert [quick.delay().result(timeout=WAIT) for _ in range(2)] == [1, 2]
        assert diary == ["+1", "+2"]
        go_on.set()
        assert job.result(timeout=WAIT) == 1
    assert diary == ["+1", "+2", "end of slow", "-1", "-2"]
    assert caplog.text.count("failed its check") == 1


def test_one_setup_at_a_time_and_the_next_attempt_tries_again(queue, diary):
    together = threading.Barrier(3)

    @queue.resource("db", scope="worker")
    def db() -> Iterator[int]:
        diary.append(1)
        if len(diary) == 1:
            raise ConnectionError("refused")
        yield len(diary)

    @queue.before_task
    def wait(*_: object) -> None:
        together.wait(WAIT)

    @queue.task()
    def work(db: Annotated[int, Resource("db")]) -> int:
        return db

    with queue.worker():
        results = []
        for job in work.map([()] * 3):
            with contextlib.suppress(JobFailedError):
                results.append(job.result(timeout=WAIT))
    assert results == [2, 2]
    assert len(diary) == 2


def test_an_attempt_that_was_given_up_is_not_committed(queue, diary):
    given_up, ended = threading.Event(), threading.Event()

    @queue.resource("db")
    def db() -> Iterator[None]:
        try:
            yield
            diary.append("commit")
        except BaseException as error:
            diary.append(type(error).__name__)
            raise
        finally:
            ended.set()

    @queue.task(timeout=0.1)
    def work(db: Annotated[None, Resource("db")]) -> None:
        assert given_up.wait(WAIT)

    with queue.worker():
        with pytest.raises(MaxRetriesExceededError):
            work.delay().result(timeout=WAIT)
        given_up.set()
        assert ended.wait(WAIT)
    assert diary == ["JobCancelledError"]


def test_a_cancelled_coroutine_rolls_back(queue, diary):
    started = threading.Event()

    @queue.resource("db")
    async def db() -> AsyncIterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            diary.append("rolled back")
            raise

    @queue.task()
    async def work(db: Annotated[None, Resource("db")]) -> None:
        started.set()
        await asyncio.sleep(3600)

    with queue.worker():
        job = work.delay()
        assert started.wait(WAIT)
        assert queue.cancel_running_job(job.id)
        with pytest.raises(TaskCancelledError):
            job.result(timeout=WAIT)
    assert diary == ["rolled back"]


def test_a_setup_whose_attempt_is_cancelled_is_taken_back(queue, diary):
    started = threading.Event()

    @queue.resource("db", scope="worker")
    async def db() -> AsyncIterator[str]:
        diary.append("+")
        try:
            if len(diary) == 1:
                started.set()
                await asyncio.sleep(3600)
            yield "db"
        finally:
            diary.append("-")

    @queue.task()
    async def work(db: Annotated[str, Resource("db")]) -> str:
        return db

    with queue.worker():
        job = work.delay()
        assert started.wait(WAIT)
        assert queue.cancel_running_job(job.id)
        with pytest.raises(TaskCancelledError):
            job.result(timeout=WAIT)
        assert work.delay().result(timeout=WAIT) == "db"
    assert diary == ["+", "-", "+", "-"]


def test_teardowns_that_fail_are_named_and_stop_no_others(queue, diary, caplog):
    def declare(name, scope):
        def resource() -> Iterator[str]:
            yield name
            diary.append(name)
            raise OSError(f"no end of {name}")

        async def coroutine() -> AsyncIterator[str]:
            yield name
            diary.append(name)
            raise OSError(f"no end of {name}")

        queue.resource(name, scope=scope)(coroutine if name.startswith("loop") else resource)

    for name, scope in [
        ("worker 1", "worker"),
        ("worker 2", "worker"),
        ("thread 1", "thread"),
        ("loop 1", "worker"),
        ("loop 2", "thread"),
    ]:
        declare(name, scope)

    @queue.task()
    async def work(
        a: Annotated[str, Resource("worker 1")],
        b: Annotated[str, Resource("worker 2")],
        c: Annotated[str, Resource("thread 1")],
        d: Annotated[str, Resource("loop 1")],
        e: Annotated[str, Resource("loop 2")],
    ) -> list[str]:
        return [a, b, c, d, e]

    with caplog.at_level(logging.ERROR, "taskito.worker"), queue.worker():
        assert len(work.delay().result(timeout=WAIT)) == 5
    assert diary == ["loop 2", "loop 1", "thread 1", "worker 2", "worker 1"]
    for name in diary:
        assert f"the teardown of resource '{name}' failed" in caplog.text
