from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time

import pytest

from taskito import SoftTimeoutError
from taskito.worker.soft_timeout import SoftTimeouts, with_soft_timeout


def spin():
    while True:
        sum(range(100))


def test_a_call_is_interrupted_where_it_is_and_may_clean_up():
    cleaned = []

    def work():
        try:
            spin()
        except SoftTimeoutError as error:
            cleaned.append(str(error))
            return "partly"

    assert SoftTimeouts().call(0.02, work) == "partly"
    assert cleaned == ["the attempt has run longer than the soft_timeout of its task"]


def test_a_call_that_lets_it_pass_fails_with_it():
    with pytest.raises(SoftTimeoutError):
        SoftTimeouts().call(0.02, spin)


def test_what_ends_in_time_is_left_alone():
    timeouts = SoftTimeouts()
    assert timeouts.call(60, lambda: 5) == 5
    with pytest.raises(KeyError):
        timeouts.call(60, lambda: {}["x"])


def test_many_short_calls_leave_nothing_behind():
    timeouts = SoftTimeouts()
    for _ in range(5_000):
        timeouts.call(3_600, int)
    assert len(timeouts._pending) < 200


def test_only_the_thread_whose_time_is_over_is_interrupted():
    timeouts = SoftTimeouts()
    ended = threading.Barrier(3)
    seen = {}

    def run(name, seconds, work):
        try:
            seen[name] = timeouts.call(seconds, work)
        except SoftTimeoutError:
            seen[name] = "interrupted"
        ended.wait(20)

    def patient():
        while "short" not in seen:
            time.sleep(0.001)
        return "done"

    for arguments in (("long", 60, patient), ("short", 0.02, spin)):
        threading.Thread(target=run, args=arguments, daemon=True).start()
    ended.wait(20)
    assert seen == {"long": "done", "short": "interrupted"}


@pytest.mark.parametrize("tracing", [False, True])
def test_an_end_at_that_very_moment_leaves_no_exception_behind(tracing):
    """The call lasts about as long as it may, again and again: the exception is in it, or nowhere.

    With a profiler as well: a taken-back exception would make CPython 3.11 spin under one.
    """
    timeouts = SoftTimeouts()
    seconds = 0.0004

    def work():
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            pass
        return True

    outcomes = set()
    problems = []

    def run():
        try:
            for _ in range(400):
                try:
                    outcomes.add(timeouts.call(seconds, work))
                except SoftTimeoutError:
                    outcomes.add(False)
                # Any exception that is still on its way would strike here.
                for _ in range(200):
                    pass
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    def profile(*_):
        return None

    thread = threading.Thread(target=run, daemon=True)
    if tracing:
        threading.setprofile(profile)
    try:
        thread.start()
    finally:
        threading.setprofile(None)
    thread.join(40)
    assert not thread.is_alive()
    assert problems == []
    assert outcomes == {True, False}


def test_a_coroutine_is_interrupted_where_it_waits():
    async def work():
        try:
            await asyncio.sleep(60)
        except SoftTimeoutError:
            await asyncio.sleep(0)
            return "cleaned up"

    assert asyncio.run(with_soft_timeout(0.01, work())) == "cleaned up"


def test_a_coroutine_that_lets_it_pass_fails_with_it():
    async def work():
        await asyncio.sleep(60)

    with pytest.raises(SoftTimeoutError):
        asyncio.run(with_soft_timeout(0.01, work()))


def test_a_coroutine_may_still_use_timeouts_and_groups_after_it():
    async def work():
        with contextlib.suppress(SoftTimeoutError):
            await asyncio.sleep(60)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        async with asyncio.TaskGroup() as group:
            inner = group.create_task(asyncio.sleep(0, "inner"))
        return inner.result()

    assert asyncio.run(with_soft_timeout(0.01, work())) == "inner"


def test_a_real_cancellation_stays_one():
    async def work():
        await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(with_soft_timeout(60, work()))
        await asyncio.sleep(0)
        task.cancel("stop")
        with pytest.raises(asyncio.CancelledError, match="stop"):
            await task

    asyncio.run(main())


def test_a_coroutine_that_ends_in_time_returns_what_it_does():
    async def work():
        await asyncio.sleep(0)
        return sys.intern("result")

    assert asyncio.run(with_soft_timeout(60, work())) == "result"
