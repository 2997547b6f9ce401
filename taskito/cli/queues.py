"""``taskito pause`` and ``taskito resume``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskito.cli.application import queue_options
from taskito.cli.output import json_option, print_json

if TYPE_CHECKING:
    from taskito.app import Queue

__all__ = ["pause", "resume"]


@click.command()
@queue_options
@json_option
@click.argument("name", metavar="QUEUE", default="default")
def pause(queue: Queue, name: str, *, as_json: bool) -> None:
    """Let no job of QUEUE ("default" if not given) start until it is resumed."""
    queue.pause(name)
    _report(queue, f"paused {name}", as_json=as_json)


@click.command()
@queue_options
@json_option
@click.argument("name", metavar="QUEUE", default="default")
def resume(queue: Queue, name: str, *, as_json: bool) -> None:
    """Let jobs of QUEUE ("default" if not given) start again."""
    queue.resume(name)
    _report(queue, f"resumed {name}", as_json=as_json)


def _report(queue: Queue, done: str, *, as_json: bool) -> None:
    paused = queue.paused_queues()
    if as_json:
        print_json({"paused": paused})
    else:
        click.echo(f"{done}; paused now: {', '.join(paused) or 'none'}")
