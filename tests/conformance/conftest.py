"""Runs one check of the kit for one backend, with fixtures made by hand."""

from __future__ import annotations

import inspect
import uuid
from contextlib import ExitStack
from dataclasses import replace

import pytest

from taskito.backends import BackendOptions, params
from taskito.backends.memory import MemoryBackend
from taskito.testing import VirtualClock
from taskito.testing.conformance import BackendConformance
from taskito.testing.conformance.fixtures import NOW, fresh_namespace, worker_starter
from taskito.testing.conformance.gauge import Gauge


def count_nothing(backend):
    return {"steps": 0, "round_trips": 0}


class HandMadeFixtures:
    """The fixtures of the kit for one check, made when they are asked for."""

    def __init__(self, backend_class: type[MemoryBackend]) -> None:
        self.opened = ExitStack()
        self.made = {}
        self.backend_class = backend_class
        self.store_name = uuid.uuid4().hex

    def __getitem__(self, name):
        if name not in self.made:
            self.made[name] = getattr(self, f"make_{name}")()
        return self.made[name]

    def make_clock(self):
        return VirtualClock(NOW)

    def make_capabilities(self):
        return self.backend_class.capabilities

    def make_options(self):
        return BackendOptions(namespace=fresh_namespace(), clock=self["clock"])

    def make_backend_factory(self):
        return lambda options: self.backend_class("", options)

    def make_backend(self):
        return self.opened.enter_context(self["backend_factory"](self["options"]))

    def make_gauge(self):
        # Never seconds: nothing here depends on how busy the machine is.
        return Gauge(self["backend"], getattr(self.backend_class, "cost_meter", count_nothing))

    def make_counting_gauge(self):
        assert self["gauge"].meter is not None
        return self["gauge"]

    def make_open_again(self):
        def open_again(**changes):
            options = replace(self["options"], **changes)
            return self.opened.enter_context(self.backend_class(self.store_name, options))

        return open_again

    def make_start_worker(self):
        return worker_starter(self["backend"])

    def make_worker(self):
        return self["start_worker"]()

    def make_enqueue(self):
        def enqueue(task="add", **fields):
            return self["backend"].enqueue([params.NewJob(task=task, **fields)])[0].id

        return enqueue

    def make_job(self):
        return lambda job_id: self["backend"].get([job_id])[0]


@pytest.fixture
def run_check():
    """Run one check, by its name; it raises what it raises. The rest are its arguments."""

    def run(backend_class, check, **arguments):
        method = getattr(BackendConformance(), check)
        fixtures = HandMadeFixtures(backend_class)
        wanted = set(inspect.signature(method).parameters) - set(arguments)
        with fixtures.opened:
            method(**arguments, **{name: fixtures[name] for name in wanted})

    return run
