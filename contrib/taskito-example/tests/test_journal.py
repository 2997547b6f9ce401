"""What the kit cannot know of: the files of this store, damaged and replaced."""

from __future__ import annotations

import fcntl

import pytest
from taskito_example import DirectoryBackend
from taskito_example.journal import SPARE_ENTRIES

from taskito import Queue
from taskito.backends import BackendOptions
from taskito.backends.params import CancelRequest, NewJob
from taskito.exceptions import (
    ConfigurationError,
    DatabaseCorruptError,
    DatabaseMovedError,
    StorageBusyError,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs"


@pytest.fixture
def backend(path):
    with DirectoryBackend(path) as opened:
        yield opened


def journal_of(path):
    return path / "default" / "journal"


def enqueue(backend):
    return backend.enqueue([NewJob(task="add", payload=b"\x00\xff")])[0].id


def test_the_scheme_is_found_through_the_plugin(path):
    with Queue(backend=f"directory://{path}") as queue:
        assert queue.remote_task("add").delay(1).status == "pending"
    assert journal_of(path).stat().st_size


def test_a_url_with_options_is_refused(path):
    with pytest.raises(ConfigurationError, match="mode=fast"):
        Queue(backend=f"directory://{path}?mode=fast")


def test_a_line_that_was_cut_off_is_removed(backend, path):
    kept = enqueue(backend)
    whole = journal_of(path).read_bytes()
    lost = enqueue(backend)
    cut = journal_of(path).read_bytes()[:-5]
    journal_of(path).write_bytes(cut)
    with DirectoryBackend(path) as other:
        found, missing = other.get([kept, lost])
        assert found.payload == b"\x00\xff"
        assert missing is None
        assert journal_of(path).read_bytes() == whole
        assert other.get([enqueue(other)]) != [None]


def test_damage_before_the_end_is_told_and_nothing_is_removed(backend, path):
    enqueue(backend)
    enqueue(backend)
    damaged = b"X" + journal_of(path).read_bytes()[1:]
    journal_of(path).write_bytes(damaged)
    with (
        DirectoryBackend(path) as other,
        pytest.raises(DatabaseCorruptError, match=r"journal.* byte 0"),
    ):
        other.counts()
    assert journal_of(path).read_bytes() == damaged


def test_a_long_journal_is_replaced_and_others_follow(backend, path):
    with DirectoryBackend(path) as other:
        before = other.wait(0, 0)
        sizes = []
        for _ in range(SPARE_ENTRIES // 100 + 2):
            ids = [job.id for job in backend.enqueue([NewJob(task="add", result_ttl_ms=0)] * 100)]
            backend.cancel(CancelRequest(ids=tuple(ids)))
            backend.maintain(100)
            sizes.append(journal_of(path).stat().st_size)
        assert sizes != sorted(sizes)
        assert other.wait(before, 30) > before
        last = enqueue(backend)
        assert [record.id for record in other.get([last])] == [last]
        assert sum(row.count for row in other.counts()) == 1


def test_a_directory_that_is_gone_is_told(backend, path):
    path.rename(path.with_name("moved"))
    with pytest.raises(DatabaseMovedError, match="jobs"):
        enqueue(backend)


def test_a_lock_that_stays_held_is_told(path):
    with (
        DirectoryBackend(path, BackendOptions(busy_timeout_ms=0)) as backend,
        (path / "default" / "lock").open() as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StorageBusyError, match="busy_timeout_ms"):
            enqueue(backend)
