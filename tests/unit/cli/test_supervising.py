from __future__ import annotations

import pytest

from taskito.cli.supervising import _command, without_options
from taskito.cli.worker import _SUPERVISOR_OPTIONS, worker


def kept(*arguments):
    return without_options(arguments, worker.params, _SUPERVISOR_OPTIONS)


def test_what_is_the_supervisors_business_is_left_out() -> None:
    assert kept("--processes", "3", "--app", "a:b", "--reload", "--health-port=80") == [
        "--app",
        "a:b",
    ]
    assert kept("--reload-dir", "x", "--reload-dir=y", "--health-host", "::") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--app=a:b", "--queues", "x,y", "--log-format", "json"],
        # A value that looks like an option of the supervisor is a value.
        ["--queues", "--processes", "--concurrency", "3"],
        ["--dry-run", "--app", "a:b"],
        # An option that this version does not know yet has a value, as nearly all have.
        ["--something-new", "--reload"],
    ],
)
def test_everything_else_is_kept_as_it_is(arguments) -> None:
    assert kept(*arguments) == arguments


def test_every_option_that_is_left_out_exists() -> None:
    assert {name for option in worker.params for name in option.opts} >= _SUPERVISOR_OPTIONS


def test_workers_never_import_from_the_current_folder_first() -> None:
    command = _command(["--app", "a:b"])
    assert command[-6:] == ["-P", "-m", "taskito", "worker", "--app", "a:b"]
