"""The same figures without the queue, and every difference between the two ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from measure import BROKEN, ModuleFigures, describe, measure_module

__all__ = ["DeadLetter", "PlainIndex", "QueuedIndex", "Starts", "count_plainly", "differences"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A module that could not be indexed: the last error in one line, and how often it failed."""

    error: str
    attempts: int


@dataclass(frozen=True, slots=True)
class QueuedIndex:
    """What the queue says: figures and dead letters by module, and the counts of `stats()`."""

    figures: Mapping[str, ModuleFigures]
    dead_letters: Mapping[str, DeadLetter]
    stats: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PlainIndex:
    """What a plain loop says: figures by module, and errors in one line by broken module."""

    figures: Mapping[str, ModuleFigures]
    errors: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Starts:
    """What the task itself wrote down: how often it started on each module, in which process."""

    by_module: Mapping[str, int]
    by_process: Mapping[int, int]

    @classmethod
    def read(cls, evidence: Path) -> Starts:
        """Read the file that the task appends a line to at each start."""
        lines = evidence.read_text().splitlines() if evidence.exists() else []
        pairs = [line.split(" ", 1) for line in lines]
        return cls(Counter(name for _, name in pairs), Counter(int(pid) for pid, _ in pairs))


def count_plainly(names: Iterable[str]) -> PlainIndex:
    """Index the modules in a loop, with the function that the task calls."""
    figures: dict[str, ModuleFigures] = {}
    errors: dict[str, str] = {}
    for name in names:
        try:
            figures[name] = measure_module(name)
        except BROKEN as error:
            errors[name] = describe(error)
    return PlainIndex(figures, errors)


def differences(
    queued: QueuedIndex, plain: PlainIndex, starts: Starts, *, max_retries: int
) -> list[str]:
    """Return one line per difference between the queue, the plain loop and the recorded starts."""
    return [
        *_wrong_figures(queued, plain),
        *_wrong_dead_letters(queued, plain, max_retries + 1),
        *_wrong_stats(queued, plain),
        *_wrong_starts(starts, plain, max_retries + 1),
    ]


def _wrong_figures(queued: QueuedIndex, plain: PlainIndex) -> Iterable[str]:
    for name in sorted(queued.figures.keys() | plain.figures.keys()):
        found, expected = queued.figures.get(name), plain.figures.get(name)
        if found is None or expected is None:
            missing_in = "the queue's results" if found is None else "the plain loop's"
            yield f"{name}: its figures are missing in {missing_in}"
        elif found != expected:
            yield f"{name}: the queue's figures are {found}, the plain loop's {expected}"


def _wrong_dead_letters(queued: QueuedIndex, plain: PlainIndex, attempts: int) -> Iterable[str]:
    for name in sorted(queued.dead_letters.keys() | plain.errors.keys()):
        found, error = queued.dead_letters.get(name), plain.errors.get(name)
        if found is None:
            yield f"{name}: it is broken ({error}), but no dead letter"
        elif error is None:
            yield f"{name}: it is a dead letter ({found.error}), but not broken"
        elif found != DeadLetter(error, attempts):
            yield (
                f"{name}: the dead letter has {found.attempts} attempts and the error "
                f"{found.error!r}; expected {attempts} and {error!r}"
            )


def _wrong_stats(queued: QueuedIndex, plain: PlainIndex) -> Iterable[str]:
    expected = {"completed": len(plain.figures), "dead": len(plain.errors)}
    for status, count in queued.stats.items():
        if count != expected.get(status, 0):
            yield f"stats: {count} jobs are {status}; expected {expected.get(status, 0)}"


def _wrong_starts(starts: Starts, plain: PlainIndex, attempts: int) -> Iterable[str]:
    expected = dict.fromkeys(plain.figures, 1) | dict.fromkeys(plain.errors, attempts)
    for name in sorted(starts.by_module.keys() | expected.keys()):
        found = starts.by_module.get(name, 0)
        if found != expected.get(name, 0):
            yield f"{name}: the task started {found} times; expected {expected.get(name, 0)}"
