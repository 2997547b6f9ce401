"""Python's own ``sqlite3`` on the queue's file, in the processes that have the queue open."""

from __future__ import annotations

import signal
import time

import pytest
from taskito_processes import report

pytestmark = pytest.mark.process

TASKS = """
import random, sqlite3

@queue.task()
def work(number):
    note("start", number)
    return number

def open_and_close():
    connection = sqlite3.connect(DATABASE)
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.close()

def open_and_close_plainly():
    for name in (DATABASE, DATABASE + "-shm", DATABASE + "-wal"):
        with open(name, "rb"):
            pass
"""
FOREIGN = """
import sqlite3
connection = sqlite3.connect(path)
connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
connection.close()
"""
HAMMER = """
def enqueue_all_the_time():
    number = 0
    while True:
        if number % 50 == 49:
            acknowledge(*(job.id for job in work.map([(n,) for n in range(20)])))
        else:
            acknowledge(work.delay(number).id)
        number += 1

def use_the_other_library():
    while True:
        try:
            connection = sqlite3.connect(DATABASE, timeout=5)
            for _ in range(random.randint(1, 20)):
                tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                for (name,) in tables.fetchall():
                    connection.execute(f'SELECT * FROM "{name}" LIMIT 3').fetchall()
            connection.close()
            note("read", "all")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                note("trouble", str(error).replace(" ", "-"))
        except Exception as error:
            note("trouble", repr(error).replace(" ", "-"))
        if random.random() < 0.2:
            open_and_close_plainly()

threading.Thread(target=use_the_other_library, daemon=True).start()
enqueue_all_the_time()
"""

OPENING = """
def use_the_other_library():
    while True:
        try:
            open_and_close()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                note("trouble", str(error).replace(" ", "-"))

threading.Thread(target=use_the_other_library, daemon=True).start()
"""
OPENER = (
    OPENING
    + """
for number in range(20):
    acknowledge(work.delay(number).id)
os.kill(os.getpid(), signal.SIGKILL)
"""
)
VISITOR = (
    OPENING
    + """
threading.Event().wait()
"""
)


@pytest.mark.parametrize("touch", ["open_and_close()", "open_and_close_plainly()"])
def test_the_lost_fifty_are_not_lost(application, touch):
    """The smallest scenario in which 50 of 50 acknowledged jobs used to vanish."""
    app = application(TASKS)
    producer = app.console("producer")
    first = producer.ask("work.delay(0).id")
    producer.ask(touch)  # drops every POSIX lock of that process
    app.stranger().run(FOREIGN, path=str(app.database))  # believes to be the last one
    ids = producer.ask("[work.delay(n).id for n in range(1, 51)]")

    assert app.missing([first, *ids]) == []
    assert app.stats()["pending"] == 51
    assert app.cli("check")["backend"] == "sqlite"
    app.worker(concurrency=2)
    app.wait_for_stats(completed=51)


def test_the_lost_fifty_are_not_lost_when_the_other_library_comes_first(application):
    app = application(TASKS)
    app.ask("work.delay(0).id")
    producer = app.console("producer")
    producer.run("kept = sqlite3.connect(DATABASE)")
    producer.ask("kept.execute('SELECT count(*) FROM sqlite_master').fetchone()")
    before = producer.ask("[work.delay(n).id for n in range(25)]")
    producer.run("kept.close()")
    app.stranger().run(FOREIGN, path=str(app.database))
    after = producer.ask("[work.delay(n).id for n in range(25)]")
    assert app.missing(before + after) == []
    assert app.stats()["pending"] == 51
    assert app.cli("check")["backend"] == "sqlite"


def test_nothing_is_lost_when_the_queue_is_opened_beside_the_other_library(application, thorough):
    """Before its queue is open, too, a process must not lose what it is about to accept."""
    app = application(TASKS, durability="normal")
    app.cli("check")
    for number in range(2):
        app.script(VISITOR, name=f"visitor-{number}")
    for number in range(100 if thorough else 12):
        opener = app.script(OPENER, name=f"opener-{number}")
        assert opener.wait(20) == -signal.SIGKILL, opener.log()
    acknowledged = app.acknowledged()
    assert len(acknowledged) % 20 == 0
    missing = app.missing(acknowledged)
    assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged jobs are lost"
    assert app.evidence.events("trouble") == []
    assert app.stats()["pending"] == len(acknowledged)


def test_nothing_is_lost_when_both_libraries_work_at_once_and_processes_are_killed(
    application, thorough
):
    app = application(TASKS, durability="normal")
    app.cli("check")  # the file exists before the other library looks for it
    producers = [app.script(HAMMER, name=f"hammer-{number}") for number in range(3)]
    kills = 60 if thorough else 9
    for number in range(kills):
        before = len(app.acknowledged())
        until = time.monotonic() + 1
        while time.monotonic() < until or len(app.acknowledged()) < before + 10:
            time.sleep(0.05)
            assert time.monotonic() < until + 20, "nobody gets anything stored any more"
        victim = producers[number % 3]
        assert victim.is_alive(), victim.log()
        victim.kill()
        producers[number % 3] = app.script(HAMMER, name=f"hammer-{number % 3}-{number}")
    for producer in producers:
        assert producer.is_alive(), producer.log()
        producer.kill()

    acknowledged = app.acknowledged()
    trouble = [event.key for event in app.evidence.events("trouble")]
    reads = len(app.evidence.events("read"))
    report(f"{len(acknowledged)} jobs acknowledged, {reads} visits of the other library")
    assert trouble == []
    assert reads > 20
    assert len(set(acknowledged)) == len(acknowledged)
    assert app.missing(acknowledged) == []
    assert app.cli("check")["backend"] == "sqlite"
    # At most one batch per kill was stored without its acknowledgement.
    assert app.stats()["pending"] - len(acknowledged) <= 20 * (kills + 3)
