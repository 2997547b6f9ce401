from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import pytest

from taskito.supervisor.channel import Channel, Report, split_lines
from taskito.supervisor.health import STUCK_AFTER
from taskito.supervisor.monitor import Monitor
from taskito.supervisor.notify import Notifier
from taskito.worker.state import StateHolder, WorkerPhase


class FakeWorker:
    """A worker whose state and silence a test decides."""

    id = "abc"
    config = SimpleNamespace(drain_timeout=12.5)

    def __init__(self):
        self.states = StateHolder()
        self.silent = 0.0
        self.stops = []

    @property
    def state(self):
        return self.states.current

    def watch_state(self, listener):
        self.states.listen(listener)

    def silent_for(self):
        return self.silent

    def stop(self, drain_timeout=None, *, reason=None):
        self.stops.append((drain_timeout, reason))


@pytest.fixture
def worker():
    return FakeWorker()


@pytest.fixture
def init(tmp_path):
    """Return what an init system has received."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)

        def received():
            found = []
            try:
                while True:
                    found.append(listener.recv(4_096).decode())
            except BlockingIOError:
                return found

        yield str(tmp_path / "notify"), received


def test_phases_are_told_to_the_init_system(init, worker) -> None:
    address, received = init
    Monitor(Notifier(address)).attach(worker)
    assert received() == ["STATUS=starting: the worker is made"]
    for kind in ("started", "storage", "storage_recovered", "draining", "stopped"):
        worker.states.noticed(kind, "so it is")
    assert received() == [
        "READY=1\nSTATUS=so it is",
        "STATUS=storage failing: so it is",
        "STATUS=ready: so it is",
        "STOPPING=1\nSTATUS=so it is",
        "STATUS=stopped: so it is",
    ]


def test_a_stuck_worker_gives_no_sign_of_life(init, worker) -> None:
    address, received = init
    monitor = Monitor(Notifier(address, watchdog=60))
    monitor.attach(worker)
    received()
    worker.silent = STUCK_AFTER
    monitor._beat()
    assert received() == []
    assert not monitor.health().live
    worker.silent = 0.5
    monitor._beat()
    assert received() == ["WATCHDOG=1"]


def test_a_worker_is_not_ready_before_it_is_there(worker) -> None:
    monitor = Monitor(Notifier(None))
    assert (monitor.health().live, monitor.health().ready) == (True, False)
    monitor.attach(worker)
    worker.states.become(WorkerPhase.READY, "it claims")
    [found] = monitor.health().workers
    assert (found.process, found.worker, found.ready) == (os.getpid(), "abc", True)


def test_a_supervisor_hears_of_each_change_and_can_stop_the_worker_at_once(worker) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monitor = Monitor(Notifier(None), Channel(theirs))
        monitor.attach(worker)
        worker.states.become(WorkerPhase.READY, "it claims")
        lines, _ = split_lines(ours.recv(65_536))
        assert [Report.decoded(line).phase for line in lines] == ["starting", "ready"]
        assert Report.decoded(lines[-1]) == Report(
            phase="ready", reason="it claims", worker="abc", silent=0.0, drain_timeout=12.5
        )
        monitor._stop_at_once()
        [(drain_timeout, reason)] = worker.stops
        assert drain_timeout == 0
        assert "at once by the supervisor" in reason
