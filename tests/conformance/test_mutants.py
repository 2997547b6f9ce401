"""The kit tested itself: a broken backend fails the check named for it, the correct one passes."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from taskito.backends.memory import MemoryBackend
from taskito.exceptions import TaskitoError

MUTANTS = runpy.run_path(str(Path(__file__).with_name("mutants.py")))["MUTANTS"]
LEAST = 25


def test_there_are_enough_mutants():
    assert len({mutant.backend.__name__ for mutant in MUTANTS}) >= LEAST


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.backend.__name__)
def test_the_named_check_fails_for_the_mutant_only(run_check, mutant):
    run_check(MemoryBackend, mutant.check, **mutant.arguments)
    # A mistake in the mutant itself, such as a TypeError, is no evidence.
    with pytest.raises((AssertionError, TaskitoError, pytest.fail.Exception)):
        run_check(mutant.backend, mutant.check, **mutant.arguments)
