"""What a task says about itself while it runs."""
# ruff: noqa: D102, PLR2004 -- the name of a check says what it proves

from __future__ import annotations

import uuid

import pytest

from taskito.backends import Backend, params
from taskito.backends.params import Lease
from taskito.exceptions import ConfigurationError
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance.fixtures import NOW, Enqueue, GetJob
from taskito.testing.conformance.played_worker import PlayedWorker
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic

__all__ = ["ProgressLogContract"]

SUCCESS = params.OutcomeSuccess(result=b"5", serializer="json")


class ProgressLogContract(Topic):
    """What ``set_progress``, ``append_log`` and ``logs`` promise."""

    topic = "progress_log"
    needed = ("progress_log",)

    def test_progress_needs_the_current_lease(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, job: GetJob
    ) -> None:
        job_id = enqueue()
        assert not backend.set_progress(job_id, None, 10)
        [claimed] = worker.claim()
        token = claimed.lease.token
        assert backend.set_progress(job_id, token, 40)
        assert not backend.set_progress(job_id, token + 1, 50)
        assert job(job_id).progress == 40
        assert backend.set_progress(job_id, None, 60)
        assert job(job_id).progress == 60
        worker.settle(claimed.lease, SUCCESS)
        assert not backend.set_progress(job_id, token, 70)
        assert not backend.set_progress(job_id, None, 70)
        assert not backend.set_progress(str(uuid.uuid4()), None, 70)
        assert job(job_id).progress == 60

    @pytest.mark.parametrize("percent", [0, 100])
    def test_progress_includes_its_bounds(
        self,
        backend: Backend,
        enqueue: Enqueue,
        worker: PlayedWorker,
        job: GetJob,
        percent: int,
    ) -> None:
        job_id = enqueue()
        worker.claim()
        assert backend.set_progress(job_id, None, percent)
        assert job(job_id).progress == percent

    @pytest.mark.parametrize("percent", [-1, 101])
    def test_progress_beyond_its_bounds_is_refused(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker, percent: int
    ) -> None:
        job_id = enqueue()
        worker.claim()
        before = observe(backend)
        with pytest.raises(ConfigurationError, match="percent"):
            backend.set_progress(job_id, None, percent)
        assert observe(backend) == before

    def test_log_lines_need_the_current_lease(
        self, backend: Backend, clock: VirtualClock, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        del clock
        job_id = enqueue()
        [claimed] = worker.claim()
        lease, stale = claimed.lease, Lease(id=job_id, token=claimed.lease.token + 1)
        assert backend.append_log(lease, "info", "half\nway")
        assert not backend.append_log(stale, "info", "no")
        worker.settle(lease, SUCCESS)
        assert not backend.append_log(lease, "info", "too late")
        assert list(backend.logs(job_id)) == [
            params.LogRecord(run=lease.token, at_ms=NOW, level="info", message="half\nway")
        ]
        assert list(backend.logs(str(uuid.uuid4()))) == []

    def test_log_lines_are_kept_in_order_over_all_runs(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        job_id = enqueue()
        [first] = worker.claim()
        messages = ["", "\u00e9\U0001f600", "x" * 5_000]
        for message in messages:
            assert backend.append_log(first.lease, "debug", message)
        worker.settle(first.lease, params.OutcomeRelease(interrupted=True))
        [second] = worker.claim()
        assert backend.append_log(second.lease, "error", "again")
        lines = backend.logs(job_id)
        assert [line.message for line in lines] == [*messages, "again"]
        assert [line.run for line in lines] == [first.lease.token] * 3 + [second.lease.token]
        assert [line.level for line in lines] == ["debug"] * 3 + ["error"]

    def test_a_level_without_a_name_is_refused(
        self, backend: Backend, enqueue: Enqueue, worker: PlayedWorker
    ) -> None:
        enqueue()
        [claimed] = worker.claim()
        before = observe(backend)
        with pytest.raises(ConfigurationError, match="level"):
            backend.append_log(claimed.lease, "", "line")
        assert observe(backend) == before
