"""The stateful stage: plays many examples of ``StoreMachine``, and shortens the one that fails."""
# ruff: noqa: D102 -- the name of a check says what it proves

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import hypothesis
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import run_state_machine_as_test

from taskito.backends import Capabilities
from taskito.testing.conformance.fixtures import BackendFactory
from taskito.testing.conformance.profiles import current_profile, kit_settings
from taskito.testing.conformance.reproduction import play_again
from taskito.testing.conformance.stateful import StoreMachine
from taskito.testing.conformance.topic import Topic

__all__ = ["StatefulStage", "run_machine"]

SHRINKING_SECONDS = {"quick": 15, "ci": 60, "thorough": 300}
"""How long a failure is made shorter, by profile."""


class StatefulStage(Topic):
    """Arbitrary interleavings of all operations; see ``StoreMachine``."""

    stage = "stateful"
    topic = "stateful"
    needed = ("virtual_time",)

    def test_any_interleaving_leaves_the_store_like_the_model(
        self, backend_factory: BackendFactory, capabilities: Capabilities
    ) -> None:
        settings = kit_settings(share=2, report_multiple_bugs=False)
        with _shrinking_for(SHRINKING_SECONDS[current_profile().name]):
            run_machine(backend_factory, capabilities, settings)


def run_machine(
    factory: BackendFactory, capabilities: Capabilities, settings: hypothesis.settings
) -> None:
    """Play with one kind of backend, and raise what the first difference from the model raises.

    Args:
        factory: Makes the backend.
        capabilities: What it declares.
        settings: How many examples, and of how many steps.
    """

    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(factory, capabilities)

    play_again(Machine)
    run_state_machine_as_test(Machine, settings=settings)


@contextmanager
def _shrinking_for(seconds: int) -> Iterator[None]:
    """Bound the search for a shorter failure, which Hypothesis has no setting for.

    Otherwise it takes up to five minutes, and a limit on the time of a test hides the failure.
    """
    before = getattr(engine, "MAX_SHRINKING_SECONDS", seconds)
    engine.MAX_SHRINKING_SECONDS = seconds
    try:
        yield
    finally:
        engine.MAX_SHRINKING_SECONDS = before
