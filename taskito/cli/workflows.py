"""``taskito workflows``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskito.cli.application import queue_options
from taskito.cli.output import facts, instant, json_option, print_json, print_table, print_text
from taskito.exceptions import JobNotFoundError

if TYPE_CHECKING:
    from taskito.app import Queue
    from taskito.app.workflow_run import WorkflowRun

__all__ = ["workflows"]


@click.group()
def workflows() -> None:
    """List workflows, look at one, cancel it or run what failed again."""


@workflows.command("list")
@queue_options
@json_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
def list_workflows(queue: Queue, *, as_json: bool, limit: int) -> None:
    """List workflows, newest first."""
    found = [workflow.summary() for workflow in queue.list_workflows(limit=limit)]
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "state", "done", "created"),
        (
            (
                flow["id"],
                flow["state"],
                f"{flow['done']}/{flow['total']}",
                instant(flow["created_at"]),
            )
            for flow in found
        ),
        empty="no workflows",
    )


@workflows.command()
@queue_options
@json_option
@click.option("--mermaid", is_flag=True, help="Print the graph as a Mermaid flowchart.")
@click.argument("workflow_id", metavar="ID")
def show(queue: Queue, workflow_id: str, *, as_json: bool, mermaid: bool) -> None:
    """Show one workflow and its steps."""
    workflow = _get(queue, workflow_id)
    if mermaid:
        click.echo(workflow.mermaid(), nl=False)
        return
    found = workflow.to_dict()
    if as_json:
        print_json(found)
        return
    facts(
        {
            "id": found["id"],
            "state": found["state"],
            "done": f"{found['done']}/{found['total']}",
            "created_at": instant(found["created_at"]),
        }
    )
    click.echo()
    print_table(
        ("step", "task", "status", "error"),
        ((step.job.id, step.task_name, step.status, step.error) for step in workflow.steps),
        empty="no steps",
    )


@workflows.command()
@queue_options
@click.argument("workflow_id", metavar="ID")
def cancel(queue: Queue, workflow_id: str) -> None:
    """Cancel the steps that have not started, and ask the running ones to stop.

    The exit status is 1 if all steps had ended already.
    """
    if not _get(queue, workflow_id).cancel():
        print_text(f"{workflow_id}: has ended already")
        raise click.exceptions.Exit(1)
    print_text(f"{workflow_id}: cancelled")


@workflows.command()
@queue_options
@json_option
@click.argument("workflow_id", metavar="ID")
def retry(queue: Queue, workflow_id: str, *, as_json: bool) -> None:
    """Run the steps that failed or were cancelled again; print the ids of the new jobs."""
    ids = [job.id for job in _get(queue, workflow_id).retry()]
    if as_json:
        print_json({"id": workflow_id, "jobs": ids})
        return
    for job_id in ids:
        click.echo(job_id)


def _get(queue: Queue, workflow_id: str) -> WorkflowRun:
    workflow = queue.get_workflow(workflow_id)
    if workflow is None:
        raise JobNotFoundError(f"no workflow has the id {workflow_id!r}; it may have been purged")
    return workflow
