"""SIGKILL again and again, at any moment: nothing that was accepted is lost."""

from __future__ import annotations

import random

import pytest
from taskito_processes import report, wait_until

pytestmark = pytest.mark.process

JOBS = 300
BATCH = 5_000
TASKS = """
@queue.task(max_retries=0, max_crashes=20)
def work(number):
    note("start", number)
    time.sleep(0.01)
    note("end", number)
    return number
"""
PRODUCER = """
number = 0
while True:
    acknowledge(work.delay(number).id)
    number += 1
"""
BATCHES = f"""
while True:
    note("begin", "batch")
    work.map([(number,) for number in range({BATCH})])
    note("stored", "batch")
"""


@pytest.fixture
def chance(request):
    """Random numbers whose seed is shown when the test fails."""
    seed = random.randrange(2**32)
    report(f"seed {seed}")
    return random.Random(seed)


def test_no_job_is_lost_when_workers_are_killed_at_random(application, chance):
    app = application(TASKS)
    ids = app.ask(f"[job.id for job in work.map([(n,) for n in range({JOBS})])]")
    kills, concurrency = 4, 4
    for number in range(kills):
        worker = app.worker(name=f"victim-{number}", concurrency=concurrency, ready=False)
        ended = len(app.evidence.ends())
        app.evidence.wait_for("end", times=ended + chance.randint(1, 55))
        worker.kill()
    app.worker(name="last", concurrency=concurrency)
    stats = app.wait_for_stats(completed=JOBS, timeout=30)

    assert stats == {**dict.fromkeys(stats, 0), "completed": JOBS}
    jobs = [app.job(job_id) for job_id in ids]
    assert {job["status"] for job in jobs} == {"complete"}
    assert {job["retry_count"] for job in jobs} == {0}
    ends, starts = app.evidence.count("end"), app.evidence.count("start")
    assert set(ends) == set(map(str, range(JOBS)))
    crashes = 0
    for number, job in enumerate(jobs):
        kinds = [error["kind"] for error in job["errors"]]
        assert set(kinds) <= {"crash"}
        # Every further start has its crash in the history.
        assert starts[str(number)] <= 1 + len(kinds), (job, app.evidence.events(key=number))
        crashes += len(kinds)
    # A crash without a start: the death came between the hand-over and the first line of the body.
    assert crashes - (sum(starts.values()) - JOBS) <= kills * concurrency
    assert sum(ends.values()) <= sum(starts.values())


def test_every_acknowledged_job_exists_when_producers_are_killed_in_a_loop(application, chance):
    app = application(TASKS)
    kills = 8
    for number in range(kills):
        producer = app.script(PRODUCER, name=f"victim-{number}")
        wanted = len(app.acknowledged()) + chance.randint(1, 150)
        wait_until(
            lambda wanted=wanted: len(app.acknowledged()) >= wanted,
            20,
            producer.log,
            step=0.001,
        )
        producer.kill()
    acknowledged = app.acknowledged()
    assert len(set(acknowledged)) == len(acknowledged)
    assert app.missing(acknowledged) == []
    stored = app.stats()["pending"]
    report(f"{len(acknowledged)} acknowledged, {stored} stored")
    assert len(acknowledged) <= stored <= len(acknowledged) + kills
    assert app.cli("check")["backend"] == "sqlite"


def test_a_batch_is_stored_whole_or_not_at_all_when_its_producer_is_killed(application, chance):
    app = application(TASKS)
    inside = 0
    for number in range(8):
        producer = app.script(BATCHES, name=f"victim-{number}")
        begun = len(app.evidence.events("begin"))
        # The second batch of each: by then everything is open.
        app.evidence.wait_for("begin", times=begun + 2)
        wait_until(lambda: chance.random() < 0.15, 20, "luck", step=0.005)
        producer.kill()
        begun = len(app.evidence.events("begin"))
        inside += begun > len(app.evidence.events("stored"))
        stored = app.stats()["pending"]
        assert stored % BATCH == 0, f"{stored} jobs are stored: a part of a batch"
        assert len(app.evidence.events("stored")) * BATCH <= stored <= begun * BATCH
    report(f"{inside} of 8 kills came inside a batch")
    assert inside >= 1
    assert app.cli("check")["backend"] == "sqlite"
