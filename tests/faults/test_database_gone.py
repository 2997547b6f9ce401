"""The database is deleted or replaced under a worker: it ends and says so."""

from __future__ import annotations

import time

import pytest
from taskito_processes import RemoteError, report

pytestmark = pytest.mark.process

WITHIN = 10.0
TASKS = """
@queue.task(max_retries=0)
def work(key):
    note("start", key)
    return key

@queue.task(max_retries=0)
def waits(key):
    note("start", key)
    wait_for_file("go")
    note("end", key)
"""


def files_of(database):
    paths = [database.with_name(database.name + ending) for ending in ("", "-wal", "-shm")]
    return [path for path in paths if path.exists()]


def delete(app, tmp_path, application):
    for path in files_of(app.database):
        path.unlink()


def move_away(app, tmp_path, application):
    for path in files_of(app.database):
        path.rename(tmp_path / path.name)


def replace(app, tmp_path, application):
    """Put the database of another queue in its place, as a careless restore would."""
    other = application(TASKS, folder="other")
    console = other.console()
    console.ask("work.delay('of the other').id")
    console.process.close()
    delete(app, tmp_path, application)
    for path in files_of(other.database):
        path.rename(app.folder / path.name)


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("change", [delete, move_away, replace])
def test_a_worker_whose_database_is_gone_ends_with_the_reason(application, tmp_path, change, busy):
    app = application(TASKS)
    worker = app.worker("--drain-timeout", "1")
    producer = app.console("producer")
    producer.ask("work.delay('before').result(timeout=10)")
    if busy:
        producer.ask("waits.delay('busy').id")
        app.evidence.wait_for("start", "busy")

    change(app, tmp_path, application)
    began = time.monotonic()
    status = worker.wait(2 * WITHIN)
    taken = time.monotonic() - began
    report(f"ended after {taken:.2f} s")
    assert status == 1, worker.log()
    assert taken <= WITHIN
    reason = worker.log().splitlines()[-1]
    assert str(app.database) in reason
    assert "removed or replaced" in reason
    assert "Traceback" not in worker.log()

    # Who has the queue open does not go on in another file, neither the old nor the new one.
    for _ in range(3):
        with pytest.raises(RemoteError, match="removed or replaced") as refusal:
            producer.ask("work.delay('after').id")
        assert "DatabaseMovedError" in refusal.value.kinds
    assert app.database.exists() == (change is replace)
    if change is replace:
        letters = app.cli("jobs", "list")
        assert [job["status"] for job in letters] == ["pending"]
        assert app.cli("check")["backend"] == "sqlite"


def test_a_database_that_is_missing_beside_its_log_is_not_made_anew(application):
    """The log is the only place of what was accepted last: a new file would destroy it."""
    app = application(TASKS)
    worker = app.worker(name="worker")
    app.ask("work.delay('before').result(timeout=10)")
    worker.kill()
    app.database.unlink()
    assert app.database.with_name("tasks.db-wal").stat().st_size > 0
    with pytest.raises(RemoteError, match="log"):
        app.console("late").ask("work.delay('after').id")
    assert not app.database.exists()
