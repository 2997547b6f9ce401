"""Enqueueing: options, keys, dependencies, batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskito import (
    ConfigurationError,
    PayloadTooLargeError,
    Queue,
    SerializationError,
    TaskNotRegisteredError,
)
from taskito.serializers import MsgpackSerializer


@pytest.fixture
def queue(memory_queue):
    @memory_queue.task("add")
    def add(a: int, b: int) -> int:
        return a + b

    return memory_queue


def record(queue, job):
    return queue.backend.get([job.id])[0]


def test_arguments_travel_as_they_are(queue):
    add = queue.tasks["add"]
    for job in (
        add.delay(1, b=2),
        add.apply_async((1,), {"b": 2}),
        queue.enqueue("add", [1], {"b": 2}),
        queue.enqueue(add, (1,), {"b": 2}),
    ):
        assert msgpack.unpackb(record(queue, job).payload) == [[1], {"b": 2}]
        assert record(queue, job).serializer == "msgpack"


def test_tuples_and_dates_survive(queue):
    value = (1, {2, 3}, datetime(2030, 1, 1, tzinfo=UTC), {"a": (None,)})
    job = queue.enqueue("add", (value,), {"b": value})
    assert MsgpackSerializer().loads(record(queue, job).payload) == [[value], {"b": value}]


def test_every_option_reaches_the_store(queue):
    moment = datetime(2100, 1, 1, tzinfo=UTC)
    milliseconds = int(moment.timestamp() * 1000)
    parent = queue.enqueue("add")
    job = queue.enqueue(
        "add",
        (1, 2),
        priority=-5,
        queue="other",
        max_retries=9,
        timeout=0.5,
        unique_key="key",
        metadata={"tags": ["a"], "at": moment},
        depends_on=[parent],
        delay=3,
        expires=moment,
        result_ttl=60,
    )
    found = record(queue, job)
    assert (found.priority, found.queue, found.max_retries) == (-5, "other", 9)
    assert (found.timeout_ms, found.unique_key) == (500, "key")
    assert found.dependencies == (parent.id,)
    assert found.expires_ms == milliseconds
    assert job.metadata == {"tags": ["a"], "at": moment}
    assert record(queue, queue.enqueue("add", eta=moment)).due_ms == milliseconds


def test_task_options_reach_the_store(queue):
    task = queue.task("x", queue="q", max_crashes=5, expires=60, priority=3)(max)
    found = record(queue, task.delay())
    assert (found.queue, found.max_crashes, found.priority) == ("q", 5, 3)
    assert found.expires_ms == found.created_ms + 60_000
    moment = datetime(2100, 1, 1, tzinfo=UTC)
    assert record(queue, task.apply_async(expires=moment)).expires_ms == 4102444800000


WRONG = {
    "args": "ab",
    "kwargs": {1: 2},
    "priority": 1.5,
    "delay": -1,
    "queue": "a\nb",
    "max_retries": -1,
    "timeout": "soon",
    "unique_key": "",
    "metadata": [1],
    "depends_on": 5,
    "eta": datetime(2030, 1, 1),  # noqa: DTZ001
    "expires": datetime(2030, 1, 1),  # noqa: DTZ001
    "result_ttl": -1,
    "idempotency_key": 5,
}


@pytest.mark.parametrize("option", WRONG)
def test_each_wrong_option_is_named_and_nothing_is_stored(queue, option):
    with pytest.raises(ConfigurationError, match=f"^{option}: "):
        queue.enqueue("add", **{option: WRONG[option]})
    with pytest.raises(ConfigurationError, match=f"^{option}: "):
        queue.tasks["add"].apply_async(**{option: WRONG[option]})
    assert queue.stats()["pending"] == 0


def test_delay_and_eta_exclude_each_other(queue):
    with pytest.raises(ConfigurationError, match="not both"):
        queue.enqueue("add", delay=0, eta=datetime.now(UTC))


def test_an_eta_in_the_past_is_now(queue, hand_worker):
    worker = hand_worker(queue)
    queue.enqueue("add", eta=datetime.now(UTC) - timedelta(days=1))
    assert len(worker.claim()) == 1


def test_unknown_tasks_are_refused_with_the_closest_names(queue):
    with pytest.raises(TaskNotRegisteredError, match="did you mean 'add'"):
        queue.enqueue("ad")
    with pytest.raises(TaskNotRegisteredError, match="remote_task"):
        queue.enqueue("something.else.entirely")
    with pytest.raises(TaskNotRegisteredError):
        queue.enqueue_many("ad", [(1,)])
    with pytest.raises(ConfigurationError, match="task_name"):
        queue.enqueue(None)


def test_arguments_that_cannot_be_encoded_are_refused(queue):
    with pytest.raises(SerializationError):
        queue.enqueue("add", (object(),))
    with pytest.raises(SerializationError):
        queue.enqueue("add", metadata={"a": object()})
    assert queue.stats()["pending"] == 0


def test_a_payload_has_a_largest_size():
    with Queue(backend="memory://", max_payload_bytes=100) as queue:
        queue.task("x")(max)
        for how in ({"args": ("y" * 101,)}, {"metadata": {"a": "y" * 101}}):
            with pytest.raises(PayloadTooLargeError, match=r"\d+ bytes.*100"):
                queue.enqueue("x", **how)
        queue.enqueue("x", ("y" * 80,))


def test_a_unique_key_yields_the_job_that_holds_it(queue, hand_worker):
    worker = hand_worker(queue)
    first = queue.enqueue("add", (1,), unique_key="k")
    assert queue.enqueue("add", (2,), unique_key="k") == first
    worker.succeed(worker.claim()[0], b"\xc0")
    second = queue.enqueue("add", (3,), unique_key="k")
    assert second != first
    queue.cancel_job(second.id)
    assert queue.enqueue("add", (3,), unique_key="k") not in {first, second}


def test_an_idempotency_key_is_held_until_the_purge(queue, hand_worker):
    worker = hand_worker(queue)
    first = queue.enqueue("add", idempotency_key="k")
    worker.succeed(worker.claim()[0], b"\xc0")
    assert queue.enqueue("add", idempotency_key="k") == first
    queue.purge_completed(0)
    assert queue.enqueue("add", idempotency_key="k") != first


def test_an_idempotent_task_has_one_job_for_one_set_of_arguments(queue):
    task = queue.task("x", idempotent=True)(max)
    other = queue.task("y", idempotent=True)(max)
    first = task.delay(1, a=1, b=2)
    assert task.delay(1, b=2, a=1) == first
    assert task.delay(2, a=1, b=2) != first
    assert task.delay(1, a=1) != first
    assert other.delay(1, a=1, b=2) != first
    assert task.apply_async((1,), {"a": 1, "b": 2}, unique_key="own") != first
    assert task.map([(5,), (5,)])[0] == task.delay(5)


@given(st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.booleans()))
def test_idempotent_calls_do_not_depend_on_the_order_of_keywords(args, kwargs):
    with Queue(backend="memory://") as queue:
        task = queue.task("x", idempotent=True)(max)
        first = task.apply_async(args, kwargs)
        assert task.apply_async(args, dict(reversed(kwargs.items()))) == first
        assert task.apply_async([*args, 0], kwargs) != first


# Dependencies -------------------------------------------------------------------------------------


def test_dependencies_are_ids_jobs_or_lists(queue):
    one, two = queue.enqueue("add"), queue.enqueue("add")
    for given_ in (one, one.id, [one.id], (one,), {one}):
        assert queue.enqueue("add", depends_on=given_).dependencies == [one.id]
    assert set(queue.enqueue("add", depends_on=[one, two, one.id]).dependencies) == {one.id, two.id}
    assert queue.enqueue("add", depends_on=[]).dependencies == []


def test_an_unknown_dependency_is_a_value_error(queue):
    with pytest.raises(ValueError, match=r"depends_on: .*01890a5d-ac96-774b-bcce-b302099a8057"):
        queue.enqueue("add", depends_on="01890a5d-ac96-774b-bcce-b302099a8057")
    with pytest.raises(ValueError, match=r"depends_on: .*nonsense"):
        queue.enqueue("add", depends_on=["nonsense"])
    assert queue.stats()["pending"] == 0


def test_a_cancelled_parent_cancels_its_descendants(queue):
    parent = queue.enqueue("add")
    child = queue.enqueue("add", depends_on=parent)
    grandchild = queue.enqueue("add", depends_on=child)
    assert queue.cancel_job(parent.id)
    assert [child.status, grandchild.status] == ["cancelled"] * 2
    assert queue.enqueue("add", depends_on=parent).status == "cancelled"


# Batches ------------------------------------------------------------------------------------------


def test_a_batch_answers_in_order(queue):
    jobs = queue.enqueue_many(
        "add",
        [(1, 2), [3, 4], ()],
        [{}, None, {"b": 5}],
        priority=4,
        queue="q",
        max_retries=1,
        timeout=9,
        delay_list=[None, 60, 0],
        metadata_list=[{"n": 0}, None, {"n": 2}],
    )
    records = [record(queue, job) for job in jobs]
    assert [msgpack.unpackb(found.payload) for found in records] == [
        [[1, 2], {}],
        [[3, 4], {}],
        [[], {"b": 5}],
    ]
    assert [job.status for job in jobs] == ["pending"] * 3
    assert jobs[1].waiting_on == "delay"
    assert [job.metadata for job in jobs] == [{"n": 0}, {}, {"n": 2}]
    assert {
        (found.priority, found.queue, found.max_retries, found.timeout_ms) for found in records
    } == {(4, "q", 1, 9000)}


def test_common_options_apply_to_each_item(queue):
    jobs = queue.enqueue_many("add", iter([(1,), (2,)]), delay=60, metadata={"a": 1})
    assert [job.waiting_on for job in jobs] == ["delay"] * 2
    assert [job.metadata for job in jobs] == [{"a": 1}] * 2


def test_a_duplicate_key_does_not_fail_the_batch(queue):
    held = queue.enqueue("add", unique_key="a")
    jobs = queue.enqueue_many("add", [(1,), (2,), (3,), (4,)], unique_keys=["a", "b", "b", None])
    assert jobs[0] == held
    assert jobs[1] == jobs[2]
    assert len(set(jobs)) == 3
    assert queue.stats()["pending"] == 3


@pytest.mark.parametrize("column", ["kwargs_list", "delay_list", "unique_keys", "metadata_list"])
def test_columns_are_as_long_as_the_batch(queue, column):
    for wrong in ([None], [None] * 3):
        with pytest.raises(ConfigurationError, match=f"^{column}: .* args_list has 2"):
            queue.enqueue_many("add", [(1,), (2,)], **{column: wrong})
    with pytest.raises(ConfigurationError, match=f"^{column}: "):
        queue.enqueue_many("add", [(1,)], **{column: "x"})
    assert queue.stats()["pending"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"args_list": [(1,), "ab"]},
        {"args_list": [(1,), 5]},
        {"args_list": [(1,), (object(),)]},
        {"args_list": [(1,), (2,)], "kwargs_list": [None, {1: 2}]},
        {"args_list": [(1,), (2,)], "delay_list": [None, -1]},
        {"args_list": [(1,), (2,)], "unique_keys": [None, ""]},
        {"args_list": [(1,), (2,)], "metadata_list": [None, 5]},
    ],
)
def test_one_wrong_item_refuses_the_batch_and_is_named(queue, wrong):
    with pytest.raises((ConfigurationError, SerializationError), match=r"\[1\]|item 1"):
        queue.enqueue_many("add", **wrong)
    assert queue.stats()["pending"] == 0


def test_one_option_is_not_given_twice(queue):
    with pytest.raises(ConfigurationError, match="delay"):
        queue.enqueue_many("add", [(1,)], delay=1, delay_list=[1])
    with pytest.raises(ConfigurationError, match="metadata"):
        queue.enqueue_many("add", [(1,)], metadata={}, metadata_list=[{}])


def test_an_empty_batch_is_no_job(queue):
    assert queue.enqueue_many("add", []) == []
    assert queue.tasks["add"].map([]) == []


@pytest.mark.parametrize("wrong", ["ab", 5, None, {"a": 1}])
def test_a_batch_is_a_list(queue, wrong):
    with pytest.raises(ConfigurationError, match="args_list"):
        queue.enqueue_many("add", wrong)
    with pytest.raises(ConfigurationError, match="calls"):
        queue.tasks["add"].map(wrong)


def test_more_than_ten_thousand_jobs_are_one_atom(queue):
    jobs = queue.tasks["add"].map([(i, i) for i in range(10_001)])
    assert len(set(jobs)) == 10_001
    assert queue.stats()["pending"] == 10_001
