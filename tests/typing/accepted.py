"""What a type checker has to accept. Checked with ``mypy --strict``, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Annotated, Any, assert_type

from taskito import INJECTED, Batch, JobResult, Middleware, Queue, Resource, Task, current_job
from taskito.context import CurrentJob

queue = Queue(db_path="tasks.db")


@queue.task()
def add(a: int, b: int = 0) -> int:
    return a + b


@queue.task
def plain(text: str) -> list[str]:
    return [text]


@queue.task(max_retries=5, retry_on=(OSError, ValueError), idempotent=True)
async def fetch(url: str, *, retries: int = 3) -> bytes:
    return url.encode() * retries


@queue.task
async def plain_fetch(url: str) -> bytes:
    return url.encode()


@queue.task("bound", bind=True, timeout=3)
def bound(job: CurrentJob, number: int) -> float:
    job.update_progress(50)
    return number / 2


@queue.task(batch=Batch(size=10), max_retries=1)
def index(documents: list[str]) -> list[int | BaseException]:
    return [len(document) for document in documents]


@queue.task(batch=Batch())
def lengths(documents: list[str]) -> list[int]:
    return [len(document) for document in documents]


@queue.task("fetch_all", batch=Batch(wait=0.1))
async def fetch_all(urls: list[str]) -> None: ...


@queue.resource("db", scope="worker", check=lambda db: db.is_open)
def db() -> Iterator[bytes]:
    yield b"db"


@queue.resource("client")
async def client(db: Annotated[bytes, Resource("db")]) -> AsyncIterator[str]:
    yield db.decode()


@queue.task(middleware=[Middleware()])
def injected(number: int, db: Annotated[bytes, Resource("db")] = INJECTED) -> bytes:
    return db * number


remote = queue.remote_task("elsewhere.work", queue="other", priority=5)

assert_type(add(1, b=2), int)
assert_type(add.delay(1, b=2), JobResult[int])
assert_type(add.delay(1).result(timeout=None), int)
assert_type(add.apply_async((1,), {"b": 2}, priority=3, delay=0.5), JobResult[int])
assert_type(add.map([(1, 2), (3, 4)]), list[JobResult[int]])
assert_type(plain.delay(text="x"), JobResult[list[str]])
assert_type(plain("x"), list[str])
assert_type(fetch.delay("x", retries=1), JobResult[bytes])
assert_type(plain_fetch.delay("x").result(), bytes)
assert_type(index.delay("one"), JobResult[int])
assert_type(index("one"), int)
assert_type(lengths.delay("one").result(), int)
assert_type(fetch_all.delay("one"), JobResult[None])
assert_type(bound.delay(1), JobResult[float])
assert_type(injected.delay(1), JobResult[bytes])
assert_type(injected(1, b"other"), bytes)
assert_type(remote.delay(1, "x", anything=None), JobResult[Any])
assert_type(queue.enqueue("x", depends_on=[add.delay(1), "id"]), JobResult[Any])
assert_type(queue.enqueue_many("x", [(1,)]), list[JobResult[Any]])
assert_type(queue.get_job("id"), JobResult[Any] | None)
assert_type(current_job.id, str)


async def coroutine() -> None:
    job = await add.adelay(1, b=2)
    assert_type(job, JobResult[int])
    assert_type(await job, int)
    coroutine_of_the_function: Coroutine[Any, Any, bytes] = fetch("x")
    assert_type(await coroutine_of_the_function, bytes)
    assert_type(await fetch.delay("x"), bytes)
    assert_type(await add.aapply_async((1,)), JobResult[int])
    assert_type(await job.aresult(timeout=3), int)
    assert_type(await queue.aenqueue("x", (1,), priority=3), JobResult[Any])
    assert_type(await queue.astats(), dict[str, int])


@queue.before_task
def announce(task_name: str, args: list[Any], kwargs: dict[str, Any]) -> None: ...


def takes(task: Task[[int], str]) -> JobResult[str]:
    return task.delay(1)
