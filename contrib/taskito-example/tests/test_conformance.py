"""The directory store, held to the conformance kit."""

from __future__ import annotations

import functools

import pytest
from taskito_example import DirectoryBackend

from taskito.testing.conformance import BackendConformance


class TestDirectory(BackendConformance):
    @pytest.fixture
    def backend_factory(self, tmp_path):
        return functools.partial(DirectoryBackend, tmp_path / "jobs")

    @pytest.fixture
    def open_elsewhere(self, backend_factory):
        return backend_factory
