"""What every check of the kit gets: the backend under test, its clock, and played workers."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from hypothesis import is_hypothesis_test

from taskito.backends import Backend, BackendOptions, Capabilities, params
from taskito.testing.clock import VirtualClock
from taskito.testing.conformance import scorecard
from taskito.testing.conformance.cuts import CutConnection
from taskito.testing.conformance.gauge import Gauge
from taskito.testing.conformance.played_worker import PlayedWorker, StartWorker
from taskito.testing.conformance.reproduction import play_again
from taskito.testing.conformance.topic import topic_of

__all__ = [
    "NOW",
    "BackendFactory",
    "Enqueue",
    "GetJob",
    "KitFixtures",
    "OpenAgain",
    "fresh_namespace",
    "worker_starter",
]

NOW = 1_800_000_000_000
"""The wall time at which the virtual clock of each check begins."""

BackendFactory: TypeAlias = Callable[[BackendOptions], Backend]
"""Makes a backend, unopened, that follows these options."""

Enqueue: TypeAlias = Callable[..., str]
"""Enqueues one job, ``enqueue(task="add", **fields)``, and returns its id."""

GetJob: TypeAlias = Callable[[str], params.JobRecord]
"""Returns the record of a job that must exist."""

OpenAgain: TypeAlias = Callable[..., Backend]
"""Opens one shared store each time: ``open_again(**changes_of_the_options)``."""


def fresh_namespace() -> str:
    """Return a namespace that nobody has used."""
    return f"kit-{uuid.uuid4().hex}"


class KitFixtures:
    """The fixtures of the kit.

    The author of a backend supplies ``backend_factory``, in the class or anywhere pytest looks, and
    may supply some more. They can be of any scope: each check works in a namespace of its own.

    ``backend_factory`` returns what makes the backend under test from ``BackendOptions``, unopened.
    Backends of different namespaces share nothing.

    ``open_elsewhere`` (optional) returns such a factory too, whose backends all open one store, in
    whatever process: equal namespaces meet each other's jobs. It must be picklable (a function of a
    module, or ``functools.partial`` of one). It unlocks the checks with several processes.

    ``shared_backend_factory`` (optional) is the same for a store that can only be shared within one
    process; it unlocks the checks that open a store twice, as ``open_elsewhere`` does.

    ``cost_meter`` (optional) returns a ``CostMeter``, a function that tells what a backend has cost
    so far. With it, the budget stage compares what is counted there and not seconds, and looks at
    the cost of batches, too::

        @pytest.fixture
        def cost_meter(self):
            return lambda backend: {"statements": backend.statements, "round_trips": backend.trips}

    ``cut_connection`` (optional) returns a ``CutConnection``, which cuts the connection of a
    backend to its server in the middle of an operation. It unlocks the checks of what is left then.
    """

    @pytest.fixture(autouse=True)
    def _gate(self, request: pytest.FixtureRequest) -> None:
        """Tell the scorecard what this check is about; skip it where that is not declared."""
        topic = topic_of(type(self), request.node.originalname)
        capabilities: Capabilities = request.getfixturevalue("capabilities")
        backend: Backend = request.getfixturevalue("_unopened")
        scorecard.describe(request, backend)
        _skip_without(capabilities, *topic.needs)
        if is_hypothesis_test(request.function):
            play_again(request.function.__func__)

    # What the checks use ------------------------------------------------------------------------

    @pytest.fixture
    def _unopened(self, backend_factory: BackendFactory) -> Backend:
        return backend_factory(BackendOptions(namespace=fresh_namespace()))

    @pytest.fixture
    def capabilities(self, _unopened: Backend) -> Capabilities:
        """Return what the backend under test declares."""
        return _unopened.capabilities

    @pytest.fixture
    def elsewhere(self, request: pytest.FixtureRequest) -> BackendFactory:
        """Return the picklable factory of one store, ``open_elsewhere``; skip without it."""
        return _supplied_factory(request, "open_elsewhere")

    @pytest.fixture
    def shared(self, request: pytest.FixtureRequest) -> BackendFactory:
        """Return a factory of backends that share one store in this process; skip without one."""
        return _supplied_factory(request, "shared_backend_factory", "open_elsewhere")

    @pytest.fixture
    def gauge(self, request: pytest.FixtureRequest, backend: Backend) -> Gauge:
        """Return what measures operations of ``backend``, by counting where that is possible."""
        return Gauge(backend, _supplied(request, "cost_meter"))

    @pytest.fixture
    def counting_gauge(self, gauge: Gauge) -> Gauge:
        """Return a gauge that counts; skip without the fixture ``cost_meter``."""
        if gauge.meter is None:
            pytest.skip("needs the fixture cost_meter")
        return gauge

    @pytest.fixture
    def cut(self, request: pytest.FixtureRequest) -> CutConnection:
        """Return what cuts connections, ``cut_connection``; skip without it."""
        cut: CutConnection | None = _supplied(request, "cut_connection")
        if cut is None:
            pytest.skip("needs the fixture cut_connection")
        return cut

    @pytest.fixture
    def clock(self, capabilities: Capabilities) -> VirtualClock:
        """Return the clock of ``backend``; skip where it cannot be replaced."""
        if not capabilities.virtual_time:
            pytest.skip("needs the capability virtual_time")
        return VirtualClock(NOW)

    @pytest.fixture
    def options(self, capabilities: Capabilities, request: pytest.FixtureRequest) -> BackendOptions:
        """Return the options of ``backend``: a fresh namespace, and the clock if it takes one."""
        clock = request.getfixturevalue("clock") if capabilities.virtual_time else None
        return BackendOptions(namespace=fresh_namespace(), clock=clock)

    @pytest.fixture
    def backend(
        self, backend_factory: BackendFactory, options: BackendOptions
    ) -> Iterator[Backend]:
        """Return the backend under test, open and without jobs."""
        with backend_factory(options) as opened:
            yield opened

    @pytest.fixture
    def open_again(self, shared: BackendFactory, options: BackendOptions) -> Iterator[OpenAgain]:
        """Return what opens one shared store as often as wanted; all are closed at the end."""
        with ExitStack() as opened:

            def open_one(**changes: Any) -> Backend:
                return opened.enter_context(shared(replace(options, **changes)))

            yield open_one

    @pytest.fixture
    def start_worker(self, backend: Backend) -> StartWorker:
        """Return what registers a played worker with ``backend``."""
        return worker_starter(backend)

    @pytest.fixture
    def worker(self, start_worker: StartWorker) -> PlayedWorker:
        """Return a worker that serves every queue and knows the task ``add``."""
        return start_worker()

    @pytest.fixture
    def enqueue(self, backend: Backend) -> Enqueue:
        """Return what enqueues one job and returns its id."""

        def enqueue_one(task: str = "add", **fields: Any) -> str:
            [answer] = backend.enqueue([params.NewJob(task=task, **fields)])
            return answer.id

        return enqueue_one

    @pytest.fixture
    def job(self, backend: Backend) -> GetJob:
        """Return what reads the record of a job that must exist."""

        def get(id: str) -> params.JobRecord:
            [record] = backend.get([id])
            assert record is not None, f"job {id} is gone"
            return record

        return get


NO_DEAD_LETTER_LIMIT = params.DeadLetterLimit()


def worker_starter(backend: Backend) -> StartWorker:
    """Return what registers a played worker with ``backend``; for stores opened by a check."""
    numbers = itertools.count(1)
    prefix = uuid.uuid4().hex[:24]

    def start(
        *,
        queues: tuple[str, ...] | None = None,
        tasks: tuple[str, ...] = ("add",),
        lease_ms: int = 30_000,
        schedules: tuple[str, ...] = (),
        limits: tuple[params.TaskLimit, ...] = (),
        dead_letters: params.DeadLetterLimit = NO_DEAD_LETTER_LIMIT,
    ) -> PlayedWorker:
        registration = params.WorkerRegistration(
            id=f"{prefix}{next(numbers):08x}",
            pid=1,
            host="here",
            queues=queues,
            tasks=tasks,
            lease_ms=lease_ms,
            concurrency=4,
            schedules=schedules,
            limits=limits,
            dead_letters=dead_letters,
        )
        return PlayedWorker(backend, registration)

    return start


def _supplied(request: pytest.FixtureRequest, *names: str) -> Any:
    """Return the first of these fixtures that the author of the backend supplied, or None."""
    for name in names:
        try:
            value = request.getfixturevalue(name)
        except pytest.FixtureLookupError as error:
            if error.argname != name:
                raise
            continue
        if value is not None:
            return value
    return None


def _supplied_factory(request: pytest.FixtureRequest, *names: str) -> BackendFactory:
    factory: BackendFactory | None = _supplied(request, *names)
    if factory is None:
        pytest.skip(f"needs the fixture {' or '.join(names)}")
    return factory


def _skip_without(capabilities: Capabilities, *names: str) -> None:
    missing = [name for name in names if not getattr(capabilities, name)]
    if missing:
        pytest.skip(f"needs the capability {', '.join(missing)}")
