"""Storing workflows, and what can be asked of a stored one."""

from __future__ import annotations

import uuid
from typing import Any

from taskito import config
from taskito.app.enqueueing import Enqueueing
from taskito.app.workflow_run import WorkflowPage, WorkflowRun
from taskito.backends.params import WorkflowsRequest
from taskito.canvas.plan import plan, results
from taskito.canvas.signature import Canvas, Signature
from taskito.connection import Connection
from taskito.exceptions import ConfigurationError
from taskito.result import JobResult

__all__ = ["Workflows"]


class Workflows(Enqueueing):
    """The part of ``Queue`` that stores and finds workflows."""

    _connection: Connection

    def submit_workflow(self, canvas: Canvas, on_error: Signature | None = None) -> Any:
        """Store all steps of a workflow in one atom. ``canvas.apply()`` does this.

        Returns:
            The job of the last step; for a group the list of its jobs.
        """
        if not isinstance(canvas, Canvas):
            raise ConfigurationError(f"canvas: {canvas!r} is no signature, chain, group or chord")
        if isinstance(canvas, Signature) and on_error is None:
            task = self._task(canvas.task)
            return self.submit(task, list(canvas.args), canvas.kwargs, canvas.options)
        self._connection.require("workflows", "a workflow")
        workflow = uuid.uuid4().hex
        if on_error is not None and not on_error.immutable:
            on_error = on_error.clone((workflow,))
        made = plan(canvas, on_error)
        jobs = self._store([self._new_step(step, workflow) for step in made.steps])
        return results(made.handle, jobs)

    async def asubmit_workflow(self, canvas: Canvas, on_error: Signature | None = None) -> Any:
        """Do what ``submit_workflow`` does without blocking the event loop."""
        return await self._connection.run(self.submit_workflow, canvas, on_error)

    def get_workflow(self, id: str | JobResult[Any]) -> WorkflowRun | None:
        """Return a workflow by its id, or by one of its jobs; None if it has no jobs any more.

        Raises:
            CapabilityError: The backend cannot store workflows.

        Example:
            >>> job = chain(fetch.s(url), parse.s()).apply()
            >>> queue.get_workflow(job).state
            'running'
        """
        self._connection.require("workflows", "get_workflow()")
        name = id.workflow_id if isinstance(id, JobResult) else config.check_name("id", id)
        if name is None or self._connection.backend.workflow(name) is None:
            return None
        return WorkflowRun(self._connection, name)

    def list_workflows(self, limit: int = 50, after: int | None = None) -> WorkflowPage:
        """Return a page of workflows, newest first; iterate over it for their descriptions.

        Args:
            limit: At most so many, 1 to 10,000.
            after: Continue behind this position: ``next`` of the page before.

        Example:
            >>> [flow.id for flow in queue.list_workflows(limit=10)]
        """
        self._connection.require("workflows", "list_workflows()")
        limit = config.check_integer("limit", limit, 1, 10_000)
        request = WorkflowsRequest(limit=limit, after=after)
        page = self._connection.backend.workflows(request)
        runs = tuple(WorkflowRun(self._connection, record.id) for record in page.workflows)
        return WorkflowPage(runs, page.next)
