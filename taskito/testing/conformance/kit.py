"""The class that the author of a backend subclasses."""

from __future__ import annotations

from taskito.testing.conformance.budget import BudgetStage
from taskito.testing.conformance.concurrent import ConcurrentStage
from taskito.testing.conformance.contract import ContractStage
from taskito.testing.conformance.crash import CrashStage
from taskito.testing.conformance.cuts import ConnectionStage
from taskito.testing.conformance.fixtures import KitFixtures
from taskito.testing.conformance.interleavings import StatefulStage
from taskito.testing.conformance.limit_races import LimitRaces
from taskito.testing.conformance.round_trip import RoundTripStage
from taskito.testing.conformance.schedule_races import ScheduleRaces

__all__ = ["BackendConformance"]


class BackendConformance(
    ContractStage,
    StatefulStage,
    RoundTripStage,
    ConcurrentStage,
    LimitRaces,
    ScheduleRaces,
    CrashStage,
    ConnectionStage,
    BudgetStage,
    KitFixtures,
):
    """Every check of the kit, for one backend.

    Subclass it in a test module with the fixture ``backend_factory`` and run pytest. What the
    optional fixtures ``open_elsewhere``, ``shared_backend_factory``, ``cost_meter`` and
    ``cut_connection`` unlock says ``KitFixtures``. A check is left out by overriding it with a
    reason::

        @pytest.mark.skip(reason="the server rounds to seconds")
        def test_an_eta_is_kept(self): ...

    Example:
        >>> import pytest
        >>> from taskito.backends.memory import MemoryBackend
        >>> class TestMemory(BackendConformance):
        ...     @pytest.fixture
        ...     def backend_factory(self):
        ...         return lambda options: MemoryBackend("", options)
    """
