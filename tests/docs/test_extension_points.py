"""Every hook is documented and tested, every capability is used, and the tables are up to date."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

from taskito.backends import Capabilities
from taskito.plugins import events, hookspecs

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "docs" / "reference" / "plugins.md").read_text(encoding="utf-8")
HOOK_TESTS = "\n".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "unit" / "plugins").glob("*.py")
)
LATER = {"transactions"}
"""Capabilities of operations that are still to come."""


def test_the_tables_are_made_from_the_code():
    spec = importlib.util.spec_from_file_location(
        "extension_points", ROOT / "docs" / "extension_points.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    current = module.PAGE.read_text(encoding="utf-8")
    assert module.renewed(current) == current, "run `python docs/extension_points.py`"


@pytest.mark.parametrize("name", hookspecs.__all__)
def test_hook_is_documented_with_its_arguments(name):
    hook = getattr(hookspecs, name)
    text = inspect.getdoc(hook)
    assert f".. autofunction:: taskito.plugins.hookspecs.{name}" in REFERENCE
    for argument in inspect.signature(hook).parameters:
        assert f"    {argument}: " in text.partition("Args:")[2]
    assert f"def {name}(" in text.partition("Example:")[2]


@pytest.mark.parametrize("name", hookspecs.__all__)
def test_hook_is_tested(name):
    assert re.search(rf"@hookimpl\n\s+def {name}\(", HOOK_TESTS)


@pytest.mark.parametrize("name", [name for name in events.__all__ if name.startswith("Job")])
def test_event_is_tested(name):
    assert f"{name}" in HOOK_TESTS
    assert name in Path(events.__file__).with_name("events.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Capabilities)])
def test_capability_is_used(name):
    if name in LATER:
        return
    sources = [
        path.read_text(encoding="utf-8")
        for path in Path(inspect.getfile(Capabilities)).parents[1].rglob("*.py")
        if path.name != "capabilities.py"
    ]
    uses = rf"require\(\s*\"{name}\"|\"{name}\"[,)}}]|capabilities\.{name}\b|: \"{name}\""
    assert any(re.search(uses, source) for source in sources)
