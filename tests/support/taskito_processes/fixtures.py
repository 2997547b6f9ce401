"""The fixtures of the tests with real processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskito_processes.application import Application
from taskito_processes.processes import Processes

__all__ = ["application", "processes", "thorough"]


@pytest.fixture(scope="session")
def thorough() -> bool:
    """Whether to run the longest variants as well: the environment says ``TASKITO_THOROUGH=1``."""
    return os.environ.get("TASKITO_THOROUGH", "0") == "1"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Start processes that end with the test."""
    folder = tmp_path / "logs"
    folder.mkdir()
    started = Processes(folder)
    yield started
    started.close()


@pytest.fixture
def application(processes: Processes, tmp_path: Path) -> Callable[..., Application]:
    """Make applications; ``folder`` is a name, the source is dedented, the rest are options."""

    def make(source: str, *, folder: str = "app", **options: Any) -> Application:
        return Application(processes, tmp_path / folder, source, **options)

    return make
