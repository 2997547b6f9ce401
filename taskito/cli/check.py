"""``taskito check``."""

from __future__ import annotations

import platform
import sqlite3
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from taskito.cli.application import queue_options
from taskito.cli.output import facts, json_option, print_json

if TYPE_CHECKING:
    from taskito.app import Queue

__all__ = ["check", "durability", "store_facts"]

# Older ones can corrupt a database in WAL mode that several connections write to.
_SOUND_SQLITE = (3, 51, 3)


@click.command()
@queue_options
@json_option
def check(queue: Queue, *, as_json: bool) -> None:
    """Open the store, verify it, and print versions and durability.

    The exit status is 0 if the store is sound; otherwise the reason is on standard error.
    """
    found = {
        "taskito": version("taskito"),
        "python": platform.python_version(),
        **store_facts(queue),
        "capabilities": ", ".join(queue.backend.capabilities.names()),
    }
    if as_json:
        print_json(found)
    else:
        facts(found)
    if queue.backend.name == "sqlite" and sqlite3.sqlite_version_info < _SOUND_SQLITE:
        click.echo(
            f"note: Python's own sqlite3 module has SQLite {sqlite3.sqlite_version}; before "
            f"{'.'.join(map(str, _SOUND_SQLITE))} do not let it write to this database while "
            "workers run. taskito itself does not use it.",
            err=True,
        )
    if not as_json:
        click.echo("the store is sound")


def durability(queue: Queue) -> str:
    """Return what survives a crash here, as the store was told."""
    options = getattr(queue.backend, "options", None)
    return str(getattr(options, "durability", "that of the backend"))


def store_facts(queue: Queue) -> dict[str, str]:
    """Verify the store and return what it says about itself.

    Raises:
        StorageError: It is damaged or cannot be read.
    """
    backend = queue.backend
    found = {
        "backend": backend.name,
        "durability": durability(queue),
        "liveness": str(backend.capabilities.liveness),
    }
    # Not every store can verify itself; one that answers a question about its jobs works.
    verify = getattr(backend, "check", None)
    if verify is None:
        queue.stats()
    else:
        found.update({str(name): str(fact) for name, fact in verify().items()})
    return found
