"""The reference is complete: public names, hooks, commands, tables, transitions."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import click
import pytest

import taskito
from taskito import backends, exceptions, plugins, serializers, testing
from taskito.backends.sqlite import SqliteBackend
from taskito.cli import main
from taskito.context import CurrentJob
from taskito.plugins import hookspecs
from taskito.testing.conformance import BackendConformance
from taskito.testing.conformance.topic import topic_of

STALE = "run `make scorecard`"
ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
DIRECTIVE = re.compile(
    r"^\.\. auto(?:class|data|exception|function|module):: ([\w.]+)$", re.MULTILINE
)
MEMBERS_SHOWN = [
    taskito.Queue,
    taskito.Task,
    taskito.JobResult,
    taskito.JobPage,
    taskito.Middleware,
    CurrentJob,
    backends.Backend,
]


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def documented() -> set[str]:
    """Return the full names of everything that the reference describes."""
    return {name for path in REFERENCE.glob("*.md") for name in DIRECTIVE.findall(path.read_text())}


def public_names() -> list[str]:
    names = [f"taskito.{name}" for name in taskito.__all__ if name != "__version__"]
    names += [f"taskito.plugins.{name}" for name in plugins.__all__]
    names += [f"taskito.serializers.{name}" for name in serializers.__all__]
    names += [f"taskito.backends.{name}" for name in backends.__all__]
    names += [f"taskito.testing.{name}" for name in testing.__all__]
    return names


@pytest.mark.parametrize("name", public_names())
def test_public_name_is_in_the_reference(name: str) -> None:
    assert name in documented()


def test_version_is_mentioned() -> None:
    assert "`taskito.__version__`" in page("queue.md")


@pytest.mark.parametrize("name", [name for name in taskito.__all__ if name != "__version__"])
def test_public_name_has_a_docstring_of_its_own(name: str) -> None:
    found = getattr(taskito, name)
    described = found if inspect.isclass(found) else type(found)
    assert vars(described).get("__doc__"), name


@pytest.mark.parametrize("described", MEMBERS_SHOWN, ids=lambda kind: kind.__name__)
def test_public_members_have_docstrings(described: type) -> None:
    for name, member in inspect.getmembers(described):
        if not name.startswith("_") and (callable(member) or isinstance(member, property)):
            assert inspect.getdoc(member), f"{described.__name__}.{name}"


@pytest.mark.parametrize("name", exceptions.__all__)
def test_exception_is_in_the_tree_and_importable_from_the_top(name: str) -> None:
    assert re.search(rf"(?:─ |^ *){name}\b", exceptions.__doc__ or "", re.MULTILINE)
    assert getattr(taskito, name) is getattr(exceptions, name)


@pytest.mark.parametrize("name", hookspecs.__all__)
def test_hook_is_documented(name: str) -> None:
    assert f".. autofunction:: taskito.plugins.hookspecs.{name}" in page("plugins.md")
    assert "Returns:" in (getattr(hookspecs, name).__doc__ or "")
    assert "Example:" in (getattr(hookspecs, name).__doc__ or "")


def commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    """Return every command that is no group, with the words that call it."""
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    found = []
    for name in command.list_commands(context):
        subcommand = command.get_command(context, name)
        assert subcommand is not None
        found += commands(subcommand, f"{path} {name}")
    return found


COMMANDS = dict(commands(main, "taskito"))


def command_sections() -> dict[str, str]:
    """Return what cli.md says about each command; the key "" holds what stands before them."""
    parts = re.split(r"^## (.+)$", page("cli.md"), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def test_reference_has_exactly_the_commands_there_are() -> None:
    assert set(command_sections()) - {""} == set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_reference_has_exactly_the_options_of_a_command(path: str) -> None:
    sections = command_sections()
    common = set(re.findall(r"`(--[\w-]+)", sections[""]))
    described = set(re.findall(r"^`(--[\w-]+)", sections[path], re.MULTILINE))
    options = {
        name for option in COMMANDS[path].params for name in option.opts if name.startswith("--")
    }
    assert described == options - common
    assert inspect.getdoc(COMMANDS[path].callback) or COMMANDS[path].help


def test_stored_data_has_exactly_the_tables_there_are() -> None:
    schema = ROOT / "rust_backend" / "engine" / "src" / "sqlite" / "schema.rs"
    tables = re.findall(r"CREATE TABLE (\w+)", schema.read_text(encoding="utf-8"))
    _, section = page("stored-data.md").split("## Tables")
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == sorted(tables)


def named_tests() -> list[tuple[str, str]]:
    """Return the tests that pages name as proof: file and function."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    texts = [path.read_text(encoding="utf-8") for path in pages]
    return sorted(
        {found for text in texts for found in re.findall(r"`([\w/]+\.\w+)::(\w+)`", text)}
    )


@pytest.mark.parametrize(("file", "test"), named_tests())
def test_test_named_as_proof_exists(file: str, test: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^\s*(?:async )?(?:def|fn) {test}\(", text, re.MULTILINE)


def test_state_diagram_is_made_from_the_table_of_the_engine() -> None:
    path = ROOT / "docs" / "lifecycle.py"
    spec = importlib.util.spec_from_file_location("lifecycle", path)
    assert spec is not None
    assert spec.loader is not None
    lifecycle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lifecycle)
    current = lifecycle.PAGE.read_text(encoding="utf-8")
    assert lifecycle.renewed(current) == current, "run `python docs/lifecycle.py`"


def test_scorecard_is_made_of_the_checks_there_are() -> None:
    """Compare counts of checks and capabilities; that they pass is for the checks to say."""
    text = page("scorecard.md")
    assert f"- capabilities: {', '.join(SqliteBackend.capabilities.names())}\n" in text, STALE
    assert f"- liveness: {SqliteBackend.capabilities.liveness}\n" in text, STALE
    assert f"- backend API: {backends.BACKEND_API}\n" in text, STALE
    assert "- conforms: yes\n" in text, STALE
    rows = re.findall(
        r"^\| ([a-z ]+) \| (\w[\w ]*) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE
    )
    shown = {(stage, topic): sum(map(int, numbers)) for stage, topic, *numbers in rows}
    assert all(failed == "0" for _, _, _, failed, _ in rows), STALE
    assert shown == checks_of_the_kit(), STALE


def checks_of_the_kit() -> dict[tuple[str, str], int]:
    """Ask pytest for the checks that it finds for one SQLite file, and count them by topic."""
    tests = "conformance/test_sqlite_file.py::TestSqliteFile"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"),
            *("--config-file=../pyproject.toml", "--rootdir=..", tests),
        ],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    found: Counter[tuple[str, str]] = Counter()
    for name in re.findall(r"TestSqliteFile::(\w+)", done.stdout):
        if hasattr(BackendConformance, name):
            topic = topic_of(BackendConformance, name)
            found[topic.stage, topic.name] += 1
    return dict(found)
