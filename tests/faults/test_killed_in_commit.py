"""A process that is killed inside a commit, or right after it, leaves all or nothing behind."""

from __future__ import annotations

import signal
import time

import pytest
from taskito_processes import report

pytestmark = pytest.mark.process

RESTART_BOUND = 2.0
SLACK = 4
TASKS = """
@queue.task(max_retries=0)
def work(key):
    note("start", key)
    wait_for_file("go")
    note("end", key)
    return key

@queue.task(max_retries=0)
def leaves_a_child(key):
    note("start", key)
    if is_first(key):
        child = os.fork()
        if child == 0:
            # It does nothing but keep what it inherited.
            while True:
                time.sleep(60)
        note("child", child)
        wait_for_file("go")
    note("end", key)
    return key
"""


def failpoint(app, place):
    """The environment of a process that dies at ``place`` once the file ``die`` exists."""
    return {"TASKITO_FAILPOINT": f"{place}@{app.folder / 'die'}"}


@pytest.mark.parametrize(("place", "stored"), [("before-commit", 0), ("after-commit", 30)])
def test_a_batch_is_stored_wholly_or_not_at_all(application, place, stored):
    app = application(TASKS)
    producer = app.console("producer", environment=failpoint(app, place))
    producer.ask("len(work.map([(n,) for n in range(5)]))")
    app.create("die")
    producer.send("len(work.map([(n,) for n in range(30)]))")
    assert producer.process.wait(20) == -signal.SIGKILL

    (app.folder / "die").unlink()
    assert app.stats()["pending"] == 5 + stored
    assert app.cli("check")["integrity"] == "ok"
    # The lock is free, and what is there can be used.
    assert app.console("other").ask("len(work.map([(1,), (2,)]))") == 2
    assert app.stats()["pending"] == 5 + stored + 2


@pytest.mark.parametrize(("place", "runs"), [("before-commit", 2), ("after-commit", 1)])
def test_a_worker_killed_in_the_commit_of_a_settlement_loses_nothing(application, place, runs):
    app = application(TASKS)
    victim = app.worker(name="victim", environment=failpoint(app, place))
    job_id = app.ask("work.delay('key').id")
    app.evidence.wait_for("start", "key")
    # The claim and the start are stored by now or soon; the next commit is the settlement's.
    time.sleep(1.2)
    app.create("die")
    app.create("go")
    assert victim.wait(20) == -signal.SIGKILL

    (app.folder / "die").unlink()
    app.worker(name="survivor")
    job = app.wait_for_status(job_id, "complete")
    assert len(app.evidence.starts("key")) == runs
    assert [error["kind"] for error in job["errors"]] == ["crash"] * (runs - 1)
    assert app.cli("check")["integrity"] == "ok"


def test_a_child_of_a_worker_killed_inside_a_commit_does_not_keep_its_locks(application):
    app = application(TASKS)
    victim = app.worker(name="victim", environment=failpoint(app, "before-commit"))
    job_id = app.ask("leaves_a_child.delay('key').id")
    [child] = app.evidence.wait_for("child")
    app.processes.adopt(int(child.key))
    survivor = app.worker(name="survivor")
    app.create("die")
    app.create("go")
    assert victim.wait(20) == -signal.SIGKILL
    killed = time.monotonic()

    (app.folder / "die").unlink()
    # The write lock was held at the death, and the child still has what it inherited.
    assert app.console("new").ask("work.delay('new').id", timeout=10)
    second = app.evidence.wait_for("start", "key", times=2)[1]
    report(f"taken over {second.at - killed:.2f} s after the kill inside a commit")
    assert second.at - killed <= SLACK * RESTART_BOUND
    assert second.pid == survivor.pid
    app.wait_for_status(job_id, "complete")
