"""For as long as you like: a hammer, a soak, and workers that are stopped again and again.

``.ci/run`` gives it 12 s, 30 s and 5 rounds; ``make thorough`` (``TASKITO_THOROUGH=1``) more.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from taskito_processes import report, wait_until
from taskito_processes.system import children_of

pytestmark = [pytest.mark.process, pytest.mark.endurance, pytest.mark.timeout(1_200)]

PATIENCE = 60.0
BACKLOG = 300
"""Producers pause while so many jobs wait, so that what is left at the end is done soon."""

TASKS = """
@queue.task(max_retries=0, max_crashes=1_000, result_ttl=None)
def work(number):
    note("start", number)
    time.sleep(0.002)
    note("end", number)
    return number

@queue.task(result_ttl=2)
def forgettable(number):
    return "x" * 1_000
"""

HAMMER = f"""
number = 0
while not exists("stop"):
    if number % 50 == 0:
        while queue.stats()["pending"] > {BACKLOG} and not exists("stop"):
            time.sleep(0.02)
    jobs = [work.delay(f"{{os.getpid()}}-{{number}}")]
    jobs += work.map([(f"{{os.getpid()}}-{{number}}-{{n}}",) for n in range(number % 5)])
    acknowledge(*(job.id for job in jobs))
    number += 1
"""

STEADY = """
number = 0
while not exists("stop"):
    forgettable.map([(number + n,) for n in range(20)])
    number += 20
    time.sleep(0.05)
create("ended")
"""


CHURN = """
import asyncio
from typing import Annotated
from taskito import INJECTED, Middleware, Resource

class Counting(Middleware):
    attempts = failures = 0
    def before(self, job, args, kwargs):
        self.attempts += 1
    def on_error(self, job, args, kwargs, error):
        self.failures += 1

counting = Counting()

@queue.resource("connection", scope="worker", check=lambda value: len(value) > 0)
def connection():
    yield [0] * 1_000

@queue.resource("transaction")
def transaction(connection: Annotated[list, Resource("connection")]):
    yield connection[:10]

@queue.task(middleware=[counting])
def function(n, work: Annotated[list, Resource("transaction")] = INJECTED):
    return n + len(work)

@queue.task(middleware=[counting])
async def coroutine(n):
    await asyncio.sleep(0)
    return n

@queue.task(middleware=[counting], max_retries=0)
def failing(n):
    raise ValueError(n)
