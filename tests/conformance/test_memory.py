"""The memory store, private and shared by name, held to the conformance kit."""

from __future__ import annotations

import uuid

import pytest

from taskito.backends.memory import MemoryBackend
from taskito.testing.conformance import BackendConformance


class TestMemory(BackendConformance):
    @pytest.fixture
    def backend_factory(self):
        return lambda options: MemoryBackend("", options)

    @pytest.fixture
    def shared_backend_factory(self):
        name = uuid.uuid4().hex
        return lambda options: MemoryBackend(name, options)
