"""``queue.lock``: one holder, extended in time, told when it is lost."""
# ruff: noqa: PT012 - what is tested is the whole block

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from taskito import (
    CapabilityError,
    ConfigurationError,
    LockLostError,
    LockTimeoutError,
    Queue,
)
from taskito.backends import Capabilities
from taskito.backends.memory import MemoryBackend


@pytest.fixture(params=["sqlite", "memory"])
def queue(request, tmp_path):
    store = (
        {"db_path": tmp_path / "tasks.db"}
        if request.param == "sqlite"
        else {"backend": "memory://"}
    )
    with Queue(**store) as queue:
        yield queue


def test_one_holder_at_a_time_and_tokens_grow(queue):
    with queue.lock("a") as first:
        with pytest.raises(LockTimeoutError, match="'a'"):
            queue.lock("a", timeout=0).__enter__()
        with queue.lock("b", timeout=0):
            pass
        first.check()
        token = first.token
    with queue.lock("a", timeout=0) as second:
        assert second.token > token


def test_the_lock_timeout_is_a_timeout_error_and_nothing_is_held_then(queue):
    with queue.lock("a"), pytest.raises(TimeoutError):
        queue.lock("a", timeout=0.05).__enter__()
    with queue.lock("a", timeout=0):
        pass


def test_a_waiter_gets_the_lock_when_it_is_released(queue):
    order = []

    def wait():
        with queue.lock("a", timeout=20):
            order.append("waiter")

    with queue.lock("a"):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
        order.append("holder")
    thread.join(20)
    assert order == ["holder", "waiter"]


def test_threads_that_race_never_hold_it_together(queue):
    inside, most, done = [], [], []

    def race():
        for _ in range(10):
            with queue.lock("a", timeout=30):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                done.append(1)

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(done), max(most)) == (40, 1)


def test_it_is_extended_while_its_block_runs(queue):
    with queue.lock("a", ttl=0.2) as lock:
        for _ in range(8):
            time.sleep(0.1)
            lock.check()
            with pytest.raises(LockTimeoutError):
                queue.lock("a", timeout=0).__enter__()


def test_a_lost_lock_is_told_by_check_and_at_the_end_of_the_block(queue):
    lock = queue.lock("a", ttl=0.3)
    with pytest.raises(LockLostError, match="before the end of its block"), lock:
        # Somebody took it away: what a pause longer than the ttl comes to.
        queue.backend.release_lock("a", lock.token)
        deadline = time.monotonic() + 20
        with pytest.raises(LockLostError, match="'a'"):
            while time.monotonic() < deadline:
                lock.check()
                time.sleep(0.01)


def test_an_exception_in_the_block_goes_first(queue):
    with pytest.raises(ValueError, match="mine") as caught, queue.lock("a") as lock:
        queue.backend.release_lock("a", lock.token)
        raise ValueError("mine")
    assert any("lost" in note for note in caught.value.__notes__)


def test_outside_its_block_there_is_no_token(queue):
    lock = queue.lock("a")
    for use in (lock.check, lambda: lock.token):
        with pytest.raises(RuntimeError, match="not held"):
            use()


def test_one_object_is_not_entered_twice(queue):
    with queue.lock("a") as lock, pytest.raises(ConfigurationError, match="in use already"):
        lock.__enter__()


def test_one_object_can_be_used_again(queue):
    lock = queue.lock("a", timeout=0)
    with lock:
        first = lock.token
    with lock:
        assert lock.token > first


def test_locks_are_listed(queue):
    with queue.lock("b") as lock, queue.lock("a"):
        listed = queue.locks()
        assert [one["name"] for one in listed] == ["a", "b"]
        assert listed[1]["token"] == lock.token
        assert str(os.getpid()) in listed[0]["owner"]
        assert 0 < listed[0]["expires_in"] <= 30
    assert queue.locks() == []


def test_a_closed_queue_tells_the_holder_and_keeps_others_out_until_the_end_of_the_ttl(tmp_path):
    queue, other = (Queue(db_path=tmp_path / "tasks.db") for _ in range(2))
    with pytest.raises(LockLostError, match="closed"), queue.lock("a", ttl=60) as lock:
        queue.close()
        with pytest.raises(LockLostError, match="closed"):
            lock.check()
        with pytest.raises(LockTimeoutError):
            other.lock("a", timeout=0).__enter__()
    other.close()


def test_namespaces_do_not_share_locks(tmp_path):
    queues = [Queue(db_path=tmp_path / "tasks.db", namespace=name) for name in "ab"]
    with queues[0].lock("l"), queues[1].lock("l", timeout=0):
        assert len(queues[0].locks()) == len(queues[1].locks()) == 1
    for queue in queues:
        queue.close()


def test_a_forked_child_neither_holds_nor_releases_it(tmp_path):
    queue = Queue(db_path=tmp_path / "tasks.db")
    with queue.lock("a") as lock:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                lock.check()
            except LockLostError:
                lock.__exit__(None, None, None)
                status = 0
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        lock.check()
        with pytest.raises(LockTimeoutError):
            queue.lock("a", timeout=0).__enter__()
    queue.close()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "a", "ttl": 0}, "ttl"),
        ({"name": "a", "ttl": 86_401}, "ttl"),
        ({"name": "a", "ttl": float("nan")}, "ttl"),
        ({"name": "a", "timeout": -1}, "timeout"),
    ],
)
def test_wrong_arguments_are_named(memory_queue, arguments, named):
    with pytest.raises(ConfigurationError, match=named):
        memory_queue.lock(**arguments)


def test_a_backend_without_locks_says_so():
    class Plain(MemoryBackend):
        name = "plain"
        capabilities = Capabilities()

    with Queue(backend=Plain()) as queue:
        for use in (lambda: queue.lock("a"), queue.locks):
            with pytest.raises(CapabilityError, match="'locks'"):
                use()


# Coroutines ---------------------------------------------------------------------------------------


def test_coroutines_wait_without_blocking_the_loop(queue):
    async def main():
        inside, order = 0, []

        async def work(number):
            nonlocal inside
            async with queue.lock("a", timeout=30) as lock:
                inside += 1
                assert inside == 1
                await asyncio.sleep(0.01)
                lock.check()
                inside -= 1
                order.append(number)

        # More than there are operation threads: waiting holds none.
        await asyncio.gather(*(work(number) for number in range(12)))
        return order

    assert sorted(asyncio.run(main())) == list(range(12))
    assert queue.locks() == []


def test_a_coroutine_is_refused_after_its_timeout(queue):
    async def main():
        async with queue.lock("a"):
            with pytest.raises(LockTimeoutError):
                await queue.lock("a", timeout=0.05).__aenter__()

    asyncio.run(main())


def test_a_cancelled_coroutine_leaves_no_lock_behind(queue, monkeypatch):
    acquiring, go_on = threading.Event(), threading.Event()
    acquire = queue.backend.acquire_lock

    def slowly(request):
        acquiring.set()
        go_on.wait(20)
        return acquire(request)

    monkeypatch.setattr(queue.backend, "acquire_lock", slowly)

    async def main():
        task = asyncio.create_task(queue.lock("a").__aenter__())
        await asyncio.to_thread(acquiring.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        deadline = time.monotonic() + 20
        await asyncio.sleep(0.05)
        while queue.locks():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    asyncio.run(main())
