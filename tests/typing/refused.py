"""What a type checker has to refuse: the lines that end with an error, and no other."""

from __future__ import annotations

from taskito import Queue

queue = Queue()
queue_with_wrong_path = Queue(db_path=5)  # E: arg-type


@queue.task()
def add(a: int, b: int = 0) -> int:
    return a + b


@queue.task
async def fetch(url: str) -> bytes:
    return url.encode()


@queue.task(bind=True)
def bound(job: object, number: int) -> float:
    return number / 2


add.delay("1")  # E: arg-type
add.delay()  # E: call-arg
add.delay(1, c=2)  # E: call-arg
add(1, 2, 3)  # E: call-arg
fetch.delay(5)  # E: arg-type
bound.delay("x")  # E: arg-type
text: str = add.delay(1).result()  # E: assignment
content: str = fetch.delay("x").result()  # E: assignment
queue.task(middleware=[1])  # E: list-item
queue.resource("db", scope="queue")  # E: arg-type
queue.task(max_retrys=1)  # E: call-overload
queue.task(max_retries="1")  # E: call-overload
queue.remote_task("x", max_retrys=1)  # E: call-arg
queue.enqueue("x", delay="soon")  # E: arg-type
queue.enqueue("x", prio=1)  # E: call-arg


async def coroutine() -> None:
    (await add.delay(1)).upper()  # E: attr-defined
    await add.adelay("1")  # E: arg-type
    await queue.aenqueue("x", delay="soon")  # E: arg-type
