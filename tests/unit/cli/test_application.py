from __future__ import annotations

import sys
import textwrap

import click
import pytest
from click.testing import CliRunner

from taskito.app import Queue
from taskito.cli.application import load_queue, queue_options


@pytest.fixture(autouse=True)
def _clean_imports():
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("sample"):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    return write


@pytest.fixture
def command():
    @click.command()
    @queue_options
    @click.option("--number", type=int, default=0)
    def command(queue, *, number):
        click.echo(f"{type(queue).__name__} {number}")

    return command


@pytest.fixture
def refusal(tmp_path):
    def refusal(app):
        with pytest.raises(click.BadParameter) as caught:
            load_queue(app, tmp_path)
        assert caught.value.exit_code == 2
        return caught.value.message

    return refusal


@pytest.mark.parametrize(
    "app", ["sample", "sample:", ":queue", "a b:queue", "sample:1", "a:b:c", ""]
)
def test_form_is_checked(refusal, app) -> None:
    assert refusal(app) == f"'{app}' is not in 'module:attribute' form"


@pytest.mark.parametrize("module", ["sample_missing", "sample_package.missing"])
def test_missing_module_is_named(refusal, write, module) -> None:
    write("sample_package/__init__.py", "")
    assert refusal(f"{module}:queue") == f"could not import module '{module}'"


def test_error_of_the_module_itself_is_shown(refusal, write, capsys) -> None:
    write("sample_broken.py", "def fail():\n    raise KeyError('no setting')\nfail()")
    message = refusal("sample_broken:queue")
    assert message == "could not import module 'sample_broken': KeyError: 'no setting'"
    error = capsys.readouterr().err
    assert "sample_broken.py" in error
    assert "application.py" not in error


def test_missing_import_of_the_module_is_not_taken_for_the_module(refusal, write) -> None:
    write("sample_importing.py", "import sample_not_there")
    message = refusal("sample_importing:queue")
    assert message.startswith("could not import module 'sample_importing': ModuleNotFoundError")
    assert "sample_not_there" in message


def test_missing_attribute_is_named(refusal, write) -> None:
    write("sample_empty.py", "")
    assert refusal("sample_empty:queue") == "module 'sample_empty' has no attribute 'queue'"
    assert refusal("sample_empty:a.b") == "module 'sample_empty' has no attribute 'a.b'"


def test_attribute_that_is_no_queue_is_refused(refusal, write) -> None:
    write("sample_other.py", "queue = 5")
    assert refusal("sample_other:queue") == "'sample_other:queue' is not a Queue instance"


def test_queue_is_found_behind_dots(write, tmp_path) -> None:
    write("sample_pkg/__init__.py", "")
    write(
        "sample_pkg/tasks.py",
        """
        from taskito import Queue
        class application:
            queue = Queue(db_path=":memory:")
        """,
    )
    assert isinstance(load_queue("sample_pkg.tasks:application.queue", tmp_path), Queue)


def test_folder_is_appended_at_the_end_so_that_it_hides_nothing(write, tmp_path) -> None:
    write("json.py", "raise AssertionError('shadowed')")
    write("sample_app.py", "import json; from taskito import Queue; queue = Queue(':memory:')")
    load_queue("sample_app:queue", tmp_path)
    assert sys.path[-1] == str(tmp_path)
    load_queue("sample_app:queue", tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


def test_command_gets_the_queue_from_the_current_folder(
    write, command, tmp_path, monkeypatch
) -> None:
    write("sample_app.py", "from taskito import Queue; queue = Queue(':memory:')")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, ["--app", "sample_app:queue", "--number", "3"])
    assert (result.exit_code, result.output) == (0, "Queue 3\n")
    result = CliRunner(env={"TASKITO_APP": "sample_app:queue"}).invoke(command, [])
    assert result.exit_code == 0


def test_wrong_usage_ends_with_status_2(command, tmp_path) -> None:
    result = CliRunner().invoke(command, ["--app", "sample", "--app-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "'sample' is not in 'module:attribute' form" in result.output
    assert CliRunner().invoke(command, []).exit_code == 2
    missing = CliRunner().invoke(command, ["--app", "a:b", "--app-dir", str(tmp_path / "none")])
    assert missing.exit_code == 2
