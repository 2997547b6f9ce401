"""``taskito worker``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from taskito.cli.application import app_options
from taskito.cli.log_options import Logs, log_options
from taskito.exceptions import ConfigurationError

__all__ = ["worker"]

_ARGUMENTS = "taskito.worker.arguments"

# What is the supervisor's business; everything else is passed on to its workers.
_SUPERVISOR_OPTIONS = frozenset(
    {"--processes", "--reload", "--reload-dir", "--health-port", "--health-host"}
)


class _WorkerCommand(click.Command):
    """Remembers its arguments, from which those of supervised workers are made."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments, then read them."""
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


@click.command(cls=_WorkerCommand)
@app_options
# What runs:
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
# How many, and what keeps them running:
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Run so many workers under a supervisor that starts again what dies.",
)
@click.option("--reload", is_flag=True, help="Restart when the code changes; extra 'reload'.")
@click.option(
    "--reload-dir",
    "reload_dirs",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --reload: a folder to watch, instead of --app-dir. Can be given several times.",
)
# What others see:
@click.option(
    "--health-port",
    type=click.IntRange(0, 65_535),
    help="Answer /health/live and /health/ready over HTTP on this port; 0 takes a free one.",
)
@click.option("--health-host", default="127.0.0.1", show_default=True, help="The address for that.")
@log_options
@click.option("--dry-run", is_flag=True, help="Check everything, start nothing.")
@click.pass_context
def worker(
    context: click.Context,
    *,
    app: str,
    app_dir: Path,
    queues: str | None,
    pool: str,
    concurrency: int | None,
    async_concurrency: int | None,
    drain_timeout: float | None,
    max_tasks_per_child: int | None,
    max_memory_per_child: str | None,
    preload: bool,
    processes: int | None,
    reload: bool,
    reload_dirs: tuple[Path, ...],
    health_port: int | None,
    health_host: str,
    log_format: str,
    log_level: str,
    dry_run: bool,
) -> None:
    """Run tasks until SIGTERM or Ctrl-C.

    The first signal stops gracefully: nothing new starts, what has not started is given back, and
    running tasks get the drain time to end. A second one stops at once. What did not end runs again
    elsewhere without using up an attempt.

    With --processes or --reload a supervisor runs the workers. It starts again what dies, passes on
    these signals, and restarts the workers one by one on SIGHUP.

    Exit status: 0 after a graceful stop; 1 if the worker had to stop or was stopped at once, with
    the reason on standard error; 2 wrong usage, or the application cannot be imported; 70 if a
    process had to be ended by force, 2 seconds after the drain time, because a task kept it from
    ending.
    """
    settings: dict[str, Any] = {
        "queues": None if queues is None else [name for name in queues.split(",") if name],
        "pool": pool,
        "concurrency": concurrency,
        "async_concurrency": async_concurrency,
        "drain_timeout": drain_timeout,
        "max_tasks_per_child": max_tasks_per_child,
        "max_memory_per_child": max_memory_per_child,
        "preload": preload,
    }
    # Loaded when the command runs, so that the other commands need not wait for it.
    from taskito.cli import serving, supervising
    from taskito.supervisor import Channel

    if reload_dirs and not reload:
        raise click.UsageError("--reload-dir has a meaning with --reload only")
    channel = Channel.take()
    logs = Logs(log_format, log_level, with_process=channel is not None)
    health = serving.HealthAddress(health_host, health_port)
    if dry_run:
        serving.dry_run(app, app_dir, settings, logs)
    elif channel is None and (processes is not None or reload):
        arguments = supervising.without_options(
            context.meta[_ARGUMENTS], context.command.params, _SUPERVISOR_OPTIONS
        )
        try:
            status = supervising.supervise(
                arguments,
                processes or 1,
                watched=(reload_dirs or (app_dir,)) if reload else None,
                health=health,
                logs=logs,
            )
        except ConfigurationError as error:
            raise click.UsageError(str(error)) from error
        context.exit(status)
    else:
        serving.serve(app, app_dir, settings, logs=logs, health=health, channel=channel)
