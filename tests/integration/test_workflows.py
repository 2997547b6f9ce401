"""Workflows across processes: who stored one may be gone, and workers may die at any moment."""

from __future__ import annotations

import random
import time

import pytest

pytestmark = pytest.mark.process

TASKS = """
from taskito import chain, chord, group

@queue.task()
def number(value):
    note("start", value)
    return value

@queue.task()
def plus(value, more):
    note("start", "plus")
    return value + more

@queue.task()
def total(values):
    note("start", "total")
    return sum(values)
"""

NESTED = """
flow = chain(
    chord(
        group(
            chain(number.s(1), plus.s(1)),
            chord(group(number.s(2), chain(number.s(3), plus.s(4))), total.s()),
        ),
        total.s(),
    ),
    plus.s(100),
)
acknowledge(flow.apply().id)
"""

WIDE = """
members = group(chain(number.s(n), plus.s(0)) for n in range({width}))
acknowledge(chord(members, total.s()).apply().id)
"""


def test_a_nested_workflow_is_finished_although_who_stored_it_is_gone(application):
    app = application(TASKS)
    producer = app.script(NESTED, name="producer")
    assert producer.wait(30) == 0, producer.log()
    [job_id] = app.acknowledged()
    app.worker(name="worker", concurrency=2)
    assert app.ask("queue.get_job(job_id).result(timeout=30)", job_id=job_id) == 111


def test_steps_complete_once_however_often_workers_are_killed(application):
    width = 60
    app = application(TASKS)
    producer = app.script(WIDE.format(width=width), name="producer")
    assert producer.wait(30) == 0, producer.log()
    [job_id] = app.acknowledged()
    moments = random.Random(7)
    for number in range(4):
        worker = app.worker(name=f"worker-{number}", concurrency=2)
        time.sleep(moments.uniform(0.05, 0.4))
        worker.kill()
    app.worker(name="last", concurrency=2)
    assert app.ask("queue.get_job(job_id).result(timeout=40)", job_id=job_id) == sum(range(width))
    steps = app.ask(
        "[(step.task_name, step.status) for step in queue.get_workflow("
        "queue.get_job(job_id)).steps]",
        job_id=job_id,
    )
    assert len(steps) == 2 * width + 1
    assert {status for _, status in steps} == {"complete"}
