"""Somebody sets the wall clock: running jobs neither time out nor run twice."""

from __future__ import annotations

import os
import struct
import time

import pytest
from taskito_processes.system import compile_clock_shim

pytestmark = pytest.mark.process

HOUR = 3_600
TASKS = """
@queue.task(max_retries=0, timeout=20)
def work(key):
    note("start", key)
    wait_for_file("go")
    note("end", key)
    return time.time()

@queue.task(max_retries=0)
def quick(key):
    note("start", key)
    return time.time()
"""


class WallClock:
    """Shifts the wall clock of every process that was started with its environment."""

    def __init__(self, folder):
        self._path = folder / "shift"
        self.shift(0)
        library = compile_clock_shim(folder)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(self._path)}

    def shift(self, seconds):
        # In place, since the file is mapped.
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(file, struct.pack("=q", seconds), 0)
        os.close(file)


@pytest.fixture(scope="module")
def wall_clock(tmp_path_factory):
    return WallClock(tmp_path_factory.mktemp("clock"))


@pytest.mark.parametrize("hours", [1, -1])
def test_running_jobs_run_once_when_the_clock_is_set(application, wall_clock, hours):
    wall_clock.shift(0)
    app = application(TASKS, lease=2.0)
    for name in ("first", "second"):
        app.worker(name=name, concurrency=2, environment=wall_clock.environment)
    producer = app.console("producer", environment=wall_clock.environment)
    ids = producer.ask("[work.delay(n).id for n in range(4)]")
    waiting = producer.ask("[quick.delay(f'waiting-{n}').id for n in range(3)]")
    app.evidence.wait_for("start", times=4)

    wall_clock.shift(hours * HOUR)
    assert abs(producer.ask("time.time()") - time.time() - hours * HOUR) < 60
    fresh = producer.ask("[quick.delay(f'fresh-{n}').id for n in range(3)]")
    time.sleep(3)  # what is watched: several steps of upkeep, and more than a lease
    app.create("go")
    app.wait_for_stats(completed=10)

    assert all(number == 1 for number in app.evidence.count("start").values())
    for job_id in ids + waiting + fresh:
        job = app.job(job_id)
        assert (job["status"], job["retry_count"], job["errors"]) == ("complete", 0, []), job
    # The workers did see the other time.
    assert all(abs(app.result(job) - time.time() - hours * HOUR) < 60 for job in ids)


def test_a_clock_that_swings_disturbs_nobody(application, wall_clock):
    wall_clock.shift(0)
    app = application(TASKS, lease=1.0)
    worker = app.worker(concurrency=4, environment=wall_clock.environment)
    producer = app.console("producer", environment=wall_clock.environment)
    ids = []
    for step in range(20):
        wall_clock.shift((-1) ** step * (step + 1) * 600)
        ids += producer.ask("[quick.delay(key).id]", key=f"swing-{step}")
        assert producer.ask("queue.get_job(id).result(timeout=10) > 0", id=ids[-1])
    app.wait_for_stats(completed=20)
    assert all(number == 1 for number in app.evidence.count("start").values())
    assert worker.is_alive()
    wall_clock.shift(0)
