"""Opening and closing a store, and the options of both."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from taskito.backends import Backend, BackendOptions, params
from taskito.backends.params import JobState, NewJob
from taskito.exceptions import ConfigurationError, QueueClosedError
from taskito.testing.conformance.fixtures import BackendFactory, OpenAgain, worker_starter
from taskito.testing.conformance.snapshot import observe
from taskito.testing.conformance.topic import Topic, needs

__all__ = ["LifecycleContract"]

JOB = NewJob(task="add")


class LifecycleContract(Topic):
    """What ``open`` and ``close`` promise."""

    topic = "lifecycle"

    def test_a_backend_says_what_it_is(self, backend: Backend) -> None:
        assert isinstance(backend, Backend)
        assert isinstance(backend.name, str)
        assert backend.name

    def test_opening_and_closing_twice_is_fine(
        self, backend_factory: BackendFactory, options: BackendOptions
    ) -> None:
        backend = backend_factory(options)
        backend.open()
        backend.open()
        backend.enqueue([JOB])
        backend.close()
        backend.close()

    def test_a_backend_that_was_never_opened_can_be_closed(
        self, backend_factory: BackendFactory, options: BackendOptions
    ) -> None:
        backend_factory(options).close()

    def test_every_operation_of_a_closed_backend_is_refused(
        self, backend_factory: BackendFactory, options: BackendOptions
    ) -> None:
        backend = backend_factory(options)
        backend.open()
        backend.enqueue([JOB])
        backend.close()
        registration = params.WorkerRegistration(id="0" * 32, pid=1, host="h")
        operations: list[Callable[[], object]] = [
            lambda: backend.enqueue([JOB]),
            lambda: backend.register(registration),
            lambda: backend.unregister("0" * 32),
            lambda: backend.exchange(params.ExchangeRequest(worker="0" * 32)),
            lambda: backend.maintain(1),
            lambda: backend.wait(0, 0),
            lambda: backend.get([]),
            lambda: backend.list(params.ListRequest()),
            backend.counts,
            backend.workers,
            lambda: backend.cancel(params.CancelRequest(ids=())),
            lambda: backend.purge(params.PurgeRequest()),
        ]
        for operation in operations:
            with pytest.raises(QueueClosedError, match="closed"):
                operation()

    def test_a_closed_backend_can_be_opened_again(
        self, backend_factory: BackendFactory, options: BackendOptions
    ) -> None:
        backend = backend_factory(options)
        backend.open()
        backend.close()
        with backend:
            [answer] = backend.enqueue([JOB])
            assert [record and record.id for record in backend.get([answer.id])] == [answer.id]

    def test_closing_wakes_who_waits(
        self, backend_factory: BackendFactory, options: BackendOptions
    ) -> None:
        backend = backend_factory(options)
        backend.open()
        since = backend.wait(0, 0)
        waiting = threading.Event()
        raised = threading.Event()

        def wait() -> None:
            waiting.set()
            try:
                while True:
                    backend.wait(since, 60)
            except QueueClosedError:
                raised.set()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        waiting.wait(30)
        backend.close()
        assert raised.wait(30)
        thread.join(30)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("namespace", ""),
            ("namespace", "a\nb"),
            ("durability", "most"),
            ("busy_timeout_ms", -1),
        ],
    )
    def test_a_bad_option_is_named(
        self,
        backend_factory: BackendFactory,
        options: BackendOptions,
        field: str,
        value: object,
    ) -> None:
        with pytest.raises(ConfigurationError, match=field):
            backend_factory(replace(options, **{field: value})).open()  # type: ignore[arg-type]

    def test_all_who_open_a_store_see_one_set_of_jobs(self, open_again: OpenAgain) -> None:
        first, second = open_again(), open_again()
        [answer] = first.enqueue([JOB])
        assert observe(first) == observe(second)
        worker = worker_starter(second)()
        assert worker.succeed() == answer.id
        [record] = first.get([answer.id])
        assert record is not None
        assert record.state is JobState.COMPLETE
        assert observe(first) == observe(second)

    @needs("cross_process")
    def test_what_was_accepted_is_there_after_the_store_was_closed(
        self, open_again: OpenAgain
    ) -> None:
        first = open_again()
        first.enqueue([NewJob(task="add", payload=b"p", metadata=b"m")] * 3)
        worker = worker_starter(first)()
        worker.succeed()
        worker.fail()
        worker.leave()
        before = observe(first)
        first.close()
        assert observe(open_again()) == before
