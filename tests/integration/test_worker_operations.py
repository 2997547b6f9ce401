"""What a worker tells systemd and log collectors, its dry run, and signals before it runs."""

from __future__ import annotations

import json
import signal
import socket

import pytest
from taskito_processes.health import ask_health, wait_for_health

pytestmark = pytest.mark.process

TASKS = """
import logging

log = logging.getLogger("app")

@queue.task(max_retries=0)
def speak(word):
    log.info("said %s", word, extra={"loud": True})
    try:
        raise ValueError(word)
    except ValueError:
        log.exception("failed")
    return os.getpid()

@queue.task(max_retries=0)
def environment(name):
    return os.environ.get(name)

@queue.task(max_retries=0)
def waits(key):
    note("start", key)
    wait_for_file("go")
"""


class Init:
    """The end of the socket that systemd would have."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(30)
        self.messages = []

    def wait_for(self, line):
        """Read messages until one has this line; return it."""
        while True:
            message = self.socket.recv(65_536).decode().splitlines()
            self.messages.append(message)
            if line in message:
                return message


@pytest.fixture
def init(tmp_path):
    found = Init(tmp_path / "notify")
    yield found
    found.socket.close()


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["alone", "supervised"])
def test_systemd_is_told_of_the_life_of_a_service(application, init, options) -> None:
    app = application(TASKS)
    environment = {"NOTIFY_SOCKET": str(init.path), "WATCHDOG_USEC": "400000"}
    worker = app.worker(*options, environment=environment, ready=False)
    init.wait_for("READY=1")
    assert len(app.ask("queue.workers()")) == max(1, len(options))
    init.wait_for("WATCHDOG=1")
    # Nobody else may speak in the name of the service.
    for name in environment:
        assert app.ask("environment.delay(name).result(timeout=20)", name=name) is None

    if options:
        worker.signal(signal.SIGHUP)
        message = init.wait_for("RELOADING=1")
        assert any(line.startswith("MONOTONIC_USEC=") for line in message)
        init.wait_for("READY=1")
    app.ask("waits.delay('a').id")
    app.evidence.wait_for("start", "a")
    worker.signal(signal.SIGTERM)
    init.wait_for("STOPPING=1")
    # A long drain must not look like a hang.
    init.wait_for("WATCHDOG=1")
    app.create("go")
    assert worker.wait(30) == 0, worker.log()


@pytest.mark.parametrize("options", [(), ("--processes", "1")], ids=["alone", "supervised"])
def test_a_store_that_does_not_answer_makes_a_worker_unready(application, options) -> None:
    app = application(TASKS, busy_timeout=0.1)
    worker = app.worker("--health-port", "0", *options, ready=False)
    wait_for_health(worker, "ready", 200)
    job_id = app.ask("waits.delay('a').id")
    app.evidence.wait_for("start", "a")
    stranger = app.stranger()
    stranger.run(
        "import sqlite3; held = sqlite3.connect(path, isolation_level=None);"
        " held.execute('BEGIN IMMEDIATE')",
        path=str(app.database),
    )
    # Its end cannot be stored now.
    app.create("go")
    body = wait_for_health(worker, "ready", 503)
    assert "storage failing" in body["reason"]
    assert ask_health(worker, "live")[0] == 200
    stranger.run("held.execute('ROLLBACK')")
    wait_for_health(worker, "ready", 200)
    app.wait_for_status(job_id, "complete")


@pytest.mark.parametrize("options", [(), ("--processes", "1")], ids=["alone", "supervised"])
def test_json_lines_name_the_job(application, options) -> None:
    app = application(TASKS)
    worker = app.worker("--log-format", "json", *options, ready=False)
    worker.wait_for_log(r"worker \w+ started")
    job_id = app.ask("speak.delay('hello').id")
    app.wait_for_status(job_id, "complete")
    pid = app.result(job_id)
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) == 0, worker.log()

    lines = [json.loads(line) for line in worker.log().splitlines()]
    said, failed = [line for line in lines if line["logger"] == "app"]
    [banner] = [line for line in lines if line["message"] == "taskito worker"]
    assert banner["pid"] == pid
    assert said["message"] == "said hello"
    assert said["loud"] is True
    for line in (said, failed):
        assert (line["job_id"], line["task"], line["attempt"]) == (job_id, "tasks.speak", 0)
        assert (line["process"], line["worker"]) == (pid, banner["worker"])
    assert failed["exception"].rstrip().endswith("ValueError: hello")
    assert [line for line in lines if line["message"] == "stopped"]


def test_text_lines_name_the_job(application) -> None:
    app = application(TASKS)
    worker = app.worker()
    job_id = app.ask("speak.delay('hello').id")
    worker.wait_for_log(rf"INFO app: said hello \[tasks\.speak {job_id}\]\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_import_ends_the_worker_cleanly(application, number) -> None:
    app = application("note('import', 0); wait_for_file('never')")
    worker = app.worker(ready=False)
    app.evidence.wait_for("import")
    worker.signal(number)
    assert worker.wait(20) == 0, worker.log()
    assert worker.log() == "stopped\n"


def test_a_signal_that_the_import_swallows_stops_the_worker(application) -> None:
    app = application(
        """
        try:
            note('import', 0)
            wait_for_file('never')
        except BaseException:
            note('swallowed', 0)
        """
    )
    worker = app.worker(ready=False)
    app.evidence.wait_for("import")
    worker.signal(signal.SIGTERM)
    app.evidence.wait_for("swallowed")
    assert worker.wait(20) == 0, worker.log()
    assert worker.log().endswith("stopped\n")


def test_dry_run_checks_and_starts_nothing(application) -> None:
    app = application(
        """
        @queue.periodic("0 5 * * *")
        def nightly(): ...
        """
    )
    job_id = app.ask("nightly.delay().id")
    run = app.worker("--dry-run", "--processes", "4", ready=False)
    assert run.wait(20) == 0, run.log()
    for fact in ("tasks.nightly", "thread", "full", "msgpack, json", "plugins"):
        assert fact in run.log()
    assert run.log().endswith("all is well; nothing was started\n")
    assert app.job(job_id)["status"] == "pending"
    assert app.ask("[queue.workers(), list(queue.backend.schedules())]") == [[], []]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--pool", "nothing"), 2, "pool: 'nothing' is not allowed"),
        (("--queues", ","), 2, "queues: "),
        ((), 1, "not a database"),
    ],
)
def test_dry_run_says_what_is_wrong(application, options, status, message) -> None:
    app = application("")
    if status == 1:
        app.database.write_text("this is no database" * 1_000)
    run = app.worker("--dry-run", *options, ready=False)
    assert run.wait(20) == status, run.log()
    assert message in run.log()
    assert "Traceback" not in run.log()
