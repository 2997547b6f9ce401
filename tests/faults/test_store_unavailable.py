"""The store cannot be written when a task ends: its outcome is kept until it can."""

from __future__ import annotations

import time

import pytest
from taskito_processes import RemoteError
from taskito_processes.system import small_disk

pytestmark = pytest.mark.process

TASKS = """
@queue.task(max_retries=0)
def work(key, size=1):
    note("start", key)
    wait_for_file("go")
    note("end", key)
    return "x" * size

@queue.task(max_retries=3, retry_jitter=False, retry_backoff=0.1)
def fails_once(key):
    note("start", key)
    wait_for_file("go")
    note("end", key)
    if is_first(key):
        raise ValueError("once")
    return "second"
"""
LOCK = """
import sqlite3
connection = sqlite3.connect(path, isolation_level=None, timeout=10)
connection.execute("PRAGMA wal_autocheckpoint = 0")
connection.execute("BEGIN IMMEDIATE")
"""


def lock_store(app):
    """Hold the write lock by another program; returns what holds it."""
    stranger = app.stranger()
    stranger.run(LOCK, path=str(app.database))
    return stranger


def unlock_store(stranger):
    stranger.run("connection.execute('ROLLBACK')")


@pytest.mark.parametrize("task", ["work", "fails_once"])
def test_an_outcome_waits_for_a_write_lock_that_is_held_for_long(application, thorough, task):
    seconds = 30 if thorough else 4
    app = application(TASKS, busy_timeout=1.0)
    worker = app.worker()
    job_id = app.ask(f"{task}.delay('key').id")
    app.evidence.wait_for("start", "key")
    app.worker(name="other")

    stranger = lock_store(app)
    app.create("go")
    app.evidence.wait_for("end", "key")
    worker.wait_for_log(r"ERROR taskito\.worker: [^\n]*tried again", timeout=20)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert app.ask("queue.get_job(id).status", id=job_id) == "running"
        time.sleep(0.2)
    unlock_store(stranger)

    job = app.wait_for_status(job_id, "complete")
    worker.wait_for_log("the store works again")
    if task == "work":
        assert len(app.evidence.starts("key")) == 1
        assert (app.result(job_id), job["errors"]) == ("x", [])
    else:
        # The failure was stored, so that the retry knew of it.
        assert len(app.evidence.starts("key")) == 2
        assert [error["kind"] for error in job["errors"]] == ["failure"]
        assert (app.result(job_id), job["retry_count"]) == ("second", 1)


def test_a_finished_job_does_not_run_again_when_the_lock_is_held_longer_than_its_lease(
    application,
):
    app = application(TASKS, busy_timeout=0.5, lease=1.0)
    holder = app.worker(name="holder")
    job_id = app.ask("work.delay('key').id")
    app.evidence.wait_for("start", "key")
    # Whoever gets the lock first afterwards, it must not be too early to take the job back.
    for number in range(2):
        app.worker(name=f"other-{number}")
    stranger = lock_store(app)
    app.create("go")
    app.evidence.wait_for("end", "key")
    # Nobody can renew a lease or take one over meanwhile.
    holder.wait_for_log(r"ERROR taskito\.worker: [^\n]*tried again")
    time.sleep(4)
    unlock_store(stranger)
    app.wait_for_status(job_id, "complete")
    assert len(app.evidence.starts("key")) == 1, "a finished job ran again"


def test_producers_wait_for_the_lock_and_then_say_who_has_it(application):
    app = application(TASKS, busy_timeout=0.5)
    assert app.stats()["pending"] == 0
    stranger = lock_store(app)
    began = time.monotonic()
    with pytest.raises(RemoteError, match="write lock") as refusal:
        app.ask("work.delay('refused').id")
    assert time.monotonic() - began >= 0.5
    assert "StorageBusyError" in refusal.value.kinds
    assert str(app.database) in str(refusal.value)
    unlock_store(stranger)
    assert app.stats()["pending"] == 0
    app.ask("work.delay('accepted').id")
    assert app.stats()["pending"] == 1


def test_an_outcome_waits_for_room_on_a_full_disk(application, tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        if disk is None:
            pytest.skip("needs the right to mount a tmpfs")
        app = application(TASKS, database=disk / "tasks.db")
        worker = app.worker()
        job_id = app.ask("work.delay('key', 500_000).id")
        app.evidence.wait_for("start", "key")
        fill(disk / "filler")

        before = app.stats()
        with pytest.raises(RemoteError, match="full") as refusal:
            app.ask("work.delay('x' * 800_000).id")
        assert "StorageFullError" in refusal.value.kinds
        assert app.stats() == before

        app.create("go")
        app.evidence.wait_for("end", "key")
        worker.wait_for_log(r"ERROR [^\n]*disk is full")
        assert app.job(job_id)["status"] == "running"
        (disk / "filler").unlink()

        app.wait_for_status(job_id, "complete")
        assert len(app.result(job_id)) == 500_000
        assert len(app.evidence.starts("key")) == 1
        assert worker.is_alive()
        assert app.cli("check")["backend"] == "sqlite"
        # Nothing of it stays open: the file system can be given back.
        app.processes.close()


def fill(path):
    """Write until the disk is full, to the last byte."""
    with path.open("wb", buffering=0) as stream:
        for size in (65_536, 4_096, 1):
            try:
                while True:
                    stream.write(b"\0" * size)
            except OSError:
                continue
