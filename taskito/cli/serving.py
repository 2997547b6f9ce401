"""One worker in this process: with a supervisor above it, or alone."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskito.cli.application import load_queue
from taskito.cli.banner import banner
from taskito.cli.log_options import Logs
from taskito.exceptions import ConfigurationError, TaskitoError
from taskito.supervisor import Channel, Health, HealthServer, Monitor, Notifier
from taskito.worker.signals import CommandSignals, StoppedEarlyError

if TYPE_CHECKING:
    from taskito.app import Queue
    from taskito.worker import ScheduledWorker, Worker

__all__ = ["HealthAddress", "dry_run", "serve"]


@dataclass(frozen=True, slots=True)
class HealthAddress:
    """Where questions about health are answered; nowhere if ``port`` is None."""

    host: str
    port: int | None

    @contextlib.contextmanager
    def answering(self, ask: Callable[[], Health], logs: Logs) -> Iterator[None]:
        """Answer in this context.

        Raises:
            click.ClickException: Nothing can listen there.
        """
        if self.port is None:
            yield
            return
        try:
            server = HealthServer(self.host, self.port, ask)
        except OSError as error:
            message = f"--health-port: cannot listen on {self.host} port {self.port}: {error}"
            raise click.ClickException(message) from error
        with server:
            logs.say(f"health checks are answered on {self.host} port {server.port}")
            yield


def serve(
    app: str,
    app_dir: Path,
    settings: Mapping[str, Any],
    *,
    logs: Logs,
    health: HealthAddress,
    channel: Channel | None,
) -> None:
    """Run a worker until it is asked to stop.

    Args:
        app: Where the queue is.
        app_dir: Where that is imported from.
        settings: Those of ``Queue.run_worker``.
        logs: Where it says what it does.
        health: Where it answers.
        channel: The way to its supervisor.
    """
    try:
        with contextlib.ExitStack() as stack:
            # From here on no signal is lost, however long the import takes.
            stack.enter_context(CommandSignals(repeats=channel is None))
            monitor = stack.enter_context(Monitor(Notifier.take(), channel))
            stack.enter_context(health.answering(monitor.health, logs))
            queue = stack.enter_context(load_queue(app, app_dir))

            def attach(worker: Worker | ScheduledWorker) -> None:
                logs.name_worker(worker.id)
                # Of several workers, all of which say the same, the first one does.
                if channel is None or channel.number == 1:
                    logs.say("taskito worker", banner(queue, worker.config))
                monitor.attach(worker)

            _run(queue, {**settings, "monitor": attach}, logs)
    except StoppedEarlyError:
        logs.say("stopped")


def dry_run(app: str, app_dir: Path, settings: Mapping[str, Any], logs: Logs) -> None:
    """Check what a worker would need, and say what it would serve."""
    with load_queue(app, app_dir) as queue:
        try:
            config = queue.check_worker(**settings)
        except ConfigurationError as error:
            raise click.UsageError(str(error)) from error
        logs.say("taskito worker", banner(queue, config))
    logs.say("all is well; nothing was started")


def _run(queue: Queue, settings: Mapping[str, Any], logs: Logs) -> None:
    try:
        queue.run_worker(**settings, owns_process=True)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    except TaskitoError as error:
        logs.complain(str(error))
        _end(1)
        raise click.exceptions.Exit(1) from error
    logs.say("stopped")
    _end(0)


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
