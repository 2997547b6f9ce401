"""Several workers under one supervisor: how they are started from the command's own arguments."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from taskito.cli.log_options import Logs
from taskito.cli.serving import HealthAddress
from taskito.supervisor import Child, Notifier, Reloader, Request, Supervisor

__all__ = ["supervise", "without_options"]


def supervise(
    arguments: Sequence[str],
    processes: int,
    *,
    watched: Sequence[Path] | None,
    health: HealthAddress,
    logs: Logs,
) -> int:
    """Run workers until they are asked to stop; return the exit status.

    Args:
        arguments: Those of ``taskito worker`` in each of them.
        processes: How many.
        watched: Folders whose changes restart the workers; None: nothing does.
        health: Where questions about them are answered.
        logs: Where the supervisor says what it does.

    Raises:
        ConfigurationError: Nothing is installed that could watch.
    """
    # The workers get what is left: they are not those who speak to the init system.
    notifier = Notifier.take()
    environment = dict(os.environ)
    command = _command(arguments)
    supervisor = Supervisor(
        processes,
        lambda number: Child(number, command, environment),
        notifier,
        waits_for_changes=watched is not None,
    )
    with contextlib.ExitStack() as stack:
        if watched is not None:
            ask = supervisor.requests.add
            reloader = Reloader(watched, lambda reason: ask(Request.RESTART, reason))
            stack.enter_context(reloader)
        stack.enter_context(health.answering(supervisor.health, logs))
        logs.say("taskito supervisor", {"processes": processes, "pid": os.getpid()})
        status = supervisor.run()
    logs.say("stopped")
    return status


def without_options(
    arguments: Sequence[str], parameters: Iterable[click.Parameter], left_out: frozenset[str]
) -> list[str]:
    """Return arguments of a command without some of its options and their values.

    Whatever else was given is kept as it is, so an option that is new needs no change here.

    Args:
        arguments: What was given.
        parameters: Those of the command, which know what takes a value.
        left_out: The options, with their dashes.
    """
    flags = {
        name
        for parameter in parameters
        if isinstance(parameter, click.Option) and parameter.is_flag
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, joined, _value = argument.partition("=")
        words = [argument]
        if argument.startswith("-") and not joined and name not in flags:
            words += [value for value in (next(rest, None),) if value is not None]
        if name not in left_out:
            kept += words
    return kept


def _command(arguments: Sequence[str]) -> list[str]:
    """Return how a worker is started: by this interpreter, with the flags it was given itself.

    With ``-P``, so that a file in the current folder cannot hide an installed module.
    """
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # noqa: SLF001
    return [sys.executable, *flags, "-P", "-m", "taskito", "worker", *arguments]
