"""Limits over several worker processes, watched from outside."""

from __future__ import annotations

import signal
import time

import pytest
from taskito_processes.processes import wait_until

pytestmark = pytest.mark.process

KEYS = 5
MOST = 2
TASKS = f"""
@queue.task(max_concurrent={MOST}, concurrency_key=lambda key: f"key-{{key}}", max_crashes=50)
def counted(key):
    note("start", key)
    time.sleep(0.02)
    note("end", key)

@queue.task(rate_limit="40/s burst 5")
def rated(number):
    note("rated", number)

@queue.task(rate_limit="1/h", priority=100)
def hourly():
    note("hourly", 0)

@queue.task
def free(number):
    note("free", number)
    time.sleep(0.001)
"""


def most_at_a_time(evidence, key, killed=()):
    """Return how many runs of a key were inside their body at a time.

    ``killed`` has the process ids and times of workers that were killed: their runs ended then.
    """
    running, most = set(), 0
    for event in evidence.events(key=key):
        for pid, at in killed:
            if event.at > at:
                running = {run for run in running if run[0] != pid}
        run = (event.pid, event.token)
        running = running | {run} if event.name == "start" else running - {run}
        most = max(most, len(running))
    return most


def test_a_key_never_runs_more_often_at_a_time_than_allowed(application):
    app = application(TASKS)
    for number in range(3):
        app.worker(name=f"worker-{number}", concurrency=4)
    jobs = 120
    app.ask("[counted.delay(number % 5).id for number in range(120)]")
    app.wait_for_stats(completed=jobs, timeout=40)
    assert max(most_at_a_time(app.evidence, key) for key in range(KEYS)) == MOST
    assert len(app.evidence.starts()) == jobs


def test_no_slot_is_lost_when_workers_are_killed(application):
    app = application(TASKS, lease=2.0)
    workers = [app.worker(name=f"worker-{number}", concurrency=4) for number in range(2)]
    jobs, killed = 60, []
    app.ask("[counted.delay(number % 5).id for number in range(60)]")
    for number in range(3):
        wait_until(lambda n=number: len(app.evidence.starts()) > 10 * n + 5, 20, "starts")
        victim = workers.pop(0)
        victim.signal(signal.SIGKILL)
        victim.wait(10)
        killed.append((victim.pid, time.monotonic()))
        workers.append(app.worker(name=f"later-{number}", concurrency=4))
    app.wait_for_stats(completed=jobs, timeout=50)
    assert max(most_at_a_time(app.evidence, key, killed) for key in range(KEYS)) <= MOST
    # What is left: no slot is taken, and as many as allowed can start at once.
    assert app.ask("[row.running for row in queue.backend.limits()]") == [0, 0, 0]
    app.ask("[counted.delay(0).id for _ in range(4)]")
    app.wait_for_stats(completed=jobs + 4, timeout=20)
    assert app.cli("check")["integrity"] == "ok"


def test_a_rate_holds_over_all_workers_and_is_used_up(application):
    app = application(TASKS)
    for number in range(3):
        app.worker(name=f"worker-{number}", concurrency=2)
    jobs = 100
    began = time.monotonic()
    app.ask("len(rated.map([(number,) for number in range(100)]))")
    app.wait_for_stats(completed=jobs, timeout=30)
    times = sorted(event.at for event in app.evidence.events("rated"))
    # 5 at once, and the other 95 at 40 per second; a start comes a moment after its claim.
    late = 0.5
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            window = times[last] - begin + late
            assert last - first + 1 <= 5 + 40 * window
    assert times[-1] - began >= 95 / 40 - 0.001


def test_ten_thousand_parked_jobs_do_not_keep_others_waiting(application):
    app = application(TASKS)
    app.ask("len(hourly.map([()] * 10_000))", timeout=60)
    app.worker(concurrency=2)
    app.evidence.wait_for("hourly", 0)
    app.ask("len(free.map([(number,) for number in range(50)]))")
    app.wait_for_stats(pending=9_999, completed=51, timeout=20)
    assert len(app.evidence.events("free")) == 50
    assert len(app.evidence.events("hourly")) == 1


def test_a_pause_means_that_nothing_starts_after_it_returned(application):
    app = application(TASKS)
    for number in range(3):
        app.worker(name=f"worker-{number}", concurrency=2)
    # Ready before there is work, or all of it is done before it can pause anything.
    console = app.console("operator")
    console.ask("queue.stats()")
    app.ask("len(free.map([(number,) for number in range(10_000)]))", timeout=60)
    wait_until(lambda: app.evidence.events("free"), 20, "starts")
    returned = console.ask("(queue.pause(), time.monotonic())[1]")
    time.sleep(1)
    started = app.evidence.events("free")
    assert len(started) < 10_000, "all of them had run before the pause"
    assert max(event.at for event in started) <= returned
    console.ask("queue.resume()")
    app.wait_for_stats(completed=10_000, timeout=50)