"""


@pytest.fixture
def chance():
    """Random numbers whose seed is shown when the test fails."""
    seed = random.randrange(2**32)
    report(f"seed {seed}")
    return random.Random(seed)


def test_nothing_is_lost_or_done_twice_under_the_hammer(application, thorough, chance):
    app = application(TASKS)
    makers = {
        "producer": lambda name: app.script(HAMMER, name=name),
        "worker": lambda name: app.worker(name=name, concurrency=4, ready=False),
    }
    kinds = ["producer", "producer", "producer", "worker", "worker"]
    running = [(kind, makers[kind](f"{kind}-{n}")) for n, kind in enumerate(kinds)]
    deadline = time.monotonic() + (60 if thorough else 12)
    kills = 0
    while time.monotonic() < deadline:
        time.sleep(chance.uniform(0.1, 1.0))  # the moment of the kill is what is tried
        place = chance.randrange(len(running))
        kind, victim = running[place]
        victim.kill()
        kills += 1
        running[place] = (kind, makers[kind](f"{kind}-after-{kills}"))
    app.create("stop")
    for kind, process in running:
        if kind == "producer":
            assert process.wait(PATIENCE) == 0, process.log()
    app.worker(name="last", concurrency=4)
    wait_until(lambda: app.stats()["pending"] == app.stats()["running"] == 0, PATIENCE, "the rest")

    acknowledged = app.acknowledged()
    report(f"{kills} kills, {len(acknowledged)} jobs acknowledged, {app.stats()}")
    assert acknowledged, "the hammer did not fall"
    assert len(set(acknowledged)) == len(acknowledged)
    assert app.missing(acknowledged) == []
    stats = app.stats()
    assert stats == {**dict.fromkeys(stats, 0), "completed": stats["completed"]}
    assert stats["completed"] >= len(acknowledged)
    ends = app.evidence.count("end")
    assert len(ends) == stats["completed"], "a job is complete that did not run to its end"
    # A job runs a second time only if the worker of its first run was killed.
    again = sum(number - 1 for number in app.evidence.count("start").values())
    assert again <= kills * 4, f"{again} runs too many after {kills} kills"
    assert app.cli("check")["backend"] == "sqlite"


def test_a_soak_uses_no_more_and_more_of_anything(application, thorough):
    app = application(TASKS)
    worker = app.worker(concurrency=2)
    producer = app.script(STEADY, name="producer")
    seconds = 600 if thorough else 30
    samples = []
    for _ in range(30):
        time.sleep(seconds / 30)  # the soak itself
        samples.append(usage(worker.pid, app.database))
        assert worker.is_alive(), worker.log()
    app.create("stop")
    assert producer.wait(PATIENCE) == 0, producer.log()

    early, late = samples[8:14], samples[-6:]
    report(f"early {early[-1]}, late {late[-1]}, {app.stats()}")
    for name, most in {"descriptors": 2, "threads": 2, "memory": 24 << 20}.items():
        before, after = (max(sample[name] for sample in part) for part in (early, late))
        assert after <= before + most, f"{name}: {before} early, {after} late"
    # The log is started over, and what was deleted makes room for what comes.
    assert max(sample["log"] for sample in samples) <= 160 << 20
    assert max(sample["database"] for sample in late) <= 64 << 20
    wait_until(lambda: sum(app.stats().values()) == 0, PATIENCE, "the end of the last result")
    assert "Traceback" not in worker.log()


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_a_worker_through_which_many_jobs_went_is_no_larger(application, thorough, pool):
    """The short form of ``benchmarks/churn.py``: no job, no failure and no child leaves a trace."""
    app = application(CHURN, result_ttl=1, dead_letter_ttl=1)
    options = ["--pool", pool, "--log-level", "error"]
    children = 2 if pool == "process" else 0
    if children:
        options += ["--max-tasks-per-child", "300"]
    worker = app.worker(*options, concurrency=2, ready=False)
    tasks, samples = "(function, coroutine, failing)", []
    for _ in range(100 if thorough else 25):
        app.ask(f"sum(len(task.map([(n,) for n in range(200)])) for task in {tasks})")
        wait_until(
            lambda: app.stats()["pending"] == app.stats()["running"] == 0, PATIENCE, "a round"
        )
        # Its children grow and are replaced; while that happens, there are three.
        wait_until(lambda: len(children_of(worker.pid)) == children, PATIENCE, "two children")
        samples.append(usage(worker.pid, app.database))

    warm = samples[len(samples) // 3 :]
    early, late = warm[: len(warm) // 2], warm[len(warm) // 2 :]
    report(f"early {early[-1]}, late {late[-1]}")
    for name, most in {"memory": 1.10, "descriptors": 1.05, "threads": 1.05}.items():
        before, after = (max(sample[name] for sample in part) for part in (early, late))
        assert after <= before * most, f"{name}: {before} early, {after} late"
    assert "Z" not in children_of(worker.pid).values()
    worker.signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0, worker.log()


def test_workers_that_are_stopped_again_and_again_use_up_no_attempt(application, thorough, chance):
    app = application(TASKS)
    rounds, batch = (50 if thorough else 5), 200
    for number in range(rounds):
        app.ask(f"len(work.map([(n,) for n in range({number * batch}, {(number + 1) * batch})]))")
        worker = app.worker("--drain-timeout", "10", name=f"round-{number}", concurrency=4)
        ended = len(app.evidence.ends())
        app.evidence.wait_for("end", times=ended + chance.randint(1, batch // 2))
        worker.signal(chance.choice([signal.SIGTERM, signal.SIGINT]))
        assert worker.wait(PATIENCE) == 0, worker.log()
        assert app.ask("queue.workers()") == []
    app.worker(name="last", concurrency=4)
    stats = app.wait_for_stats(completed=rounds * batch, timeout=PATIENCE)

    assert stats == {**dict.fromkeys(stats, 0), "completed": rounds * batch}
    for event in ("start", "end"):
        counts = app.evidence.count(event)
        assert len(counts) == rounds * batch
        assert set(counts.values()) == {1}, f"{event}: a job ran twice"


def usage(pid: int, database: Path) -> dict[str, int]:
    """Return what a worker and its database use now."""
    status = Path(f"/proc/{pid}/status").read_text()
    facts = dict(line.split(":", 1) for line in status.splitlines())
    # The size of a file by its name opens nothing.
    log = Path(f"{database}-wal")
    return {
        "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": int(facts["Threads"]),
        "memory": int(facts["VmRSS"].split()[0]) << 10,
        "log": log.stat().st_size if log.exists() else 0,
        "database": database.stat().st_size,
    }
