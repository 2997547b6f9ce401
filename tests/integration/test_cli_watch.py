"""``taskito info --watch`` in a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time

import pytest
from taskito_processes.application import TASKITO
from taskito_processes.processes import child_environment

pytestmark = pytest.mark.process

TASKS = """
@queue.task
def work(number):
    return number
"""


class Terminal:
    """A command whose output goes to a terminal of this process."""

    def __init__(self, command, folder):
        self.leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=child_environment({"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}),
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        self.shown = ""

    def wait_for(self, text, timeout=20):
        """Read until a text has been shown that was not there before."""
        deadline = time.monotonic() + timeout
        begin = len(self.shown)
        while text not in self.shown[begin:]:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.shown!r}"
            if select.select([self.leader], [], [], 0.1)[0]:
                self.shown += os.read(self.leader, 65_536).decode()

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.leader)


def test_watch_shows_what_changes_and_ends_with_ctrl_c(application):
    app = application(TASKS)
    app.ask("len(work.map([(n,) for n in range(41)]))")
    command = [str(TASKITO), "info", "--watch", "--interval", "0.1"]
    terminal = Terminal([*command, "--app", "tasks:queue", "--app-dir", "."], app.folder)
    try:
        terminal.wait_for(" 41 ")
        terminal.wait_for("no worker is running")
        app.ask("work.delay(0).id")
        terminal.wait_for(" 42 ")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(10) == 0
    finally:
        terminal.close()


@pytest.mark.parametrize("interval", ["0", "-1", "soon"])
def test_an_interval_that_cannot_be_is_refused(application, interval):
    app = application(TASKS)
    command = [str(TASKITO), "info", "--watch", "--interval", interval]
    done = subprocess.run(
        [*command, "--app", "tasks:queue", "--app-dir", "."],
        cwd=app.folder,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "interval" in done.stderr
