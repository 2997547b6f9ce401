"""The conformance kit: a backend proves itself with one import.

Write a test module with a subclass of ``BackendConformance`` and run pytest::

    class TestMine(BackendConformance):
        @pytest.fixture
        def backend_factory(self, tmp_path):
            return lambda options: MyBackend(tmp_path / "jobs", options)

A serializer does so with ``SerializerConformance`` and the fixture ``serializer``.

``TASKITO_CONFORMANCE_PROFILE`` chooses how much is tried (``quick``, ``ci`` or ``thorough``);
``TASKITO_CONFORMANCE_SCORECARD`` names a file for the scorecard as JSON, whose text ends the run.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    *(
        f"taskito.testing.conformance.{module}"
        for module in (
            "budget",
            "claims",
            "concurrent",
            "contract",
            "crash",
            "cuts",
            "gauge",
            "interleavings",
            "linearizability",
            "model",
            "observation",
            "played_worker",
            "round_trip",
            "serializers",
            "stateful",
            "upkeep",
        )
    )
)

from taskito.testing.conformance.fixtures import BackendFactory  # noqa: E402 -- after the registration
from taskito.testing.conformance.kit import BackendConformance  # noqa: E402
from taskito.testing.conformance.profiles import Profile, current_profile  # noqa: E402
from taskito.testing.conformance.serializers import SerializerConformance  # noqa: E402
from taskito.testing.conformance.topic import needs  # noqa: E402

__all__ = [
    "BackendConformance",
    "BackendFactory",
    "Profile",
    "SerializerConformance",
    "current_profile",
    "needs",
]
