"""Entry points of plugins that exist in one test only."""

from __future__ import annotations

import importlib.metadata
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_NUMBERS = itertools.count()


class FakeDistribution(importlib.metadata.Distribution):
    """An installed distribution that exists in this test only."""

    def __init__(self, name: str, version: str) -> None:
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: object) -> Path:
        return Path(str(path))


@pytest.fixture
def plugin_entry_point(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., importlib.metadata.EntryPoint]]:
    """Make the entry point of an object, as if the distribution strange-things had it."""

    def make(name: str, plugin: object) -> importlib.metadata.EntryPoint:
        module = types.ModuleType(f"taskito_strange_plugin_{next(_NUMBERS):06}")
        module.plugin = plugin
        monkeypatch.setitem(sys.modules, module.__name__, module)
        entry_point = importlib.metadata.EntryPoint(name, f"{module.__name__}:plugin", "taskito")
        return entry_point._for(FakeDistribution("strange-things", "1.2"))

    return make
