"""Settings of the suite: it tests the installed package; hypothesis runs by named profiles."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import taskito

# Prints what the conformance kit has checked; under pytest-xdist the main process has to load it.
pytest_plugins = ["taskito.testing.conformance.scorecard"]

# An example takes as long as the machine needs: neither a deadline nor "too slow" is a failure.
_COMMON = {
    "deadline": None,
    "derandomize": False,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("quick", max_examples=25, stateful_step_count=20, **_COMMON)
settings.register_profile("ci", max_examples=100, stateful_step_count=50, **_COMMON)
settings.register_profile("thorough", max_examples=1000, stateful_step_count=100, **_COMMON)
settings.load_profile(os.environ.get("TASKITO_HYPOTHESIS_PROFILE", "quick"))


def pytest_configure() -> None:
    """Refuse to test anything but the installed package; let the processes of tests hear Ctrl-C."""
    # A shell starts its background jobs with SIGINT ignored, and every child would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    location = Path(taskito.__file__).resolve()
    if not location.is_relative_to(Path(sys.prefix).resolve()):
        message = (
            f"taskito was imported from {location}, not from the environment {sys.prefix}: "
            "the source folder shadows the installed package. Run the tests with `make test`, "
            "or with PYTHONSAFEPATH=1 from the folder tests/."
        )
        raise pytest.UsageError(message)
