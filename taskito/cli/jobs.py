"""``taskito jobs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from taskito.cli.application import queue_options
from taskito.cli.output import facts, instant, json_option, print_json, print_table, print_text
from taskito.exceptions import JobNotFoundError

if TYPE_CHECKING:
    from taskito.app import Queue
    from taskito.result import JobResult

__all__ = ["jobs"]

_STATUSES = ("pending", "running", "complete", "failed", "dead", "cancelled")
_TIMES = ("created_at", "scheduled_at", "started_at", "completed_at")


@click.group()
def jobs() -> None:
    """List jobs, look at one, cancel or repeat it."""


@jobs.command("list")
@queue_options
@json_option
@click.option("--status", type=click.Choice(_STATUSES), help="Only these.")
@click.option("--queue", "queue_name", help="Only those of this queue.")
@click.option("--task", "task_name", help="Only those of this task.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Leave out the newest.")
def list_jobs(
    queue: Queue,
    *,
    as_json: bool,
    status: str | None,
    queue_name: str | None,
    task_name: str | None,
    limit: int,
    offset: int,
) -> None:
    """List jobs, newest first."""
    found = [
        job.to_dict()
        for job in queue.list_jobs(
            status=status, queue=queue_name, task_name=task_name, limit=limit, offset=offset
        )
    ]
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "task", "queue", "status", "attempt", "progress", "created", "error"),
        (
            (
                job["id"],
                job["task_name"],
                job["queue"],
                job["status"],
                f"{job['retry_count']}/{job['max_retries']}",
                "" if job["progress"] is None else f"{job['progress']} %",
                instant(job["created_at"]),
                job["error"],
            )
            for job in found
        ),
        empty="no jobs",
    )


@jobs.command()
@queue_options
@json_option
@click.argument("job_id", metavar="ID")
def show(queue: Queue, job_id: str, *, as_json: bool) -> None:
    """Show everything about one job, with the error of each attempt."""
    job = _get(queue, job_id)
    found: dict[str, Any] = {
        **job.to_dict(),
        "waiting_on": job.waiting_on,
        "dependencies": job.dependencies,
        "dependents": job.dependents,
        "errors": job.errors,
        "log": _log(queue, job_id),
    }
    if as_json:
        print_json(found)
        return
    errors, log = found.pop("errors"), found.pop("log")
    facts({name: instant(v) if name in _TIMES else v for name, v in found.items()})
    for error in errors:
        click.echo(f"\nattempt {error['attempt']} at {instant(error['failed_at'])}:")
        print_text(error.get("traceback") or error["error"])
    if log:
        click.echo("\nlog:")
        for line in log:
            print_text(f"{instant(line['at'])} {line['level']:<8} {line['message']}")


@jobs.command()
@queue_options
@json_option
@click.option("--running", is_flag=True, help="Ask a running job to stop, too.")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
def cancel(queue: Queue, job_ids: tuple[str, ...], *, as_json: bool, running: bool) -> None:
    """Cancel jobs that have not started, and what depends on them.

    The exit status is 1 if some could not be cancelled: unknown, running or ended already.
    """
    done = {}
    for job_id in job_ids:
        done[job_id] = queue.cancel_job(job_id)
        if not done[job_id] and running:
            done[job_id] = queue.cancel_running_job(job_id)
    if as_json:
        print_json(done)
    else:
        for job_id, cancelled in done.items():
            click.echo(f"{job_id}: {'cancelled' if cancelled else 'not cancelled'}")
    if not all(done.values()):
        raise click.exceptions.Exit(1)


@jobs.command()
@queue_options
@json_option
@click.argument("job_id", metavar="ID")
def retry(queue: Queue, job_id: str, *, as_json: bool) -> None:
    """Run an ended job again, as a new job with the same arguments; print the new id."""
    new_id = queue.replay(job_id)
    if as_json:
        print_json({"id": new_id, "original_job_id": job_id})
    else:
        click.echo(new_id)


def _get(queue: Queue, job_id: str) -> JobResult[Any]:
    job = queue.get_job(job_id)
    if job is None:
        raise JobNotFoundError(f"no job has the id {job_id!r}; it may have been purged")
    return job


def _log(queue: Queue, job_id: str) -> list[dict[str, Any]]:
    if not queue.backend.capabilities.progress_log:
        return []
    return [
        {"run": line.run, "at": line.at_ms, "level": line.level, "message": line.message}
        for line in queue.backend.logs(job_id)
    ]
