"""The command line, as a shell sees it."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from taskito_processes.application import TASKITO
from taskito_processes.processes import child_environment

pytestmark = pytest.mark.process

TASKS = """
@queue.task(max_retries=0)
def divide(a, b):
    return a / b
"""


@pytest.fixture
def app(application):
    return application(TASKS)


@pytest.fixture
def taskito(app):
    """Run a command and return what it printed."""

    def taskito(*words, status=0, queue=True):
        options = ["--app", f"{app.module}:queue"] if queue else []
        done = subprocess.run(
            [str(TASKITO), *words, *options],
            cwd=app.folder,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if status else done.stdout

    return taskito


@pytest.fixture
def dead(app):
    """A dead letter."""
    worker = app.worker()
    job_id = app.ask("divide.delay(1, 0).id")
    app.wait_for_status(job_id, "dead")
    worker.kill()
    worker.wait(20)
    return job_id


def test_jobs_are_listed_shown_and_cancelled(app, taskito) -> None:
    first, second = app.ask("[job.id for job in divide.map([(1, 2), (3, 4)])]")
    assert taskito("jobs", "list").splitlines()[1].split()[:4] == [
        second,
        f"{app.module}.divide",
        "default",
        "pending",
    ]
    listed = json.loads(taskito("jobs", "list", "--json", "--limit", "1", "--offset", "1"))
    assert [job["id"] for job in listed] == [first]

    assert re.search(r"waiting_on +no worker knows this task", taskito("jobs", "show", first))
    shown = json.loads(taskito("jobs", "show", first, "--json"))
    assert (shown["status"], shown["errors"], shown["log"]) == ("pending", [], [])

    assert taskito("jobs", "cancel", first) == f"{first}: cancelled\n"
    taskito("jobs", "cancel", first, status=1)
    assert taskito("jobs", "list", "--status", "running") == "no jobs\n"
    assert json.loads(taskito("info", "--json"))["total"]["cancelled"] == 1


def test_ended_job_is_run_again(app, taskito, dead) -> None:
    new = taskito("jobs", "retry", dead).strip()
    assert app.job(new)["status"] == "pending"
    assert "only a job that has ended" in taskito("jobs", "retry", new, status=1)


def test_dead_letters_are_listed_retried_and_purged(app, taskito, dead) -> None:
    assert "ZeroDivisionError" in taskito("dead", "list")
    assert "in divide" in taskito("jobs", "show", dead)
    answer = json.loads(taskito("dead", "retry", dead, "--json"))
    assert app.job(answer[dead])["status"] == "pending"
    assert taskito("dead", "list") == "no dead letters\n"
    assert taskito("dead", "retry", "--all") == "0 run again\n"
    assert taskito("dead", "purge", "--yes") == "0 deleted\n"
    assert taskito("dead", "purge", "--yes", "--older-than", "0") == "1 deleted\n"
    taskito("jobs", "show", dead, status=1)


def test_retry_wants_ids_or_all(taskito) -> None:
    for words in ([], ["--all", "some-id"], ["--task", "x", "some-id"]):
        assert "--all" in taskito("dead", "retry", *words, status=2)


def test_purge_asks_first(app, taskito) -> None:
    assert "Aborted" in taskito("dead", "purge", status=1)


def test_queues_are_paused_and_resumed(taskito) -> None:
    assert "mail" in taskito("pause", "mail")
    assert json.loads(taskito("pause", "--json")) == {"paused": ["default", "mail"]}
    assert json.loads(taskito("resume", "mail", "--json")) == {"paused": ["default"]}
    assert json.loads(taskito("info", "--json"))["paused"] == ["default"]


def test_info_shows_counts_and_workers(app, taskito) -> None:
    assert "no worker is running" in taskito("info")
    worker = app.worker()
    app.ask("divide.delay(4, 2).result(timeout=20)")
    lines = taskito("info").splitlines()
    assert lines[1].split() == ["default", "0", "0", "1", "0", "0", "0"]
    assert str(worker.pid) in lines[-1].split()


def test_check_verifies_the_store(app, taskito) -> None:
    assert taskito("check").endswith("the store is sound\n")
    found = json.loads(taskito("check", "--json"))
    assert (found["backend"], found["liveness"]) == ("sqlite", "kernel")
    assert found["durability"] == "full"


def test_plugins_are_listed_without_an_application(taskito) -> None:
    found = json.loads(taskito("plugins", "--json", queue=False))
    assert {"sqlite", "memory", "msgpack", "commands"} <= {plugin["name"] for plugin in found}
    assert all(plugin["status"] == "active" for plugin in found)
    assert "taskito_register_backends" in taskito("plugins", queue=False)


def test_unknown_job_is_an_error_in_one_line(taskito) -> None:
    for command in ("show", "retry"):
        [line] = taskito("jobs", command, "no-such-id", status=1).splitlines()
        assert "JobNotFoundError" in line
        assert "no-such-id" in line


@pytest.mark.parametrize(
    ("app_option", "message"),
    [
        ("tasks", "'tasks' is not in 'module:attribute' form"),
        ("nothing:queue", "could not import module 'nothing'"),
        ("tasks:nothing", "module 'tasks' has no attribute 'nothing'"),
        ("tasks:divide", "'tasks:divide' is not a Queue instance"),
    ],
)
def test_wrong_application_is_wrong_usage(taskito, app_option, message) -> None:
    for command in ("worker", "info"):
        error = taskito(command, "--app", app_option, status=2, queue=False)
        assert error.rstrip().endswith(message)


def test_option_that_the_worker_refuses_is_wrong_usage(taskito) -> None:
    error = taskito("worker", "--pool", "threads", status=2)
    assert "pool: 'threads' is not allowed; give one of 'thread'" in error


def test_version_and_help(taskito) -> None:
    assert taskito("--version", queue=False).startswith("taskito ")
    for words in ([], ["worker"], ["jobs"], ["jobs", "list"], ["dead", "retry"], ["check"]):
        assert "Usage: taskito" in taskito(*words, "--help", queue=False)
