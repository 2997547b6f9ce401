"""While another process holds the write lock, other threads of a producer go on."""

from __future__ import annotations

import pytest
from taskito_processes import report

pytestmark = pytest.mark.process

HOLD = 2.0
PAUSE_BOUND = 0.050
SLACK = 4
TASKS = """
@queue.task()
def work(number):
    return number

class Ticker(threading.Thread):
    # Looks at the clock every millisecond and remembers the longest time between two looks.
    def __init__(self):
        super().__init__(daemon=True)
        self.longest = 0.0
        self.ticks = 0
        self.ended = False

    def run(self):
        last = time.monotonic()
        while not self.ended:
            time.sleep(0.001)
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            self.ticks += 1
            last = now

def delay_beside_a_ticker():
    ticker = Ticker()
    ticker.start()
    note("waiting", "lock")
    began = time.monotonic()
    id = work.delay(1).id
    taken = time.monotonic() - began
    ticker.ended = True
    ticker.join()
    return {"id": id, "taken": taken, "longest": ticker.longest, "ticks": ticker.ticks}
"""
LOCK = """
import sqlite3, threading
connection = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
connection.execute("PRAGMA wal_autocheckpoint = 0")
"""


def delay_while_the_lock_is_held(app, seconds):
    producer = app.console("producer")
    producer.ask("work.delay(0).id")
    holder = app.stranger("holder")
    holder.run(LOCK, path=str(app.database))
    holder.run("connection.execute('BEGIN IMMEDIATE')")
    producer.send("delay_beside_a_ticker()")
    app.evidence.wait_for("waiting", "lock")
    # Given back by a timer in its own process, so that nothing here has to be punctual.
    holder.run(f"threading.Timer({seconds}, connection.execute, ['ROLLBACK']).start()")
    found = producer.receive()
    assert found["taken"] >= seconds * 0.9
    assert app.ask("queue.get_job(id).status", id=found["id"]) == "pending"
    return found


def test_a_delay_succeeds_when_the_lock_is_given_back(application):
    found = delay_while_the_lock_is_held(application(TASKS), HOLD)
    # The ticker ran all the time; how punctually is the business of the timing test.
    assert found["ticks"] > 100


@pytest.mark.timing
def test_a_delay_that_waits_for_the_lock_does_not_stall_other_threads(application):
    found = delay_while_the_lock_is_held(application(TASKS), HOLD)
    report(f"longest pause of another thread: {found['longest'] * 1e3:.1f} ms")
    assert found["longest"] <= SLACK * PAUSE_BOUND
