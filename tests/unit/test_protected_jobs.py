"""Jobs with signed or encrypted payloads, and what happens when somebody tampers with the store."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading

import pytest

from taskito import CapabilityError, ConfigurationError, Queue, SerializationError, TaskFailedError
from taskito.backends.memory import MemoryBackend
from taskito.backends.params import NewJob
from taskito.serializers import EncryptedSerializer, MsgpackSerializer, SignedSerializer

KEY = bytes(range(32))
KINDS = [SignedSerializer, EncryptedSerializer]
SWAP = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as connection:
    (one, first), (two, second) = connection.execute("SELECT seq, payload FROM job").fetchall()
    for seq, payload in ((one, second), (two, first)):
        connection.execute("UPDATE job SET payload = ? WHERE seq = ?", (payload, seq))
connection.close()
"""


class Application:
    """A queue whose calls are protected, and a record of the bodies that ran."""

    def __init__(self, path, kind=SignedSerializer, *, key=KEY, **options):
        self.ran = []
        self.queue = Queue(
            db_path=path, serializer=kind(MsgpackSerializer(), {"k": key}), workers=1, **options
        )

        @self.queue.task(name="pay", max_retries=0)
        def pay(amount):
            self.ran.append(amount)
            return amount

        @self.queue.task(name="refund", max_retries=0)
        def refund(amount):
            self.ran.append(-amount)
            return -amount

        self.pay, self.refund = pay, refund

    def work(self):
        threading.Thread(target=self.queue.run_worker, daemon=True).start()


@pytest.fixture(params=KINDS)
def application(request, tmp_path):
    made = []

    def make(**options):
        app = Application(str(tmp_path / "t.db"), request.param, **options)
        made.append(app)
        return app

    yield make
    for app in made:
        app.queue.close()


def refused(job, told):
    with pytest.raises(TaskFailedError, match=told):
        job.result(timeout=20)
    assert job.status == "dead"
    assert job.errors[0]["kind"] == "rejected"


def test_protected_jobs_run_and_return(application):
    app = application()
    app.work()
    assert [job.result(timeout=20) for job in app.pay.map([(1,), (2,)])] == [1, 2]
    assert app.pay.apply_async((3,), metadata={"a": 1}, unique_key="k").result(timeout=20) == 3


def steal(app, source, **changes):
    """Store a job as somebody could who can write the store: a copy with changes."""
    record = app.queue.backend.get([source.id])[0]
    fields = {"task": record.task, "payload": record.payload, "serializer": record.serializer}
    answer = app.queue.backend.enqueue([NewJob(**{**fields, "max_retries": 0, **changes})])[0]
    return app.queue.get_job(answer.id)


def test_a_stolen_payload_is_refused_at_another_job_or_task(application):
    app = application()
    original = app.pay.delay(10)
    copies = [steal(app, original), steal(app, original, task="refund")]
    app.work()
    assert original.result(timeout=20) == 10
    for copy in copies:
        refused(copy, f"made for the call of job {original.id} of task 'pay', and was found at")
    assert app.ran == [10]


def test_payloads_of_two_jobs_swapped_in_the_file_are_refused(application, tmp_path):
    app = application()
    jobs = [app.pay.delay(1), app.pay.delay(2)]
    app.queue.close()
    # In a process of its own: two libraries must not have the file open in one.
    subprocess.run([sys.executable, "-c", SWAP, tmp_path / "t.db"], check=True)
    again = application()
    again.work()
    for job in jobs:
        refused(again.queue.get_job(job.id), "was made for the call of job")
    assert again.ran == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda payload: payload[:-1], "was changed"),
        (lambda payload: payload[:-1] + bytes([payload[-1] ^ 1]), "was changed"),
        (lambda payload: payload[:20], "cut off"),
        (lambda _: b"", "does not begin"),
        (lambda _: b"\x92\x91\x01\x80", "does not begin"),
    ],
    ids=["cut", "garbled", "cut in the header", "empty", "plain msgpack"],
)
def test_a_damaged_payload_is_refused(application, change, told):
    app = application()
    original = app.queue.enqueue("pay", (1,), delay=3600)
    record = app.queue.backend.get([original.id])[0]
    copy = steal(app, original, payload=change(record.payload))
    app.work()
    refused(copy, told)
    assert app.ran == []


def test_a_plain_payload_is_no_way_around_the_signature(application):
    app = application()
    payload = MsgpackSerializer().dumps([[1], {}])
    answers = app.queue.backend.enqueue(
        [NewJob(task="pay", payload=payload, serializer=name) for name in ("msgpack", "json")]
    )
    app.work()
    for answer in answers:
        refused(app.queue.get_job(answer.id), "accepts only")
    assert app.ran == []


def test_a_payload_signed_anew_with_another_key_is_refused(application):
    stranger = application(key=bytes(32))
    job = stranger.pay.delay(1)
    app = application()
    app.work()
    refused(app.queue.get_job(job.id), "another key")
    assert app.ran == []


def test_a_result_counts_for_its_own_job_only(application, hand_worker):
    app = application()
    worker = hand_worker(app.queue)
    results = []
    app.work()
    for amount in (1, 2):
        job = app.pay.delay(amount)
        assert job.result(timeout=20) == amount
        results.append(app.queue.backend.get([job.id])[0])
    app.queue.shutdown()
    app.queue._stop_workers()
    victim = app.pay.delay(3)
    claimed = worker.claim()[0]
    worker.succeed(claimed, results[0].result, results[0].result_serializer)
    with pytest.raises(SerializationError, match=r"made for the result of job .* found at"):
        victim.result(timeout=20)


def test_a_dead_job_can_be_replayed_and_a_replay_replayed(application):
    app = application()
    fail = threading.Event()
    fail.set()

    @app.queue.task(name="brittle", max_retries=0)
    def brittle(value):
        if fail.is_set():
            raise RuntimeError("not yet")
        return value

    app.work()
    job = brittle.delay(5)
    for _ in range(2):
        with pytest.raises(TaskFailedError, match="not yet"):
            job.result(timeout=20)
        job = app.queue.get_job(app.queue.retry_dead(job.id))
    with pytest.raises(TaskFailedError, match="not yet"):
        job.result(timeout=20)
    fail.clear()
    assert app.queue.get_job(app.queue.retry_dead(job.id)).result(timeout=20) == 5


def test_idempotent_tasks_have_one_key_for_equal_calls(application):
    app = application()

    @app.queue.task(idempotent=True)
    def once(a, *, b=0, c=0): ...

    first = once.delay(1, b=2, c=3)
    assert once.delay(1, c=3, b=2) == first
    assert once.delay(1, b=2, c=4) != first


def test_a_backend_without_given_ids_is_refused():
    class Without(MemoryBackend):
        capabilities = dataclasses.replace(MemoryBackend.capabilities, given_ids=False)

    serializer = SignedSerializer(MsgpackSerializer(), {"k": KEY})
    with Queue(backend=Without(), serializer=serializer) as queue:
        with pytest.raises(CapabilityError, match="given_ids"):
            queue.task(name="t")(lambda: None)
        assert not queue.tasks


def test_only_the_protected_serializer_is_accepted_unless_said_otherwise(tmp_path):
    serializer = SignedSerializer(MsgpackSerializer(), {"k": KEY})
    with Queue(db_path=tmp_path / "t.db", serializer=serializer) as queue:
        assert queue._connection.codec.accept == ("signed-msgpack",)
        with pytest.raises(ConfigurationError, match="not accepted"):
            queue.task(name="t", serializer="json")(lambda: None)
