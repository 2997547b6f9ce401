from __future__ import annotations

import pytest

from taskito import Queue
from taskito.worker.state import StateHolder, WorkerPhase


def test_notices_that_mean_a_phase_change_it() -> None:
    states = StateHolder()
    seen = []
    states.listen(lambda state: seen.append(str(state.phase)))
    for kind in ("started", "stale", "storage", "storage_recovered", "draining", "stopped"):
        states.noticed(kind, f"because of {kind}")
    assert seen == ["starting", "ready", "storage failing", "ready", "draining", "stopped"]
    assert states.current.reason == "because of stopped"


def test_a_worker_that_drains_is_never_ready_again() -> None:
    states = StateHolder()
    states.become(WorkerPhase.DRAINING, "asked to")
    states.noticed("storage_recovered", "the store works again")
    states.noticed("storage", "the store fails")
    assert (states.current.phase, states.current.ready) == (WorkerPhase.DRAINING, False)


def test_a_listener_that_fails_is_named_and_the_others_are_told(caplog) -> None:
    states = StateHolder()
    seen = []

    def fails(state):
        if state.ready:
            raise OSError("no")

    states.listen(fails)
    states.listen(seen.append)
    states.become(WorkerPhase.READY, "it works")
    assert seen[-1].ready
    assert "fails" in caplog.text


@pytest.mark.parametrize("backend", ["memory://", None])
def test_a_monitor_sees_the_whole_life_of_a_worker(tmp_path, backend) -> None:
    place = {"backend": backend} if backend else {"db_path": tmp_path / "tasks.db"}
    with Queue(workers=1, **place) as queue:
        seen = []
        found = []

        def changed(state):
            seen.append(state.phase)
            if state.ready:
                found[0].stop()

        def monitor(worker):
            found.append(worker)
            worker.watch_state(changed)

        queue.run_worker(monitor=monitor)
        assert seen == ["starting", "ready", "draining", "stopped"]
        assert found[0].silent_for() < 30


def test_a_monitor_that_raises_leaves_no_worker_behind(tmp_path) -> None:
    with Queue(db_path=tmp_path / "tasks.db") as queue:

        def monitor(_worker):
            raise OSError("no")

        with pytest.raises(OSError, match="no"):
            queue.run_worker(monitor=monitor)
        assert queue.workers() == []


def test_checking_a_worker_leaves_no_trace(tmp_path) -> None:
    with Queue(db_path=tmp_path / "tasks.db") as queue:

        @queue.periodic("0 5 * * *")
        def nightly(): ...

        config = queue.check_worker(["mail"], concurrency=3)
        assert (config.queues, config.concurrency) == (("mail",), 3)
        assert queue.workers() == []
        assert list(queue.backend.schedules()) == []
