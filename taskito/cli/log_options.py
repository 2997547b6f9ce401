"""``--log-format`` and ``--log-level``: how a worker, or a supervisor, tells what it does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import click

from taskito.logs import JobFilter, JsonFormatter, TextFormatter

__all__ = ["Logs", "log_options"]

_LEVELS = ("debug", "info", "warning", "error")

_logger = logging.getLogger("taskito.cli")


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options, as ``log_format`` and ``log_level``."""
    command = click.option(
        "--log-level", type=click.Choice(_LEVELS), default="info", show_default=True
    )(command)
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="One line for people, or one JSON object, per log line.",
    )(command)


class Logs:
    """Sets up logging to standard error, and says things there in the same form.

    Args:
        style: "text" or "json".
        level: The lowest level that is shown.
        with_process: Whether text shows the process, since several write to the same place.
    """

    def __init__(self, style: str, level: str, *, with_process: bool = False) -> None:
        self._json = JsonFormatter() if style == "json" else None
        handler = logging.StreamHandler()
        handler.setFormatter(self._json or TextFormatter(with_process=with_process))
        handler.addFilter(JobFilter())
        # As before: an application that has set up logging at import keeps its own.
        logging.basicConfig(level=level.upper(), handlers=[handler])

    def name_worker(self, worker: str) -> None:
        """Put the worker's id into each line from now on, where lines have fields."""
        if self._json is not None:
            self._json.worker = worker

    def say(self, message: str, facts: Mapping[str, object] | None = None) -> None:
        """Tell people who started the command; whatever the level is."""
        facts = facts or {}
        if self._json is not None:
            record = _logger.makeRecord(
                _logger.name, logging.INFO, "", 0, message, (), None, extra=dict(facts)
            )
            click.echo(self._json.format(record), err=True)
            return
        lines = [message, *(f"  {name:<13}{_shown(value)}" for name, value in facts.items())]
        click.echo("\n".join(lines), err=True)

    def complain(self, message: str) -> None:
        """Say why the command could not do its work."""
        if self._json is not None:
            _logger.error("%s", message)
        else:
            click.echo(f"Error: {message}", err=True)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
