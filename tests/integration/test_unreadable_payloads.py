"""Whoever can write the store can neither crash a worker nor make code run in it."""

from __future__ import annotations

import base64
import pickle

import pytest
from taskito_processes import RemoteError

pytestmark = pytest.mark.process

TASKS = """
import base64
from taskito.backends.params import NewJob

@queue.task(name="work", max_retries=3)
def work(*args):
    note("start", "work")
    return len(args)

def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value

def nested_map(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value

def smuggle(payload, serializer):
    job = NewJob(task="work", payload=base64.b64decode(payload), serializer=serializer)
    return queue.backend.enqueue([job])[0].id
"""
DEPTH = 10_000


class Exploit:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def nested_extension(depth):
    """Extensions in extensions, each with the right length: a set of a set of a set."""
    data = b"\xc0"
    for _ in range(depth):
        data = b"\xc9" + len(data).to_bytes(4, "big") + b"\x05" + data
    return data


def bad_payloads(marker):
    """Return payloads by name: the serializer they claim, and their bytes."""
    return {
        "nested lists": ("msgpack", b"\x92" + b"\x91" * DEPTH + b"\xc0" + b"\x80"),
        "nested maps": ("msgpack", b"\x92\x91" + b"\x81\xa1a" * DEPTH + b"\xc0" + b"\x80"),
        "nested extensions": ("msgpack", b"\x92\x91" + nested_extension(1_000) + b"\x80"),
        "nested json": ("json", b"[[" + b"[" * DEPTH + b"]" * DEPTH + b"],{}]"),
        "a byte that msgpack never uses": ("msgpack", b"\xc1 garbage"),
        "nothing": ("msgpack", b""),
        "cut off": ("msgpack", b"\x92\x91\xda\xff\xffabc"),
        "a huge length": ("msgpack", b"\x92\xdd\xff\xff\xff\xff"),
        "no call": ("msgpack", b"\xa5hello"),
        "no json": ("json", b"{]"),
        "an unknown serializer": ("yaml", b"- 1"),
        "pickle": ("pickle", pickle.dumps([[Exploit(str(marker))], {}])),
    }


@pytest.mark.parametrize("shape", ["nested", "nested_map"])
def test_arguments_nested_10000_deep_are_refused_at_the_enqueue(application, shape):
    app = application(TASKS)
    console = app.console()
    for code in (f"work.delay({shape}({DEPTH}))", f"work.map([(1,), ({shape}({DEPTH}),)])"):
        with pytest.raises(RemoteError) as refusal:
            console.ask(code)
        assert "SerializationError" in refusal.value.kinds
    assert console.ask("sum(queue.stats().values())") == 0
    assert console.ask("isinstance(work.delay(nested(20)).id, str)")


def test_unreadable_payloads_are_dead_at_once_and_the_worker_lives(application, tmp_path):
    app = application(TASKS)
    marker = tmp_path / "code-has-run"
    worker = app.worker(concurrency=2)
    ids = {
        name: app.ask(
            "smuggle(payload, serializer)",
            payload=base64.b64encode(payload).decode(),
            serializer=serializer,
        )
        for name, (serializer, payload) in bad_payloads(marker).items()
    }
    app.wait_for_stats(dead=len(ids))

    for name, (serializer, _) in bad_payloads(marker).items():
        job = app.job(ids[name])
        [error] = job["errors"]
        assert job["status"] == "dead", name
        assert error["attempt"] == 0, name
        assert error["kind"] == "rejected", name
        assert "SerializationError" in error["error"], name
        assert f"'{serializer}'" in error["error"], name
        assert ids[name] in error["error"], name
    assert app.evidence.starts() == []
    assert not marker.exists(), "a payload has made code run"

    # The same worker still works, and the letters are where they belong.
    assert app.ask("work.delay(1, 2).result(timeout=10)") == 2
    assert [event.pid for event in app.evidence.starts()] == [worker.pid]
    assert worker.is_alive()
    letters = app.cli("dead", "list", "--limit", "100")
    assert {letter["id"] for letter in letters} == set(ids.values())


def test_pickle_is_decoded_only_where_it_is_accepted(application, tmp_path):
    marker = tmp_path / "code-has-run"
    payload = base64.b64encode(pickle.dumps([[Exploit(str(marker))], {}])).decode()
    app = application(TASKS, accept=["msgpack", "pickle"])
    app.worker()
    job_id = app.ask("smuggle(payload, 'pickle')", payload=payload)
    app.wait_for_status(job_id, "complete")
    assert marker.exists(), "the exploit of the other test would prove nothing"
