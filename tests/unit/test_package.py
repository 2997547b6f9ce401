"""What the installed distribution as a whole promises."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import taskito


def test_version_is_the_one_of_the_distribution() -> None:
    assert taskito.__version__ == importlib.metadata.version("taskito")


def test_types_are_shipped() -> None:
    package = Path(taskito.__file__).parent
    assert (package / "py.typed").is_file()
    assert (package / "_core.pyi").is_file()


def test_native_module_is_shipped_for_the_stable_abi() -> None:
    native = [path.name for path in Path(taskito.__file__).parent.glob("_core*.so")]
    assert native == ["_core.abi3.so"]


def test_import_loads_no_native_code() -> None:
    program = "import sys, taskito; sys.exit('taskito._core' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", program], check=False)
    assert done.returncode == 0


def test_licence_and_command_are_declared() -> None:
    distribution = importlib.metadata.distribution("taskito")
    assert distribution.metadata["License-Expression"] == "MIT"
    commands = distribution.entry_points.select(group="console_scripts")
    assert {command.name: command.value for command in commands} == {"taskito": "taskito.cli:main"}
