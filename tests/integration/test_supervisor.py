"""``taskito worker --processes``: what dies is replaced, what is asked for reaches every worker."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from taskito_processes import wait_until
from taskito_processes.application import TASKITO
from taskito_processes.health import ask_health, wait_for_health

pytestmark = pytest.mark.process

TASKS = """
VERSION = 1

@queue.task(max_retries=0)
def waits(key):
    note("start", key)
    wait_for_file("go")
    note("end", key)
    return os.getpid()

@queue.task(max_retries=0)
def stubborn(key):
    note("start", key)
    if is_first(key):
        time.sleep(60)
    return os.getpid()

@queue.task(max_retries=0)
def step(key):
    note("start", key)
    time.sleep(0.01)
    return VERSION
"""


class Supervised:
    """A supervisor and the workers under it."""

    def __init__(self, app, process):
        self.app = app
        self.process = process

    def pids(self):
        """Return the processes of the workers that the store knows."""
        return sorted(self.app.ask("[one['pid'] for one in queue.workers()]"))

    def wait_for_workers(self, number=2, without=()):
        """Wait until so many workers claim jobs, and these processes are none of them."""

        def look():
            pids = self.pids()
            return pids if len(pids) == number and not set(pids) & set(without) else None

        found = wait_until(look, 30, lambda: f"{number} workers: {self.pids()}\n{self.log()}")
        for pid in found:
            self.app.processes.adopt(pid)
        return found

    def log(self):
        return self.process.log()

    def wait_for_log(self, pattern, times=1):
        wait_until(
            lambda: len(re.findall(pattern, self.log())) >= times,
            30,
            lambda: f"{times} x {pattern!r}:\n{self.log()}",
        )

    def stop(self, status=0):
        """Stop it and check how it ends."""
        told = len(self.log())
        self.process.signal(signal.SIGTERM)
        assert self.process.wait(30) == status, self.log()
        # Whatever an application that does not load has printed before.
        assert "Traceback" not in self.log()[told:]


@pytest.fixture
def supervise(application):
    def supervise(*options, source=TASKS, workers=2, **more):
        app = application(source)
        process = app.worker("--processes", str(workers), *options, ready=False, **more)
        return Supervised(app, process)

    return supervise


def is_gone(pid):
    try:
        facts = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return facts.rpartition(")")[2].split()[0] == "Z"


def assert_gone(pids, timeout=20):
    wait_until(
        lambda: all(is_gone(pid) for pid in pids), timeout, f"the end of the processes {pids}"
    )


# What dies ----------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_and_its_job_goes_on(supervise) -> None:
    supervised = supervise()
    app = supervised.app
    first, second = supervised.wait_for_workers()
    app.ask("[waits.delay(key).id for key in 'ab']")
    starts = app.evidence.wait_for("start", times=2)
    assert {event.pid for event in starts} == {first, second}

    [lost] = [event.key for event in starts if event.pid == first]
    os.kill(first, signal.SIGKILL)
    supervised.wait_for_log(r"worker \d \(process \d+\) was killed by SIGKILL .*in 0\.1 s")
    [again] = app.evidence.wait_for("start", lost, times=2)[1:]
    assert again.pid not in (first, second)
    app.create("go")
    app.wait_for_stats(completed=2)
    assert second in supervised.wait_for_workers(without=[first])
    supervised.stop()


def test_what_dies_again_and_again_is_started_ever_more_slowly(supervise) -> None:
    supervised = supervise("--health-port", "0", source="os._exit(3)")
    supervised.wait_for_log(r"ended with status 3; it is started again in 0\.4 s")
    waits = re.findall(r"started again in ([\d.]+) s", supervised.log())
    assert waits[:3] == ["0.1", "0.2", "0.4"]
    status, body = ask_health(supervised.process, "ready")
    assert (status, body["live"]) == (503, True)
    # Nothing but the first one was tried: the others would end in the same way.
    assert not re.search(r"worker 2", supervised.log())
    supervised.stop()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (
            "import nothing_like_that",
            (),
            "could not import module 'tasks': ModuleNotFoundError: No module named",
        ),
        ("", ("--pool", "nothing"), "pool: 'nothing' is not allowed"),
        ("", ("--queues", ","), "queues: "),
    ],
)
def test_what_cannot_run_ends_the_supervisor(supervise, source, options, message) -> None:
    supervised = supervise(*options, source=source, workers=3)
    assert supervised.process.wait(30) == 2, supervised.log()
    # Said once, not by each worker.
    assert supervised.log().count(message) == 1
    assert "starting it again would not help" in supervised.log()


def test_wrong_option_of_the_command_starts_nothing(supervise) -> None:
    supervised = supervise("--concurrency", "many", concurrency=None)
    assert supervised.process.wait(30) == 2
    assert "supervisor" not in supervised.log()


def test_a_worker_that_cannot_be_replaced_ends_the_others_gracefully(supervise) -> None:
    supervised = supervise()
    app = supervised.app
    pids = supervised.wait_for_workers()
    job_id = app.ask("waits.delay('a').id")
    [start] = app.evidence.wait_for("start", "a")
    (app.folder / "tasks.py").write_text("1/0")
    [idle] = [pid for pid in pids if pid != start.pid]
    os.kill(idle, signal.SIGKILL)
    supervised.wait_for_log("claims no more jobs")
    app.create("go")
    assert supervised.process.wait(30) == 2, supervised.log()
    assert app.result(job_id) == start.pid


def test_workers_do_not_outlive_a_killed_supervisor(supervise) -> None:
    supervised = supervise()
    app = supervised.app
    pids = supervised.wait_for_workers()
    job_id = app.ask("waits.delay('a').id")
    [start] = app.evidence.wait_for("start", "a")

    supervised.process.kill()
    # The idle one ends; the other one stops gracefully, too.
    assert_gone([pid for pid in pids if pid != start.pid])
    assert not is_gone(start.pid)
    app.create("go")
    app.wait_for_status(job_id, "complete")
    assert_gone(pids)
    assert app.result(job_id) == start.pid
    assert supervised.log().count("the supervisor has died") == 2


# Stopping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_tasks_of_all_workers_end(supervise, number) -> None:
    supervised = supervise()
    app = supervised.app
    pids = supervised.wait_for_workers()
    ids = app.ask("[waits.delay(key).id for key in range(5)]")
    app.evidence.wait_for("start", times=2)

    supervised.process.signal(number)
    supervised.wait_for_log("claims no more jobs", times=2)
    app.create("go")
    assert supervised.process.wait(30) == 0, supervised.log()
    assert len(app.evidence.starts()) == len(app.evidence.ends()) == 2
    assert [app.job(job_id)["status"] for job_id in ids].count("pending") == 3
    assert_gone(pids, 0)


def test_a_second_signal_stops_all_workers_at_once(supervise) -> None:
    supervised = supervise("--drain-timeout", "60")
    app = supervised.app
    supervised.wait_for_workers()
    job_id = app.ask("stubborn.delay('a').id")
    app.evidence.wait_for("start", "a")
    supervised.process.signal(signal.SIGTERM)
    supervised.wait_for_log("claims no more jobs", times=2)
    supervised.process.signal(signal.SIGTERM)
    assert supervised.process.wait(20) == 1, supervised.log()
    job = app.job(job_id)
    assert job["status"] == "pending"
    assert [entry["kind"] for entry in job["interruptions"]] == ["interrupted"]


def test_signals_to_the_whole_group_count_once(supervise) -> None:
    supervised = supervise("--drain-timeout", "60")
    app = supervised.app
    pids = supervised.wait_for_workers()
    job_id = app.ask("waits.delay('a').id")
    app.evidence.wait_for("start", "a")
    # As systemd does it: each process of the service gets the signal.
    for pid in (*pids, supervised.process.pid, *pids):
        os.kill(pid, signal.SIGTERM)
    supervised.wait_for_log("claims no more jobs", times=2)
    app.create("go")
    assert supervised.process.wait(30) == 0, supervised.log()
    assert app.job(job_id)["status"] == "complete"
    assert app.job(job_id)["interruptions"] == []


def test_a_worker_that_does_not_end_is_killed(supervise) -> None:
    supervised = supervise("--drain-timeout", "0.1")
    first, _second = supervised.wait_for_workers()
    os.kill(first, signal.SIGSTOP)
    supervised.stop(status=70)
    assert "has not ended in time and is killed" in supervised.log()


def test_a_third_signal_kills_the_workers(supervise) -> None:
    supervised = supervise("--drain-timeout", "60")
    for pid in supervised.wait_for_workers():
        os.kill(pid, signal.SIGSTOP)
    for answer in ("stopping 2 workers", "stopping at once", "killing the workers"):
        supervised.process.signal(signal.SIGTERM)
        supervised.wait_for_log(f"SIGTERM: {answer}")
    assert supervised.process.wait(10) == 70, supervised.log()


def test_a_stop_during_the_import_is_a_clean_end(supervise) -> None:
    supervised = supervise(source="note('import', 0); wait_for_file('never')")
    supervised.app.evidence.wait_for("import")
    supervised.stop()


# The process leads a session that has no terminal yet.
TERMINAL = """
import fcntl, os, sys, termios
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)
os.dup2(descriptor, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def terminal():
    """Both ends of a terminal; the first is what a person has."""
    ends = os.openpty()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


@pytest.fixture
def in_terminal(application, processes, terminal):
    """A supervisor that a terminal controls, while a task runs in one of its workers."""
    app = application(TASKS)
    command = [
        *(sys.executable, "-c", TERMINAL, os.ttyname(terminal[1])),
        *(TASKITO, "worker", "--app", "tasks:queue", "--app-dir", app.folder),
        *("--processes", "2", "--concurrency", "1"),
    ]
    process = processes.start("terminal", command, cwd=app.folder)
    supervised = Supervised(app, process)
    supervised.wait_for_workers()
    app.ask("waits.delay('a').id")
    app.evidence.wait_for("start", "a")
    return supervised


@pytest.mark.parametrize("ending", ["Ctrl-C", "hang-up"])
def test_a_terminal_stops_all_workers_gracefully(in_terminal, terminal, ending) -> None:
    if ending == "Ctrl-C":
        os.write(terminal[0], b"\x03")
    else:
        os.close(terminal[0])
    in_terminal.wait_for_log("claims no more jobs", times=2)
    in_terminal.app.create("go")
    assert in_terminal.process.wait(30) == 0, in_terminal.log()
    assert in_terminal.app.ask("queue.stats()")["completed"] == 1
    assert len(in_terminal.app.evidence.starts("a")) == 1


# Restarting ---------------------------------------------------------------------------------------


def test_sighup_replaces_one_worker_after_the_other_and_loses_no_job(supervise) -> None:
    supervised = supervise()
    app = supervised.app
    before = supervised.wait_for_workers()
    app.ask("len(step.map([(key,) for key in range(600)]))")
    app.evidence.wait_for("start", times=10)
    supervised.process.signal(signal.SIGHUP)
    supervised.wait_for_log("all workers were restarted")
    after = supervised.wait_for_workers(without=before)
    app.wait_for_stats(completed=600)

    log = supervised.log()
    order = re.findall(r"worker (\d) \(process \d+\) (is ready and takes over|ended)", log)
    assert order == [
        ("1", "is ready and takes over"),
        ("1", "ended"),
        ("2", "is ready and takes over"),
        ("2", "ended"),
    ]
    starts = app.evidence.starts()
    assert len(starts) == len({event.key for event in starts}) == 600
    assert {event.pid for event in starts} <= {*before, *after}
    assert app.ask("queue.stats()")["dead"] == 0
    supervised.stop()


def test_code_that_does_not_load_leaves_the_old_workers_at_work(supervise) -> None:
    supervised = supervise()
    app = supervised.app
    before = supervised.wait_for_workers()
    module = app.folder / "tasks.py"
    good = module.read_text()
    module.write_text(f"{good}\n1/0")
    supervised.process.signal(signal.SIGHUP)
    supervised.wait_for_log("the restart is given up")
    module.write_text(good)
    assert supervised.pids() == before
    assert app.ask("step.delay(1).result(timeout=20)") == 1

    supervised.process.signal(signal.SIGHUP)
    supervised.wait_for_log("all workers were restarted")
    supervised.wait_for_workers(without=before)
    supervised.stop()


def test_reload_runs_the_changed_code(supervise) -> None:
    supervised = supervise("--reload", workers=1)
    app = supervised.app
    before = supervised.wait_for_workers(1)
    supervised.wait_for_log("watching the Python files")
    assert app.ask("step.delay(1).result(timeout=20)") == 1
    module = app.folder / "tasks.py"

    good = module.read_text()
    module.write_text(f"{good}\n1/0")
    supervised.wait_for_log("the restart is given up")
    assert app.ask("step.delay(2).result(timeout=20)") == 1

    # Not even a death is a reason to end: the next change may mend it.
    os.kill(before[0], signal.SIGKILL)
    supervised.wait_for_log("waiting for a change of the code")

    module.write_text(good.replace("VERSION = 1", "VERSION = 2"))
    supervised.wait_for_log("all workers were restarted")
    supervised.wait_for_workers(1, without=before)
    assert app.ask("step.delay(3).result(timeout=20)") == 2
    supervised.stop()


def test_other_folders_can_be_watched(supervise, tmp_path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    supervised = supervise("--reload", "--reload-dir", str(library), workers=1)
    before = supervised.wait_for_workers(1)
    supervised.wait_for_log("watching the Python files")
    (library / "notes.txt").write_text("no code")
    (library / "helper.py").write_text("")
    supervised.wait_for_log("helper.py changed: restarting")
    supervised.wait_for_log("all workers were restarted")
    supervised.wait_for_workers(1, without=before)
    supervised.stop()


def test_reload_says_what_is_missing(supervise, tmp_path) -> None:
    (tmp_path / "watchfiles.py").write_text("raise ImportError('not here')")
    supervised = supervise("--reload", environment={"PYTHONPATH": str(tmp_path)})
    assert supervised.process.wait(30) == 2
    assert "pip install 'taskito[reload]'" in supervised.log()
    assert "worker 1" not in supervised.log()


# Health -------------------------------------------------------------------------------------------


def test_health_of_one_worker_follows_its_life(application) -> None:
    app = application(f"note('import', 0)\nwait_for_file('load')\n{TASKS}")
    worker = app.worker("--health-port", "0", ready=False)
    app.evidence.wait_for("import")
    assert ask_health(worker, "live")[0] == 200
    status, body = ask_health(worker, "ready")
    assert (status, body["workers"][0]["phase"]) == (503, "loading")

    app.create("load")
    body = wait_for_health(worker, "ready", 200)
    assert body["reason"] == "the worker claims jobs"
    assert [one["process"] for one in body["workers"]] == [worker.pid]

    app.ask("waits.delay('a').id")
    app.evidence.wait_for("start", "a")
    worker.signal(signal.SIGTERM)
    body = wait_for_health(worker, "ready", 503)
    assert "draining" in body["reason"]
    assert ask_health(worker, "live")[0] == 200
    assert ask_health(worker, "other")[0] == 404
    app.create("go")
    assert worker.wait(20) == 0


def test_health_of_a_supervisor_is_that_of_its_workers(supervise) -> None:
    supervised = supervise("--health-port", "0")
    process, app = supervised.process, supervised.app
    body = wait_for_health(process, "ready", 200)
    pids = supervised.wait_for_workers()
    assert sorted(one["process"] for one in body["workers"]) == pids
    assert ask_health(process, "live")[0] == 200

    app.ask("waits.delay('a').id")
    app.evidence.wait_for("start", "a")
    process.signal(signal.SIGTERM)
    body = wait_for_health(process, "ready", 503)
    assert re.search("draining|ended", body["reason"])
    assert ask_health(process, "live")[0] == 200
    app.create("go")
    assert process.wait(30) == 0


def test_a_port_that_is_taken_is_said(supervise, application) -> None:
    supervised = supervise("--health-port", "0")
    port = supervised.process.wait_for_log(r"answered on 127\.0\.0\.1 port (\d+)")[1]
    other = application(TASKS, folder="other").worker("--health-port", port, ready=False)
    assert other.wait(30) == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in other.log()
    supervised.stop()
