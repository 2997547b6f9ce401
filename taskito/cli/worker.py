"""``taskito worker``."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

import click

from taskito.cli.application import queue_options
from taskito.cli.check import durability
from taskito.exceptions import ConfigurationError, TaskitoError

if TYPE_CHECKING:
    from taskito.app import Queue

__all__ = ["worker"]

_LEVELS = ("debug", "info", "warning", "error")


@click.command()
@queue_options
@click.option("--queues", help="The queues to serve, with commas between; all by default.")
@click.option(
    "--pool",
    default="thread",
    show_default=True,
    help="What runs plain functions: thread or process; async: --concurrency is of async tasks.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    help="Plain functions to run at a time; by default the queue's setting, or the number of CPUs.",
)
@click.option(
    "--async-concurrency",
    type=click.IntRange(min=1),
    help="async def tasks to run at a time; by default 100.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    help="Seconds that running tasks get to end when the worker stops.",
)
@click.option(
    "--max-tasks-per-child",
    type=click.IntRange(min=1),
    help="Replace a child process after so many tasks.",
)
@click.option(
    "--max-memory-per-child",
    metavar="SIZE",
    help="Replace a child process that has grown beyond this, e.g. 512M; one that grows beyond it "
    "during a task is killed, and the task has failed.",
)
@click.option(
    "--preload",
    is_flag=True,
    help="Import the application once, in a process that all children are forked from.",
)
@click.option("--log-level", type=click.Choice(_LEVELS), default="info", show_default=True)
def worker(
    queue: Queue,
    *,
    queues: str | None,
    pool: str,
    concurrency: int | None,
    async_concurrency: int | None,
    drain_timeout: float | None,
    max_tasks_per_child: int | None,
    max_memory_per_child: str | None,
    preload: bool,
    log_level: str,
) -> None:
    """Run tasks until SIGTERM or Ctrl-C.

    The first signal stops gracefully: nothing new starts, what has not started is given back, and
    running tasks get the drain time to end. A second one stops at once. What did not end runs again
    elsewhere without using up an attempt.

    Exit status: 0 after a graceful stop; 1 if the worker had to stop or was stopped at once, with
    the reason on standard error; 2 wrong usage; 70 if the process had to be ended by force, 2
    seconds after the drain time, because a task kept it from ending.
    """
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    names = None if queues is None else [name for name in queues.split(",") if name]
    click.echo(_banner(queue, names, pool), err=True)
    try:
        queue.run_worker(
            queues=names,
            pool=pool,
            concurrency=concurrency,
            async_concurrency=async_concurrency,
            drain_timeout=drain_timeout,
            max_tasks_per_child=max_tasks_per_child,
            max_memory_per_child=max_memory_per_child,
            preload=preload,
            owns_process=True,
        )
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    except TaskitoError as error:
        click.echo(f"Error: {error}", err=True)
        _end(1)
        raise click.exceptions.Exit(1) from error
    click.echo("stopped", err=True)
    _end(0)


def _banner(queue: Queue, queues: list[str] | None, pool: str) -> str:
    backend = queue.backend
    location = getattr(backend, "path", "")
    known = sorted(name for name, task in queue.tasks.items() if not task.is_remote)
    lines = {
        "backend": f"{backend.name} {location}".strip(),
        "durability": durability(queue),
        "queues": "all" if queues is None else ", ".join(queues),
        "pool": pool,
        "process": str(os.getpid()),
        "tasks": ", ".join(known) or "none: is the module that defines them imported?",
    }
    return "\n".join(["taskito worker", *(f"  {name:<12}{text}" for name, text in lines.items())])


def _end(status: int) -> None:
    """End the process now if a task that cannot be stopped would keep it from ending."""
    this = threading.current_thread()
    if any(
        thread.is_alive() and not thread.daemon and thread is not this
        for thread in threading.enumerate()
    ):
        sys.stdout.flush()
        sys.stderr.flush()
        # The leases are given back by now; only the bodies of abandoned attempts still run.
        os._exit(status)
