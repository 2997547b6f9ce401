"""``taskito dead``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskito.cli.application import queue_options
from taskito.cli.output import instant, json_option, print_json, print_table

if TYPE_CHECKING:
    from taskito.app import Queue

__all__ = ["dead"]


@click.group()
def dead() -> None:
    """List dead letters, run them again, delete them."""


@dead.command("list")
@queue_options
@json_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Leave out the newest.")
def list_dead(queue: Queue, *, as_json: bool, limit: int, offset: int) -> None:
    """List dead letters, newest first."""
    letters = queue.dead_letters(limit=limit, offset=offset)
    if as_json:
        print_json(letters)
        return
    print_table(
        ("id", "task", "queue", "retries", "failed", "error"),
        (
            (
                letter["id"],
                letter["task_name"],
                letter["queue"],
                letter["retry_count"],
                instant(letter["failed_at"]),
                letter["error"],
            )
            for letter in letters
        ),
        empty="no dead letters",
    )


@dead.command()
@queue_options
@json_option
@click.option("--all", "every", is_flag=True, help="All dead letters.")
@click.option("--task", "task_name", help="With --all: only those of this task.")
@click.argument("job_ids", metavar="[ID...]", nargs=-1)
def retry(
    queue: Queue,
    job_ids: tuple[str, ...],
    *,
    as_json: bool,
    every: bool,
    task_name: str | None,
) -> None:
    """Run dead letters again, as new jobs with the same arguments.

    Give ids, or --all. A dead letter leaves the list when it is run again.
    """
    if every == bool(job_ids) or (task_name is not None and not every):
        raise click.UsageError("give the ids of dead letters, or --all with or without --task")
    if every:
        count = queue.retry_all_dead(task_name=task_name)
        if as_json:
            print_json({"retried": count})
        else:
            click.echo(f"{count} run again")
        return
    new_ids = {job_id: queue.retry_dead(job_id) for job_id in job_ids}
    if as_json:
        print_json(new_ids)
    else:
        for job_id, new_id in new_ids.items():
            click.echo(f"{job_id}: runs again as {new_id}")


@dead.command()
@queue_options
@json_option
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=86_400,
    show_default=True,
    help="Seconds since they failed; 0 deletes all.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(queue: Queue, *, as_json: bool, older_than: float, yes: bool) -> None:
    """Delete dead letters for good."""
    if not yes:
        click.confirm(
            f"Delete the dead letters that failed more than {older_than:g} s ago?",
            abort=True,
            err=True,
        )
    count = queue.purge_dead(older_than=older_than)
    if as_json:
        print_json({"deleted": count})
    else:
        click.echo(f"{count} deleted")
