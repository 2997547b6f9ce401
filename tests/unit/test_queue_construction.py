"""Making, opening and closing a ``Queue``."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from taskito import CapabilityError, ConfigurationError, Queue, QueueClosedError, StorageError
from taskito.backends.memory import MemoryBackend
from taskito.backends.sqlite import SqliteBackend
from taskito.serializers import JsonSerializer

WRONG = {
    "workers": -1,
    "default_retry": -1,
    "default_timeout": -1,
    "default_priority": 1000,
    "result_ttl": -1,
    "backend": "nonsense",
    "serializer": "nonsense",
    "accept": "msgpack",
    "durability": "maybe",
    "namespace": "",
    "drain_timeout": -1,
    "max_payload_bytes": 0,
    "clock": 5,
    "lease": 0,
    "busy_timeout": float("inf"),
}


@pytest.mark.parametrize("option", WRONG)
def test_each_wrong_option_is_named(option):
    with pytest.raises(ConfigurationError, match=f"^{option}: "):
        Queue(**{option: WRONG[option]})


@pytest.mark.parametrize("path", ["", 5, b"x.db", "a\0b"])
def test_a_path_is_a_text(path):
    with pytest.raises(ConfigurationError, match=r"^db_path: "):
        Queue(path)


def test_a_path_and_a_backend_exclude_each_other(tmp_path):
    with pytest.raises(ConfigurationError, match=r"db_path: .*backend='memory://'"):
        Queue(tmp_path / "x.db", backend="memory://")


def test_unknown_schemes_and_serializers_are_refused_at_once():
    with pytest.raises(ConfigurationError, match=r"'memry'.*'memory'"):
        Queue(backend="memry://")
    with pytest.raises(ConfigurationError, match="msgpck"):
        Queue(accept=["msgpck"])


def test_no_file_is_touched_before_the_first_use(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queue = Queue()
    queue.task("x")(max)
    assert not list(tmp_path.iterdir())
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    with queue:
        queue.enqueue("x")
        assert (tmp_path / ".taskito" / "taskito.db").is_file()


def test_nothing_native_is_loaded_before_the_first_use():
    program = """
        import sys
        from taskito import Queue
        queue = Queue(db_path="never.db")
        @queue.task()
        def work(): ...
        sys.exit("taskito._core" in sys.modules or "asyncio" in sys.modules)
    """
    subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(program)], check=True)


def test_paths_with_special_characters_are_taken_literally(tmp_path):
    path = tmp_path / "a b#c?d%20é" / "t.db"
    with Queue(path) as queue:
        queue.remote_task("x").delay()
    assert path.is_file()
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"^path: .*file"):
        Queue(tmp_path / "file" / "sub" / "x.db").stats()


def test_a_memory_path_is_private_to_its_queue():
    with Queue(":memory:") as one, Queue(":memory:") as two:
        one.remote_task("x").delay()
        assert one.stats()["pending"] == 1
        assert two.stats()["pending"] == 0
    assert not Path(":memory:").exists()


def test_namespaces_of_one_file_are_strangers(tmp_path):
    with Queue(tmp_path / "x.db") as one, Queue(tmp_path / "x.db", namespace="two") as two:
        job = one.remote_task("x").apply_async(unique_key="k")
        other = two.remote_task("x").apply_async(unique_key="k")
        assert job.id != other.id
        assert two.get_job(job.id) is None
        assert one.stats()["pending"] == two.stats()["pending"] == 1
        one.pause()
        assert two.paused_queues() == []


def test_two_queues_on_one_file_share_the_jobs(tmp_path):
    with Queue(tmp_path / "x.db") as one:
        with Queue(backend=f"sqlite:///{tmp_path}/x.db") as two:
            job = one.remote_task("x").delay()
            assert two.get_job(job.id).status == "pending"
        assert job.status == "pending"


def test_a_backend_object_stays_with_whoever_made_it():
    backend = MemoryBackend()
    with Queue(backend=backend) as one, Queue(backend=backend) as two:
        job = one.remote_task("x").delay()
        two.close()
        assert one.get_job(job.id) == job
    assert backend.get([job.id])[0] is not None
    backend.close()


def test_options_of_the_store_do_not_go_beside_an_object():
    for option in ({"namespace": "a"}, {"durability": "off"}, {"busy_timeout": 1}):
        with pytest.raises(ConfigurationError, match=next(iter(option))):
            Queue(backend=MemoryBackend(), **option)


def test_a_clock_needs_a_backend_that_takes_one():
    class Clock:
        def wall_ms(self) -> int:
            return 1_000

        def steady_ms(self) -> int:
            return 1_000

    with Queue(backend="memory://", clock=Clock()) as queue:
        assert queue.remote_task("x").delay().to_dict()["created_at"] == 1_000


def test_a_closed_queue_says_so():
    queue = Queue(backend="memory://")
    job = queue.remote_task("x").delay()
    queue.close()
    queue.close()
    for use in (job.refresh, queue.stats, lambda: queue.enqueue("x"), queue.run_worker):
        with pytest.raises(QueueClosedError, match="closed"):
            use()


def test_a_queue_that_was_never_opened_can_be_closed(tmp_path):
    queue = Queue(tmp_path / "x.db")
    queue.close()
    with pytest.raises(QueueClosedError):
        queue.stats()
    assert not list(tmp_path.iterdir())


def test_the_backend_can_be_seen(tmp_path):
    with Queue(tmp_path / "x.db", busy_timeout=1.5, durability="off") as queue:
        assert isinstance(queue.backend, SqliteBackend)
        assert queue.backend.path == str(tmp_path / "x.db")
        assert queue.backend.options.busy_timeout_ms == 1500
        assert queue.backend.options.durability == "off"


def test_passwords_are_not_shown():
    from taskito.connection import _without_password

    shown = _without_password("postgresql://me:secret@host:5432/db")
    assert shown == "postgresql://me@host:5432/db"
    assert _without_password("sqlite:///a.db") == "sqlite:///a.db"
    assert "memory://" in repr(Queue(backend="memory://"))


def test_defaults_apply_however_a_job_is_enqueued():
    with Queue(None, 0, 7, 11, 13, 17, backend="memory://") as queue:
        task = queue.task("x")(max)
        own = queue.task("y", max_retries=0, timeout=0, priority=0, result_ttl=0)(max)
        jobs = [task.delay(1), queue.enqueue("x"), *task.map([(1,)]), task.apply_async()]
        jobs += queue.enqueue_many("x", [(1,)])
        for job in jobs:
            found = job.to_dict()
            assert (found["max_retries"], found["timeout_ms"], found["priority"]) == (7, 11000, 13)
        found = own.delay().to_dict()
        assert (found["max_retries"], found["timeout_ms"], found["priority"]) == (0, 0, 0)
        found = own.apply_async(max_retries=1, timeout=2, priority=3).to_dict()
        assert (found["max_retries"], found["timeout_ms"], found["priority"]) == (1, 2000, 3)


def test_serializers_that_decode():
    def accepted(**options):
        return Queue(backend="memory://", **options)._connection.codec.accept

    assert accepted() == ("msgpack", "json")
    assert accepted(serializer="pickle") == ("pickle", "msgpack", "json")
    assert accepted(accept=["json"]) == ("msgpack", "json")
    assert accepted(accept=["pickle"]) == ("msgpack", "pickle")
    assert accepted(serializer=JsonSerializer(), accept=[]) == ("json",)


def test_a_task_may_not_encode_what_its_queue_does_not_decode():
    queue = Queue(backend="memory://")
    with pytest.raises(ConfigurationError, match=r"serializer: 'pickle' is not accepted"):
        queue.task("x", serializer="pickle")(max)
    queue.task("y", serializer="json")(max)


def test_pool_and_queues_are_checked(memory_queue):
    with pytest.raises(ConfigurationError, match=r"pool: 'gevent' .*'thread'"):
        memory_queue.run_worker(pool="gevent")
    with pytest.raises(ConfigurationError, match="queues"):
        memory_queue.run_worker("default")
    with pytest.raises(ConfigurationError, match="concurrency"):
        memory_queue.run_worker(concurrency=-1)


def test_a_capability_is_asked_for_at_once():
    class Plain(MemoryBackend):
        capabilities = type(MemoryBackend.capabilities)()

    queue = Queue(backend=Plain())
    task = queue.task("x")(max)
    with pytest.raises(CapabilityError, match="idempotent="):
        queue.task("y", idempotent=True)(max)
    with pytest.raises(CapabilityError, match="unique_key="):
        task.apply_async(unique_key="k")
    with pytest.raises(CapabilityError, match="depends_on="):
        task.apply_async(depends_on="some-id")
    assert task.apply_async(depends_on=[]).dependencies == []
    queue.close()


def test_tasks_are_not_pickled(memory_queue):
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(memory_queue.remote_task("x"))
