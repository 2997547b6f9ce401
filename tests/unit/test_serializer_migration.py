"""A queue changes its serializer while jobs are waiting, and nothing is lost."""

from __future__ import annotations

import threading

import pytest

from taskito import Queue, TaskFailedError
from taskito.serializers import EncryptedSerializer, MsgpackSerializer, SignedSerializer

KEYS = {"k": bytes(range(32))}
MOVES = [
    ("msgpack", "json"),
    ("json", SignedSerializer(MsgpackSerializer(), KEYS)),
    (SignedSerializer(MsgpackSerializer(), KEYS), EncryptedSerializer(MsgpackSerializer(), KEYS)),
]


def name_of(serializer):
    return serializer if isinstance(serializer, str) else serializer.name


@pytest.fixture(params=MOVES, ids=lambda move: f"{name_of(move[0])} to {name_of(move[1])}")
def move(request):
    return request.param


@pytest.fixture
def open_queue(tmp_path):
    queues = []

    def open_queue(serializer, accept=None):
        queue = Queue(
            db_path=tmp_path / "t.db",
            serializer=serializer,
            accept=[serializer] if accept is None else accept,
            workers=2,
        )
        queue.task(name="double", max_retries=0)(lambda n: 2 * n)
        queues.append(queue)
        return queue

    yield open_queue
    for queue in queues:
        queue.close()


def work(queue):
    threading.Thread(target=queue.run_worker, daemon=True).start()


def test_half_the_jobs_in_each_serializer_all_complete(open_queue, move):
    old, new = move
    before = open_queue(old)
    after = open_queue(new, accept=[new, old])
    work(after)
    jobs = [
        (before if number % 2 else after).enqueue("double", (number,)).id for number in range(40)
    ]
    assert [after.get_job(job).result(timeout=30) for job in jobs] == [2 * n for n in range(40)]


def test_when_the_old_one_is_no_longer_accepted_its_jobs_are_dead_letters_and_come_back(
    open_queue, move
):
    old, new = move
    left = open_queue(old).enqueue_many("double", [(n,) for n in range(5)])
    strict = open_queue(new)
    work(strict)
    fresh = strict.enqueue_many("double", [(n,) for n in range(5, 10)])
    assert [job.result(timeout=30) for job in fresh] == [10, 12, 14, 16, 18]
    for job in left:
        with pytest.raises(TaskFailedError, match=f"'{name_of(old)}'.*accepts only.*accept="):
            strict.get_job(job.id).result(timeout=30)
    assert {letter["id"] for letter in strict.dead_letters(limit=100)} == {job.id for job in left}
    strict.shutdown()
    strict._stop_workers()

    lenient = open_queue(new, accept=[new, old])
    assert lenient.retry_all_dead() == 5
    work(lenient)
    again = [lenient.get_job(lenient.get_job(job.id).replayed_as) for job in left]
    assert [job.result(timeout=30) for job in again] == [0, 2, 4, 6, 8]
    assert lenient.stats()["completed"] == 10
