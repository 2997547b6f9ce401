"""Workflows run by a real worker over a store in memory and in a file."""

from __future__ import annotations

import threading

import pytest

from taskito import (
    ConfigurationError,
    MaxRetriesExceededError,
    Queue,
    StepOutcome,
    TaskFailedError,
    chain,
    chord,
    chunks,
    group,
    starmap,
)
from taskito.canvas import from_data
from taskito.serializers.msgpack import MsgpackSerializer


@pytest.fixture(params=["memory", "sqlite"])
def queue(request, tmp_path):
    place = (
        {"backend": "memory://"} if request.param == "memory" else {"db_path": tmp_path / "q.db"}
    )
    with Queue(**place, workers=2, default_retry=0, durability="off") as queue:
        yield queue


@pytest.fixture
def tasks(queue):
    @queue.task("add")
    def add(a, b):
        return a + b

    @queue.task("total")
    def total(numbers):
        return sum(numbers)

    @queue.task("same")
    def same(value):
        return value

    @queue.task("give")
    def give(value=None):
        return value

    @queue.task("fail")
    def fail(*args):
        raise ValueError("no luck")

    @queue.task("sizes")
    def sizes(values):
        return [len(value) for value in values]

    @queue.task("outcomes")
    def outcomes(results):
        assert all(isinstance(result, StepOutcome) for result in results)
        return [[result.ok, result.value, result.error] for result in results]

    return {name: queue.tasks[name] for name in queue.tasks}


@pytest.fixture
def working(queue, tasks):
    thread = threading.Thread(target=queue.run_worker, daemon=True)
    thread.start()
    yield
    queue.shutdown()
    thread.join(20)


pytestmark = pytest.mark.usefixtures("working")


def test_a_chain_passes_results_on(tasks):
    add = tasks["add"]
    assert chain(add.s(1, 2), add.s(10), add.s(100)).apply().result(timeout=10) == 113
    assert (add.s(1, 2) | add.s(10)).apply().result(timeout=10) == 13


def test_an_immutable_step_is_left_alone(tasks):
    job = chain(tasks["add"].s(1, 2), tasks["give"].si("own"), tasks["same"].s()).apply()
    assert job.result(timeout=10) == "own"


def test_a_group_is_a_list_and_a_chord_gets_its_results_in_order(tasks):
    add = tasks["add"]
    jobs = group(add.s(n, n) for n in range(5)).apply()
    assert [job.result(timeout=10) for job in jobs] == [0, 2, 4, 6, 8]
    job = chord([add.s(n, n) for n in range(5)], tasks["same"].s()).apply()
    assert job.result(timeout=10) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False])
def test_any_value_passes_through_every_construct(tasks, value):
    give, same = tasks["give"], tasks["same"]
    flow = chain(give.s(value), same.s(), group(same.s(), same.s()), same.s())
    assert flow.apply().result(timeout=10) == [value, value]


def test_large_results_pass_although_together_they_are_larger_than_a_payload(tasks):
    megabyte = b"x" * 1_000_000
    flow = chain(tasks["give"].s(megabyte), group([tasks["same"].s()] * 5), tasks["sizes"].s())
    assert flow.apply().result(timeout=20) == [1_000_000] * 5


def test_nesting(tasks):
    add, total, same = tasks["add"], tasks["total"], tasks["same"]
    flow = chain(
        chord(
            group(
                chain(add.s(1, 1), add.s(1)),
                chord(group(add.s(2, 2), add.s(3, 3)), total.s()),
                chain(add.s(0, 0), group(add.s(5), add.s(6)), total.s()),
            ),
            total.s(),
        ),
        add.s(1_000),
        group(add.s(1), group(add.s(2), add.s(3))),
        same.s(),
    )
    assert flow.apply().result(timeout=20) == [1_025, [1_026, 1_027]]


def test_a_chain_may_end_with_a_group(tasks):
    add = tasks["add"]
    first, [second] = chain(add.s(1, 1), group(add.s(1), group(add.s(2)))).apply()
    assert (first.result(timeout=10), second.result(timeout=10)) == (3, 4)


def test_an_empty_group_has_no_results_and_keeps_the_order(queue, tasks):
    job = chain(tasks["add"].s(1, 1), group([]), tasks["same"].s()).apply()
    assert job.result(timeout=10) == []
    assert len(job.dependencies) == 1
    assert group([]).apply(queue) == []


def test_chunks_and_starmap(tasks):
    jobs = chunks(tasks["total"], range(10), 4).apply()
    assert [job.result(timeout=10) for job in jobs] == [6, 22, 17]
    assert [job.result(timeout=10) for job in starmap(tasks["add"], [(1, 2), (3, 4)]).apply()] == [
        3,
        7,
    ]


def test_a_workflow_survives_msgpack(queue, tasks):
    add = tasks["add"]
    flow = chain(
        add.s(1, b=2).set(priority=3),
        chord(
            group(add.s(1), add.s(2), max_concurrency=1), tasks["total"].s(), allow_failures=False
        ),
    )
    msgpack = MsgpackSerializer()
    again = from_data(msgpack.loads(msgpack.dumps(flow.to_data())))
    assert again == flow
    assert again.apply(queue).result(timeout=10) == 9
    with pytest.raises(ConfigurationError, match="queue"):
        again.apply()


def test_a_failed_step_is_named_at_the_end(tasks):
    job = chain(
        tasks["add"].s(1, 1), tasks["fail"].s(), tasks["same"].s(), tasks["same"].s()
    ).apply()
    with pytest.raises(MaxRetriesExceededError, match=r"task .fail. failed.*no luck") as caught:
        job.result(timeout=10)
    assert caught.value.error_type == "ValueError"
    assert "no luck" in caught.value.remote_traceback
    assert caught.value.job_id != job.id
    assert caught.value.job_id in str(caught.value)


def test_members_of_a_group_tell_their_own_outcome(tasks):
    good, bad = group(tasks["give"].s(1), tasks["fail"].s()).apply()
    assert good.result(timeout=10) == 1
    with pytest.raises(TaskFailedError, match="no luck"):
        bad.result(timeout=10)


def test_a_chord_may_take_failures(tasks):
    lost = chain(tasks["fail"].s(), tasks["same"].s())
    members = group(tasks["give"].s(7), tasks["fail"].s(), lost)
    job = chord(members, tasks["outcomes"].s(), allow_failures=True).apply()
    good, bad, cancelled = job.result(timeout=10)
    assert good == [True, 7, None]
    assert bad == [False, None, "ValueError: no luck"]
    assert cancelled[:2] == [False, None]
    assert "failed" in cancelled[2]


def test_a_bad_workflow_stores_nothing(queue, tasks):
    before = queue.stats()
    with pytest.raises(ConfigurationError):
        chain(tasks["add"].s(1, 1), tasks["add"].s(1).set(priority=1_000)).apply()
    with pytest.raises(ConfigurationError, match="signatures"):
        chain(tasks["add"].s(1, 1), tasks["add"])
    with pytest.raises(ConfigurationError, match="no steps"):
        chain()
    assert queue.stats() == before
