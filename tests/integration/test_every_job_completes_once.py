"""Many producers and workers on one store: nothing is lost, nothing runs twice."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.process

JOBS = 20_000
PRODUCERS = 4
TASKS = """
@queue.task()
def work(number):
    note("start", number)
    return number
"""

PRODUCER = """
import random
mine = range({first}, {last})
single = 50
for number in mine[:single]:
    acknowledge(work.delay(number).id)
position = single
while position < len(mine):
    part = mine[position : position + random.randint(1, 200)]
    acknowledge(*(job.id for job in work.map([(number,) for number in part])))
    position += len(part)
"""

IN_MEMORY = """
from taskito.backends.memory import MemoryBackend

backend = MemoryBackend()
queues = [Queue(backend=backend, workers=2) for _ in range(3)]

def work(number):
    note("start", number)
    return number

tasks = [one.task(name="work")(work) for one in queues]
ids = []
share = {jobs} // {producers}

def produce(first):
    task = tasks[first % len(tasks)]
    numbers = range(first * share, (first + 1) * share)
    for position in range(0, share, 50):
        part = numbers[position : position + 50]
        ids.extend(job.id for job in task.map([(number,) for number in part]))

def consume(one):
    one.run_worker()

consumers = [threading.Thread(target=consume, args=(one,)) for one in queues]
producers = [threading.Thread(target=produce, args=(first,)) for first in range({producers})]
for thread in consumers + producers:
    thread.start()
for thread in producers:
    thread.join()
deadline = time.monotonic() + 50
while queues[0].stats()["completed"] < {jobs} and time.monotonic() < deadline:
    time.sleep(0.02)
for one in queues:
    one.shutdown()
for thread in consumers:
    thread.join()
stats = queues[0].stats()
records = []
for position in range(0, len(ids), 500):
    records += backend.get(ids[position : position + 500])
tokens = [record.run for record in records]
"""


def assert_each_started_once(evidence, jobs):
    starts = evidence.starts()
    assert len(starts) == jobs
    assert {int(event.key) for event in starts} == set(range(jobs))
    tokens = [event.token for event in starts]
    assert min(tokens) > 0
    assert len(set(tokens)) == jobs, "two runs had the same lease token"


def test_20000_jobs_of_4_processes_are_run_once_each_by_3_worker_processes(application):
    app = application(TASKS)
    for number in range(3):
        app.worker(name=f"worker-{number}", concurrency=2)
    share = JOBS // PRODUCERS
    producers = [
        app.script(PRODUCER.format(first=first * share, last=(first + 1) * share), name="producer")
        for first in range(PRODUCERS)
    ]
    for producer in producers:
        assert producer.wait(45) == 0, producer.log()
    app.wait_for_stats(completed=JOBS, timeout=45)

    assert_each_started_once(app.evidence, JOBS)
    pids = {event.pid for event in app.evidence.starts()}
    assert len(pids) == 3, "one of the workers had nothing to do"
    acknowledged = app.acknowledged()
    assert len(set(acknowledged)) == JOBS
    stats = app.stats()
    assert stats == {**dict.fromkeys(stats, 0), "completed": JOBS}
    runs = {
        token: number
        for ids in _parts(acknowledged)
        for token, number in app.ask(
            "[(job.run, queue._connection.codec.accepted[job.serializer].loads(job.payload)[0][0])"
            " for job in queue.backend.get(ids)"
            " if job.state == 'complete' and not job.errors]",
            ids=ids,
        )
    }
    assert runs == {event.token: int(event.key) for event in app.evidence.starts()}


def test_20000_jobs_of_4_threads_are_run_once_each_by_3_workers_in_memory(application):
    app = application("")
    console = app.console()
    console.run(IN_MEMORY.format(jobs=JOBS, producers=PRODUCERS), timeout=55)

    stats = console.ask("stats")
    assert stats == {**dict.fromkeys(stats, 0), "completed": JOBS}
    assert console.ask("len(set(ids))") == JOBS
    assert console.ask("len(set(tokens))") == JOBS
    assert_each_started_once(app.evidence, JOBS)


def _parts(ids):
    return [ids[first : first + 2_000] for first in range(0, len(ids), 2_000)]
