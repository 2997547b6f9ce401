"""The SQLite store in memory, held to the conformance kit."""

from __future__ import annotations

import pytest

from taskito.backends.sqlite import MEMORY, SqliteBackend
from taskito.testing.conformance import BackendConformance


class TestSqliteMemory(BackendConformance):
    @pytest.fixture
    def backend_factory(self):
        return lambda options: SqliteBackend(MEMORY, options)

    @pytest.fixture
    def cost_meter(self):
        return SqliteBackend.costs
