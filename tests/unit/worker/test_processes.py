"""The parts of the process pool that need no process of their own."""

from __future__ import annotations

import signal
import socket

import pytest

from taskito import Queue
from taskito.app.child import application_of, load
from taskito.exceptions import CapabilityError, ConfigurationError
from taskito.plugins.manager import plugin_manager
from taskito.worker.config import WorkerConfig
from taskito.worker.processes import messages
from taskito.worker.processes.application import Application
from taskito.worker.processes.child import describe_status
from taskito.worker.processes.messages import ChildPipe, WorkerPipe
from taskito.worker.processes.serving import PipeSink


@pytest.fixture
def pipes():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield WorkerPipe(ours), ChildPipe(theirs)


@pytest.fixture
def queue(tmp_path):
    with Queue(db_path=tmp_path / "tasks.db") as queue:
        yield queue


def job_function():
    return 1


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (0, "exited with status 0"),
        (3, "exited with status 3"),
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (-signal.SIGKILL, "was killed by SIGKILL"),
        (-63, "was killed by signal 63"),
    ],
)
def test_how_a_process_ended(status, told):
    assert describe_status(status) == told


# The pipe -----------------------------------------------------------------------------------------


def test_messages_arrive_whole_however_large_they_are(pipes):
    worker, child = pipes
    large = b"x" * 3_000_000
    worker.send([messages.RUN, large])
    assert worker.unsent, "nobody has read yet, and nobody waits for that"
    while worker.unsent:
        assert child._read()
        worker.flush()
    assert child.receive(messages.RUN) == [messages.RUN, large]


def test_text_that_is_no_unicode_crosses_the_pipe(pipes):
    worker, child = pipes
    child.send([messages.LOG, 1, "info", "a \udcff b"])
    assert worker.receive() == [[messages.LOG, 1, "info", "a \udcff b"]]


def test_what_is_no_message_breaks_the_pipe(pipes):
    worker, child = pipes
    child._end.sendall(b"\x01")
    assert worker.receive() == []
    assert worker.broken


def test_a_closed_pipe_tells_both_ends(pipes):
    worker, child = pipes
    child.close()
    assert worker.receive() == []
    assert worker.broken
    worker.send([messages.RUN])  # raises nothing: how the child ended says more


def test_a_cancellation_is_seen_between_other_messages_and_for_its_run_only(pipes):
    worker, child = pipes
    assert not child.cancelled(7)
    worker.send([messages.CANCEL, 7])
    worker.send([messages.ORIGINALS, ["a"]])
    assert child.cancelled(7)
    assert not child.cancelled(8)
    assert child.receive(messages.ORIGINALS) == [messages.ORIGINALS, ["a"]]
    worker.close()
    assert child.receive(messages.RUN) is None


def test_a_store_without_progress_is_told_in_the_child(pipes):
    sink = PipeSink(pipes[1], "plain", supported=False)
    with pytest.raises(CapabilityError, match="plain"):
        sink.append_log("id", 1, "info", "line")


# Where the tasks are ------------------------------------------------------------------------------


def test_the_queue_is_found_by_what_it_knows(queue):
    # No other test's queue has it.
    queue.task(name="found")(job_function)
    described = application_of(queue)
    assert (described.tasks, described.modules) == (("found",), (__name__,))
    assert Application.unpacked(described.packed()) == described
    assert load(Application.unpacked({**described.packed(), "modules": []})) is queue


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda queue: queue.task(lambda: 1), "inside a function"),
        (lambda queue: queue.task(job_function), f"importing {__name__} does not define it"),
    ],
)
def test_why_a_task_is_missing(queue, make, told):
    task = make(queue)
    assert told in application_of(queue).why_missing(task)


def test_a_task_of_an_interactive_session_cannot_be_found(queue):
    def typed():
        pass

    typed.__module__, typed.__qualname__ = "__main__", "typed"
    application = Application(entry="", main=None, modules=(), place=None, tasks=())
    assert "interactive" in application.why_missing(queue.task(name="typed")(typed))


# Settings -----------------------------------------------------------------------------------------


def test_a_store_in_memory_is_refused():
    for options in ({"backend": "memory://"}, {"db_path": ":memory:"}):
        with (
            Queue(**options) as queue,
            pytest.raises(ConfigurationError, match=r"^pool: 'process'"),
        ):
            queue.run_worker(pool="process")


def test_a_scheduler_from_a_plugin_is_refused(queue, monkeypatch):
    monkeypatch.setattr(plugin_manager(), "scheduler", object)
    with pytest.raises(ConfigurationError, match=r"^pool: 'process' does not go with a scheduler"):
        queue.run_worker(pool="process")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tasks_per_child", 0),
        ("max_tasks_per_child", 1.5),
        ("max_memory_per_child", 0),
        ("max_memory_per_child", "512X"),
        ("max_memory_per_child", "M"),
        ("preload", 1),
    ],
)
def test_a_wrong_setting_is_named(queue, field, value):
    with pytest.raises(ConfigurationError, match=rf"^{field}: "):
        queue.run_worker(pool="process", **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_tasks_per_child", 5), ("max_memory_per_child", "1G"), ("preload", True)],
)
def test_settings_of_children_need_children(queue, field, value):
    with pytest.raises(ConfigurationError, match=rf"^{field}: .*pool='process'"):
        queue.run_worker(**{field: value})


def test_the_pool_needs_to_know_where_the_tasks_are(queue):
    codec = queue._connection.codec
    with pytest.raises(ConfigurationError, match=r"^application: "):
        WorkerConfig(
            serializers=codec.accepted,
            serializer=codec.serializer,
            decode_metadata=codec.decode_metadata,
            pool="process",
        )
