"""How thorough a run of the kit is, chosen by the environment variable of this module."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, settings

__all__ = ["PROFILES", "VARIABLE", "Profile", "current_profile", "kit_settings"]

VARIABLE = "TASKITO_CONFORMANCE_PROFILE"
"""The environment variable that names the profile: ``quick`` (default), ``ci`` or ``thorough``."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How much a run of the kit tries.

    Attributes:
        name: Its name, as the environment variable has it.
        examples: How many examples Hypothesis makes of each property.
        steps: The longest run of a state machine.
        rounds: How often a race or a crash is repeated.
        jobs: How many jobs a race or a crash is about.
        backlog: How many waiting jobs the budget stage looks at, at most.
    """

    name: str
    examples: int
    steps: int
    rounds: int
    jobs: int
    backlog: int


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("quick", examples=20, steps=25, rounds=1, jobs=100, backlog=5_000),
        Profile("ci", examples=100, steps=50, rounds=5, jobs=400, backlog=50_000),
        Profile("thorough", examples=600, steps=100, rounds=30, jobs=1_000, backlog=200_000),
    )
}
"""The profiles by name.

Their sizes follow from what one store may take on one processor. The stateful stage, which takes
most of it, plays twice the number of examples, at about 2 ms a step for a store in a file: 2 s of
it in ``quick``, 20 s in ``ci``, and 4 minutes in ``thorough``. A whole run takes about twice that,
so that four kinds of store and everything else are done in an hour on two processors. With more
than 100 steps an example would only meet the bound on its number of jobs.
"""


def current_profile() -> Profile:
    """Return the profile that the environment asks for.

    Raises:
        ValueError: It names none.
    """
    name = os.environ.get(VARIABLE, "quick")
    try:
        return PROFILES[name]
    except KeyError:
        raise ValueError(f"{VARIABLE}: {name!r} is not one of {', '.join(PROFILES)}") from None


def kit_settings(*, share: float = 1.0, **changes: Any) -> settings:
    """Return the Hypothesis settings of the present profile, for use as a decorator.

    An example takes as long as the store needs, so there is no deadline. One property runs in the
    class of each backend, with the fixtures of that class: Hypothesis warns of both by default.

    Args:
        share: The part of the profile's examples that this property gets.
        changes: Other settings, passed on.

    Example:
        >>> kit_settings(share=0.5).deadline is None
        True
    """
    profile = current_profile()
    wanted: dict[str, Any] = {
        "max_examples": max(1, int(profile.examples * share)),
        "stateful_step_count": profile.steps,
        "deadline": None,
        "derandomize": False,
        "print_blob": True,
        # Not the phase that explains: it runs a failing example very often.
        "phases": (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink),
        "suppress_health_check": [
            HealthCheck.too_slow,
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    }
    return settings(**{**wanted, **changes})
