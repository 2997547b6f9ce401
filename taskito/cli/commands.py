"""The commands that taskito ships, for its own plugin."""

from __future__ import annotations

import click

from taskito.cli.check import check
from taskito.cli.dead import dead
from taskito.cli.info import info
from taskito.cli.jobs import jobs
from taskito.cli.new_plugin import new_plugin
from taskito.cli.periodic import periodic
from taskito.cli.plugins import plugins
from taskito.cli.queues import pause, resume
from taskito.cli.worker import worker
from taskito.cli.workflows import workflows

__all__ = ["COMMANDS"]

COMMANDS: tuple[click.Command, ...] = (
    worker,
    info,
    jobs,
    workflows,
    dead,
    periodic,
    pause,
    resume,
    plugins,
    new_plugin,
    check,
)
"""What ``taskito.plugins.builtin`` offers."""
