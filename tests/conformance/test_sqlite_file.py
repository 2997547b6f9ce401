"""The SQLite store over one file, held to the conformance kit at every durability."""

from __future__ import annotations

import functools
import shutil
from dataclasses import replace
from typing import ClassVar

import pytest

from taskito.backends import BackendOptions, params
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

    @pytest.fixture
    def cost_meter(self):
        return SqliteBackend.costs

    @pytest.mark.parametrize(
        ("jobs", "most"), [(1, 12), (100, 300)], ids=["one job", "a hundred jobs"]
    )
    def test_an_enqueue_runs_few_statements(self, backend, jobs, most):
        batch = [params.NewJob(task="add")] * jobs
        backend.enqueue(batch)
        before = backend.costs()
        backend.enqueue(batch)
        after = backend.costs()
        assert after["statements"] - before["statements"] <= most
        assert after["scanned"] == before["scanned"], "a statement reads a whole table"
        assert after["sorts"] == before["sorts"], "a statement sorts without an index"
        assert after["pages_written"] - before["pages_written"] <= 15

    @pytest.mark.parametrize(
        ("jobs", "most"), [(1, 60), (100, 1_500)], ids=["one job", "a hundred jobs"]
    )
    def test_a_claim_and_a_settlement_run_few_statements(self, backend, worker, jobs, most):
        backend.enqueue([params.NewJob(task="add")] * (2 * jobs))
        before = after = backend.costs()
        for _ in range(2):
            before = after
            claimed = worker.claim(jobs)
            outcome = params.OutcomeSuccess(result=b"", serializer="json")
            worker.exchange(
                settlements=tuple(
                    params.Settlement(lease=job.lease, outcome=outcome, started_ago_ms=0)
                    for job in claimed
                )
            )
            after = backend.costs()
        assert after["statements"] - before["statements"] <= most
        assert after["scanned"] == before["scanned"], "a statement reads a whole table"
        assert after["sorts"] == before["sorts"], "a statement sorts without an index"


class TestSqliteFileFull(Durability, ContractStage):
    """The contract alone: the other stages know nothing of durability."""

    durability = "full"


class TestSqliteFileOff(Durability, ContractStage):
    durability = "off"
