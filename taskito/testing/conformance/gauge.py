"""What an operation costs: counted where the author of the backend supplies a counter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from taskito.backends import Backend

__all__ = ["CostMeter", "Gauge"]

CostMeter: TypeAlias = Callable[[Backend], Mapping[str, int]]
"""Tells what a backend has cost since it was opened: ``{"statements": 17, "round_trips": 4}``.

The names are free, but for ``round_trips``: how often the backend has waited for an answer of its
server. Any number that grows with the work will do: statements, pages, instructions, bytes."""

REPEATS = 8
ATTEMPTS = 3

TIMES_MORE = 2
"""How many times more of a thing may be counted in front of a large backlog. A tree of 200,000
entries may be a level or two deeper than one of 1,000; a scan costs ten times as much or more."""

SLACK = 20
"""What may be counted beyond that, so that a step from 1 to 3 is no failure."""

TIMES_LONGER = 3.0
"""The same for the seconds that a thread computes, where nothing is counted."""


class Gauge:
    """Measures calls of one backend.

    Without a meter it takes the processor time of the calling thread, not the time on the clock:
    the best of several tries, compared within one run only, so that a busy or slow machine changes
    nothing. What a server does for the backend does not show in it; such a backend needs a meter.

    Args:
        backend: What is measured; open.
        meter: What counts, if anything does.
    """

    def __init__(self, backend: Backend, meter: CostMeter | None) -> None:
        self.backend = backend
        self.meter = meter

    def cost(self, call: Callable[[], object]) -> dict[str, float]:
        """Return the least that a call costs, by name, over several calls."""
        tries = [self._once(call) for _ in range(REPEATS)]
        return {name: min(one[name] for one in tries) for name in tries[0]}

    def assert_flat(
        self, what: str, before: Mapping[str, float], call: Callable[[], object]
    ) -> None:
        """Check that a call costs what it did before, however many jobs wait now."""
        for after in self._attempts(call):
            grown = [
                f"{_words(name, after[name])}, but {_words(name, before[name])} at first"
                for name in before
                if after[name] > _most(name, before[name])
            ]
            if not grown:
                return
        raise AssertionError(f"{what} costs {'; '.join(grown)}")

    def _once(self, call: Callable[[], object]) -> dict[str, float]:
        if self.meter is None:
            begin = time.thread_time()
            call()
            return {"seconds": time.thread_time() - begin}
        before = dict(self.meter(self.backend))
        call()
        return {name: total - before[name] for name, total in self.meter(self.backend).items()}

    def _attempts(self, call: Callable[[], object]) -> Iterator[dict[str, float]]:
        """Measure, and once more if something else got into it; what is counted needs no retry."""
        for _ in range(ATTEMPTS if self.meter is None else 1):
            yield self.cost(call)


def _most(name: str, before: float) -> float:
    return TIMES_LONGER * before if name == "seconds" else TIMES_MORE * before + SLACK


def _words(name: str, number: float) -> str:
    return f"{number * 1e6:.0f} us" if name == "seconds" else f"{number:.0f} {name}"
