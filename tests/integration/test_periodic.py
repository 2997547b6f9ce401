"""Periodic tasks in real workers: on time, once per fire, through restarts, by the command line."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from taskito_processes import report, wait_until

pytestmark = pytest.mark.process

THOROUGH = bool(os.environ.get("TASKITO_THOROUGH"))
SECONDS = 60 if THOROUGH else 10
TASKS = """
@queue.periodic("* * * * * *", "tick", catch_up={catch_up!r})
def tick():
    note("start", int(current_job.fire_time.timestamp()))

def fires():
    from taskito.backends import params
    page = queue.backend.list(params.ListRequest(task="tick", limit=10_000))
    return [job.fire_ms // 1_000 for job in reversed(page.jobs)]
"""


@pytest.mark.timing
def test_each_second_fires_within_a_fifth_of_it(application):
    app = application(TASKS.format(catch_up="once"))
    app.worker(concurrency=1)
    # The clock of the evidence is monotonic; the difference to wall time is the same all along.
    difference = time.time() - time.monotonic()
    time.sleep(32)
    late = [event.at + difference - int(event.key) for event in app.evidence.starts()][-30:]
    report(f"30 fires in 30 s: latest {max(late) * 1e3:.1f} ms after its second")
    assert len(late) == 30
    assert 0 <= min(late) <= max(late) <= 0.2


def test_an_idle_worker_fires_each_second_once(application):
    app = application(TASKS.format(catch_up="all"))
    app.worker(concurrency=1)
    wait_until(lambda: len(app.evidence.starts()) >= 4, 20, lambda: "four fires")
    seconds = [int(event.key) for event in app.evidence.starts()]
    assert seconds == list(range(seconds[0], seconds[0] + len(seconds)))


def test_no_fire_is_missing_or_doubled_while_workers_come_and_go(application):
    generator = random.Random(5)
    app = application(TASKS.format(catch_up="all"))
    workers = [app.worker(concurrency=1, name=f"worker-{number}") for number in range(3)]
    deadline = time.monotonic() + SECONDS
    number = 3
    while time.monotonic() < deadline:
        time.sleep(generator.uniform(0.2, 1.5))
        index = generator.randrange(3)
        if generator.random() < 0.5:
            workers[index].kill()
        else:
            workers[index].signal(signal.SIGTERM)
            workers[index].wait(20)
        workers[index] = app.worker(concurrency=1, name=f"worker-{number}")
        number += 1
    enough = len(app.ask("fires()"))
    wait_until(lambda: len(app.ask("fires()")) > enough, 20, lambda: "another fire")
    made = app.ask("fires()")
    assert made == list(range(made[0], made[0] + len(made)))
    assert len(made) >= SECONDS - 2


def test_runs_that_were_missed_are_made_good_once_after_a_restart(application):
    app = application(TASKS.format(catch_up="once"))
    worker = app.worker(concurrency=1)
    wait_until(app.evidence.starts, 20, lambda: "a fire")
    worker.signal(signal.SIGTERM)
    worker.wait(20)
    before = app.ask("fires()")
    time.sleep(12)  # more than a fire may be late
    app.worker(concurrency=1, name="again")
    wait_until(lambda: len(app.ask("fires()")) >= len(before) + 3, 20, lambda: "three fires")
    after = app.ask("fires()")[len(before) :]
    assert after[0] - before[-1] >= 12
    assert after == list(range(after[0], after[0] + len(after)))


def test_the_command_line_lists_pauses_resumes_and_triggers(application):
    app = application(
        """
        @queue.periodic("@yearly", "report", timezone="Europe/Paris")
        def report():
            note("start", "report")
        """
    )
    worker = app.worker(concurrency=1)
    [schedule] = app.cli("periodic", "list")
    assert (schedule["name"], schedule["declared"], schedule["runs"]) == ("report", True, 0)
    assert app.cli("periodic", "pause", "report") == {"paused": "report"}
    assert app.cli("periodic", "list")[0]["paused"]
    triggered = app.cli("periodic", "trigger", "report")
    app.evidence.wait_for("start", "report")
    app.wait_for_status(triggered["job"], "complete")
    assert app.cli("periodic", "resume", "report") == {"resumed": "report"}
    worker.signal(signal.SIGTERM)
    worker.wait(20)
    [schedule] = app.cli("periodic", "list")
    assert (schedule["declared"], schedule["paused"], schedule["runs"]) == (False, False, 1)


def test_a_schedule_whose_code_is_gone_is_told_by_other_workers(application):
    old = application(TASKS.format(catch_up="once"))
    worker = old.worker(concurrency=1)
    wait_until(old.evidence.starts, 20, lambda: "a fire")
    worker.signal(signal.SIGTERM)
    worker.wait(20)
    (old.folder / "other.py").write_text(
        f"from taskito import Queue\nqueue = Queue(db_path={str(old.database)!r})\n"
    )
    old.module = "other"
    other = old.worker(concurrency=1, name="other")
    other.wait_for_log(r"the schedule .tick. does not fire")
