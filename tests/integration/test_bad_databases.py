"""What is not a queue's database is refused with a reason and left as it is."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from taskito_processes import RemoteError
from taskito_processes.application import TASKITO
from taskito_processes.processes import child_environment

pytestmark = pytest.mark.process

TASKS = """
@queue.task()
def work(number):
    note("start", number)
"""
STRANGERS_DATABASE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("CREATE TABLE customer (name TEXT)")
connection.execute("INSERT INTO customer VALUES ('Ada')")
connection.execute(f"PRAGMA journal_mode = {sys.argv[2]}")
connection.commit()
connection.close()
"""


def fingerprint(path):
    """What changes if anybody touches the file, or leaves something beside it."""
    facts = path.stat()
    beside = sorted(other.name for other in path.parent.glob(f"{path.name}*"))
    if path.is_dir():
        return sorted(path.iterdir()), beside
    return hashlib.sha256(path.read_bytes()).hexdigest(), facts.st_mtime_ns, facts.st_mode, beside


def assert_refused(app, kind, *words, obeys_permissions=False):
    """Producers get the exception, with the path; workers end with the reason."""
    path = app.database
    before = fingerprint(path) if path.exists() else None
    console = app.console(obeys_permissions=obeys_permissions)
    for code in ("work.delay(1).id", "queue.stats()"):
        with pytest.raises(RemoteError) as refusal:
            console.ask(code)
        assert kind in refusal.value.kinds, refusal.value
        assert "StorageError" in refusal.value.kinds
        message = str(refusal.value)
        assert str(path) in message
        assert all(word in message for word in words), message
    console.process.close()
    if not obeys_permissions:
        worker = app.worker(ready=False)
        assert worker.wait(20) == 1
        assert str(path) in worker.log()
        assert "Traceback" not in worker.log()
    assert (fingerprint(path) if path.exists() else None) == before


def test_a_folder_is_refused(application):
    app = application(TASKS)
    app.database.mkdir()
    (app.database / "keep").write_text("this")
    assert_refused(app, "StorageError")
    assert (app.database / "keep").read_text() == "this"


@pytest.mark.parametrize("content", [b"# Shopping list\n" + b"- bread\n" * 100, b"short"])
def test_some_other_file_is_refused(application, content):
    app = application(TASKS)
    app.database.write_bytes(content)
    assert_refused(app, "DatabaseCorruptError")
    assert app.database.read_bytes() == content


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_the_database_of_another_application_is_refused(application, journal_mode):
    app = application(TASKS)
    subprocess.run(
        [sys.executable, "-c", STRANGERS_DATABASE, str(app.database), journal_mode], check=True
    )
    assert_refused(app, "DatabaseCorruptError")


def test_a_file_that_cannot_be_written_is_refused(application):
    app = application(TASKS)
    console = app.console()
    console.ask("work.delay(1).id")
    console.process.close()
    app.database.chmod(0o400)
    assert_refused(app, "DatabaseReadOnlyError", "permission", obeys_permissions=True)


def test_a_folder_that_cannot_be_written_is_refused(application, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    app = application(TASKS, database=folder / "tasks.db")
    folder.chmod(0o500)
    try:
        assert_refused(app, "DatabaseReadOnlyError", "permission", obeys_permissions=True)
        assert not list(folder.iterdir())
    finally:
        folder.chmod(0o700)


def test_a_damaged_database_is_refused(application):
    app = application(TASKS)
    console = app.console()
    console.ask("[work.delay(n).id for n in range(50)] and 1")
    console.process.close()
    for path in app.folder.glob("tasks.db-*"):
        if path.is_file():
            path.unlink()
    data = bytearray(app.database.read_bytes())
    data[:100] = b"\xa5" * 100
    app.database.write_bytes(data)
    assert_refused(app, "DatabaseCorruptError")


def test_a_command_says_in_one_line_what_is_wrong_with_the_database(application):
    app = application(TASKS)
    app.database.write_text("no database\n" * 50)
    for command in (("check",), ("info",), ("jobs", "list")):
        done = subprocess.run(
            [str(TASKITO), *command, "--app", "tasks:queue", "--app-dir", str(app.folder)],
            cwd=app.folder,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1
        assert str(app.database) in done.stderr
        assert "Traceback" not in done.stderr
