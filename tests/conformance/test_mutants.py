"""The kit tested itself: a broken backend fails the check named for it, the correct one passes."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from hypothesis import Phase

from taskito.backends.memory import MemoryBackend
from taskito.exceptions import TaskitoError
from taskito.testing.conformance.interleavings import run_machine
from taskito.testing.conformance.profiles import current_profile, kit_settings

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


STATEFUL = ["AnswersOkForStale", "LetsAnyWorkerSettle", "SettlesWithoutFencing", "SuspectsNobody"]
"""Mutants that any interleaving has to show, too, without a check that was written for them."""

SELDOM = [
    "BurnsAnAttemptOnSnooze",
    "ClaimsWhilePaused",
    "ExpiresStartedJobs",
    "IgnoresTheDueTimeInTheOrder",
    "LeasesOnTheWallClock",
    "PurgeFreesNothing",
    "RetriesAJobThatIsToBeCancelled",
    "SparesGrandchildren",
    "UnblocksAfterTheFirstParent",
]
"""The same for a thorough run: it takes many examples until they show."""

if current_profile().name == "thorough":
    STATEFUL += SELDOM


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", STATEFUL)
def test_the_stateful_stage_finds_the_mutant(name):
    [broken] = [mutant.backend for mutant in MUTANTS if mutant.backend.__name__ == name]
    # Always the same examples; the search ends with the first that fails.
    settings = kit_settings(
        max_examples=1_000,
        stateful_step_count=50,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate],
    )
    with pytest.raises(AssertionError):
        run_machine(lambda options: broken("", options), broken.capabilities, settings)
