"""``taskito periodic``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskito.cli.application import queue_options
from taskito.cli.output import instant, json_option, print_json, print_table

if TYPE_CHECKING:
    from taskito.app import Queue

__all__ = ["periodic"]


@click.group()
def periodic() -> None:
    """List schedules, pause and resume them, run one now."""


@periodic.command("list")
@queue_options
@json_option
def list_schedules(queue: Queue, *, as_json: bool) -> None:
    """List schedules with their last and next run."""
    schedules = queue.list_periodic()
    if as_json:
        print_json(schedules)
        return
    print_table(
        ("name", "cron", "timezone", "state", "last run", "next run", "runs", "skipped"),
        (
            (
                one["name"],
                one["cron"],
                one["timezone"],
                _state(paused=one["paused"], declared=one["declared"]),
                instant(one["last_run"]),
                instant(one["next_run"]),
                one["runs"],
                one["skipped"],
            )
            for one in schedules
        ),
        empty="no schedules",
    )


@periodic.command()
@queue_options
@json_option
@click.argument("name")
def pause(queue: Queue, name: str, *, as_json: bool) -> None:
    """Let the schedule NAME make no jobs until it is resumed."""
    queue.pause_periodic(name)
    _report({"paused": name}, f"paused {name}", as_json=as_json)


@periodic.command()
@queue_options
@json_option
@click.argument("name")
def resume(queue: Queue, name: str, *, as_json: bool) -> None:
    """Let the schedule NAME go on with its next run."""
    queue.resume_periodic(name)
    _report({"resumed": name}, f"resumed {name}", as_json=as_json)


@periodic.command()
@queue_options
@json_option
@click.argument("name")
def trigger(queue: Queue, name: str, *, as_json: bool) -> None:
    """Run the task of the schedule NAME now, besides its schedule."""
    job = queue.trigger_periodic(name)
    _report({"triggered": name, "job": job.id}, f"{name}: job {job.id}", as_json=as_json)


def _state(*, paused: bool, declared: bool) -> str:
    if paused:
        return "paused"
    return "active" if declared else "no worker has it"


def _report(facts: dict[str, str], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        click.echo(text)
