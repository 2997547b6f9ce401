"""The kit tested itself: a broken backend fails the check named for it, the correct one passes."""

from __future__ import annotations

import inspect
import runpy
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from taskito.backends import BackendOptions, params
from taskito.backends.memory import MemoryBackend
from taskito.exceptions import TaskitoError
from taskito.testing import VirtualClock
from taskito.testing.conformance import BackendConformance
from taskito.testing.conformance.fixtures import NOW, fresh_namespace, worker_starter

MUTANTS = runpy.run_path(str(Path(__file__).with_name("mutants.py")))["MUTANTS"]
LEAST = 25


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


def run_check(backend_class, mutant):
    """Run one check of the kit; it raises what it raises."""
    check = getattr(BackendConformance(), mutant.check)
    fixtures = HandMadeFixtures(backend_class)
    wanted = set(inspect.signature(check).parameters) - set(mutant.arguments)
    with fixtures.opened:
        check(**mutant.arguments, **{name: fixtures[name] for name in wanted})


def test_there_are_enough_mutants():
    assert len({mutant.backend.__name__ for mutant in MUTANTS}) >= LEAST


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.backend.__name__)
def test_the_named_check_fails_for_the_mutant_only(mutant):
    run_check(MemoryBackend, mutant)
    # A mistake in the mutant itself, such as a TypeError, is no evidence.
    with pytest.raises((AssertionError, TaskitoError, pytest.fail.Exception)):
        run_check(mutant.backend, mutant)
