"""The SQLite store as a backend in Python: workers reach it through the bridge of the engine."""

from __future__ import annotations

import functools
import shutil
from typing import ClassVar

import pytest

from taskito.backends import Capabilities, Liveness
from taskito.backends.sqlite import SqliteBackend
from taskito.testing.conformance import BackendConformance


class BridgedSqlite(SqliteBackend):
    """A dispatcher finds no native store here and has to ask in Python."""

    name: ClassVar[str] = "bridged sqlite"
    capabilities: ClassVar[Capabilities] = SqliteBackend.capabilities

    @property
    def native_store(self):
        return None

    @native_store.setter
    def native_store(self, store):
        pass


class TestBridge(BackendConformance):
    @pytest.fixture
    def backend_factory(self, tmp_path):
        yield functools.partial(BridgedSqlite, str(tmp_path / "store" / "tasks.db"))
        shutil.rmtree(tmp_path / "store", ignore_errors=True)

    @pytest.fixture
    def shared_backend_factory(self, backend_factory):
        return backend_factory

    @pytest.fixture
    def open_elsewhere(self, backend_factory, tmp_path):
        # Other processes cannot import this module, and run no dispatcher.
        return functools.partial(SqliteBackend, str(tmp_path / "store" / "tasks.db"))

    @pytest.fixture
    def cost_meter(self):
        return SqliteBackend.costs

    def test_the_bridge_is_in_the_way(self, backend):
        assert backend.native_store is None
        assert backend.capabilities.liveness is Liveness.KERNEL
