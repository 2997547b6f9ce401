"""``taskito info``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from taskito.cli.application import queue_options
from taskito.cli.output import instant, json_option, print_json, show, table

if TYPE_CHECKING:
    from rich.console import Group

    from taskito.app import Queue

__all__ = ["info"]

_STATES = ("pending", "running", "completed", "failed", "dead", "cancelled")
_WORKER_COLUMNS = ("worker", "host", "pid", "queues", "tasks", "running", "since")


@click.command()
@queue_options
@json_option
@click.option("--watch", is_flag=True, help="Refresh until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two looks, with --watch.",
)
def info(queue: Queue, *, as_json: bool, watch: bool, interval: float) -> None:
    """Show how many jobs are in each state, by queue, and the workers."""
    if as_json:
        print_json(_snapshot(queue))
        return
    if not watch:
        show(_picture(_snapshot(queue)))
        return
    from rich.live import Live

    with Live(_picture(_snapshot(queue)), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(interval)
                live.update(_picture(_snapshot(queue)), refresh=True)
        except KeyboardInterrupt:
            return


def _snapshot(queue: Queue) -> dict[str, Any]:
    paused = queue.paused_queues() if queue.backend.capabilities.pauses else []
    return {
        "total": queue.stats(),
        "queues": queue.stats_all_queues(),
        "paused": paused,
        "workers": queue.workers(),
    }


def _picture(snapshot: Mapping[str, Any]) -> Group:
    from rich.console import Group
    from rich.text import Text

    rows = [
        (
            name,
            *(counts[state] for state in _STATES),
            "paused" if name in snapshot["paused"] else "",
        )
        for name, counts in sorted(snapshot["queues"].items())
    ]
    rows.append(("all", *(snapshot["total"][state] for state in _STATES), ""))
    parts: list[Any] = [table(("queue", *_STATES, ""), rows), Text("")]
    if snapshot["workers"]:
        parts.append(table(_WORKER_COLUMNS, map(_worker_row, snapshot["workers"])))
    else:
        parts.append(Text("no worker is running"))
    return Group(*parts)


def _worker_row(worker: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        worker["id"],
        worker["host"],
        worker["pid"],
        "all" if worker["queues"] is None else worker["queues"],
        len(worker["tasks"]),
        worker["running"],
        instant(worker["started_at"]),
    )
