"""The SQLite store over one file, held to the conformance kit at every durability."""

from __future__ import annotations

import functools
import shutil
from dataclasses import replace
from typing import ClassVar

import pytest

from taskito.backends import BackendOptions
from taskito.backends.sqlite import SqliteBackend
from taskito.testing.conformance import BackendConformance
from taskito.testing.conformance.contract import ContractStage
from taskito.testing.conformance.fixtures import KitFixtures


def open_file(path: str, durability: str, options: BackendOptions) -> SqliteBackend:
    if options.durability == BackendOptions().durability:
        options = replace(options, durability=durability)
    return SqliteBackend(path, options)


class Durability(KitFixtures):
    """One file for each check; it is removed afterwards, so that its descriptors are closed."""

    durability: ClassVar[str]

    @pytest.fixture
    def backend_factory(self, tmp_path):
        yield functools.partial(open_file, str(tmp_path / "store" / "tasks.db"), self.durability)
        shutil.rmtree(tmp_path / "store", ignore_errors=True)

    @pytest.fixture
    def shared_backend_factory(self, backend_factory):
        return backend_factory

    @pytest.fixture
    def open_elsewhere(self, backend_factory, tmp_path):
        # Other processes cannot import this module.
        return functools.partial(SqliteBackend, str(tmp_path / "store" / "tasks.db"))


class TestSqliteFile(Durability, BackendConformance):
    durability = "normal"


class TestSqliteFileFull(Durability, ContractStage):
    """The contract alone: the other stages know nothing of durability."""

    durability = "full"


class TestSqliteFileOff(Durability, ContractStage):
    durability = "off"
