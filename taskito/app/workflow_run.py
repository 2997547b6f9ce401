"""``WorkflowRun``: a stored workflow, its state, its graph, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from taskito.app.workflow_graph import Graph
from taskito.backends.params import (
    CancelRequest,
    CancelVerdict,
    JobRecord,
    JobState,
    ListRequest,
    ReplayRequest,
)
from taskito.connection import Connection
from taskito.exceptions import ConfigurationError, JobNotFoundError
from taskito.result import JobResult
from taskito.status import last_error, public_status

__all__ = ["WorkflowPage", "WorkflowRun", "WorkflowStep"]

_PAGE = 500


@dataclass(frozen=True, slots=True)
class WorkflowStep:
    """One step of a workflow, as of one moment.

    Attributes:
        job: Its job; of a step that was run again, the newest.
        task_name: Its task.
        status: "pending", "running", "complete", "failed", "dead", "cancelled" or "skipped": it was
            to run after a failure, and there was none.
        depends_on: The ids of the jobs that it waits for.
        error: What went wrong, in one line, or why it was cancelled.
    """

    job: JobResult[Any]
    task_name: str
    status: str
    depends_on: tuple[str, ...]
    error: str | None


class WorkflowRun:
    """A stored workflow. Every attribute asks the store, so that it is never stale.

    Example:
        >>> flow = queue.get_workflow(job)
        >>> flow.state, flow.done, flow.total
        ('running', 2, 5)
    """

    __slots__ = ("_connection", "_id")

    def __init__(self, connection: Connection, id: str) -> None:
        self._connection = connection
        self._id = id

    @property
    def id(self) -> str:
        """The workflow's id."""
        return self._id

    @property
    def state(self) -> str:
        """Where it stands.

        "running" while a step has not ended; then "complete" if its last steps are, "cancelled" if
        they were cancelled, and "failed" otherwise.
        """
        return self._graph().state

    @property
    def total(self) -> int:
        """How many steps it has; one that was run again counts once."""
        return sum(self._counts().values())

    @property
    def done(self) -> int:
        """How many steps have ended, however."""
        counts = self._counts()
        ends = (JobState.COMPLETE, JobState.DEAD, JobState.CANCELLED)
        return sum(counts.get(state, 0) for state in ends)

    @property
    def steps(self) -> list[WorkflowStep]:
        """Its steps, in the order in which they were stored: each behind those it waits for."""
        graph = self._graph()
        return [self._step(graph, record) for record in graph.records]

    @property
    def failed_steps(self) -> list[WorkflowStep]:
        """The steps that failed themselves, without those that were cancelled because of them."""
        return [step for step in self.steps if step.status == "dead"]

    def graph(self) -> dict[str, Any]:
        """Return the graph as plain values.

        Returns:
            ``nodes``: dicts with ``id``, ``task`` and ``status``; ``edges``: dicts with ``from``,
            ``to``, ``condition`` ("success", "failure", "always") and ``input``.
        """
        return self._graph().to_dict()

    def mermaid(self) -> str:
        """Return the graph as the text of a Mermaid flowchart."""
        return self._graph().to_mermaid()

    def summary(self) -> dict[str, Any]:
        """Return id, state, ``created_at`` (ms), done and total, as of one moment."""
        return self._summary(self._graph())

    def to_dict(self) -> dict[str, Any]:
        """Return the summary, and nodes and edges of the graph, as of one moment."""
        graph = self._graph()
        return {**self._summary(graph), **graph.to_dict()}

    def cancel(self) -> bool:
        """Cancel every step that has not started, and ask the running ones to stop.

        It is one atom: no other step starts in between, nor does what was to run on an error.

        Returns:
            Whether there was anything left to cancel.
        """
        # What depends on others goes first, so that nothing is set off by the end of those.
        ids = tuple(record.id for record in reversed(self._records()))
        request = CancelRequest(ids=ids, reason=f"workflow {self._id} was cancelled", running=True)
        verdicts = self._connection.backend.cancel(request)
        return any(verdict is not CancelVerdict.REFUSED for verdict in verdicts)

    def retry(self) -> list[JobResult[Any]]:
        """Run what failed or was cancelled again, and nothing else, in one atom.

        Steps that are complete keep their results, and what runs again takes them from there. What
        was to run on an error stands ready once more.

        Returns:
            The new jobs; the last one is that of the last step, or of what runs on an error.

        Raises:
            ConfigurationError: It is still running, or there is nothing to run again; or a result
                that is needed was deleted; or somebody else was faster.
            CapabilityError: The backend cannot replay.
        """
        self._connection.require("replay", "retry() of a workflow")
        graph = self._graph()
        if graph.state == "running":
            raise ConfigurationError(
                f"id: workflow {self._id} is running; it can be retried when it has ended"
            )
        ids = graph.needs_retry()
        if not ids:
            raise ConfigurationError(f"id: no step of workflow {self._id} has to run again")
        answers = self._connection.backend.replay(ReplayRequest(ids=ids, once=True))
        new = [answer for answer in answers if answer is not None]
        if len(new) < len(ids):
            raise ConfigurationError(
                f"id: workflow {self._id} cannot be retried: somebody else has just done so, or a "
                f"result that a step takes was deleted"
            )
        return [JobResult(self._connection, answer) for answer in new]

    def __repr__(self) -> str:
        return f"<WorkflowRun {self._id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorkflowRun) and self._id == other._id

    def __hash__(self) -> int:
        return hash(self._id)

    # Parts ----------------------------------------------------------------------------------------

    def _summary(self, graph: Graph) -> dict[str, Any]:
        return {
            "id": self._id,
            "state": graph.state,
            "created_at": graph.records[0].created_ms,
            "done": graph.done,
            "total": len(graph.records),
        }

    def _graph(self) -> Graph:
        records = [record for record in self._records() if record.replayed_as is None]
        whole: list[JobRecord] = []
        for start in range(0, len(records), _PAGE):
            ids = [record.id for record in records[start : start + _PAGE]]
            found = self._connection.backend.get(ids)
            whole += [record for record in found if record is not None]
        return Graph(whole)

    def _records(self) -> list[JobRecord]:
        """Return the records of its jobs, oldest first, without what listings leave out."""
        records: list[JobRecord] = []
        after = None
        while True:
            request = ListRequest(workflow=self._id, limit=_PAGE, after=after)
            page = self._connection.backend.list(request)
            records += page.jobs
            after = page.next
            if after is None:
                break
        if not records:
            raise JobNotFoundError(f"no workflow has the id {self._id!r}; it may have been purged")
        return records[::-1]

    def _counts(self) -> Mapping[JobState, int]:
        record = self._connection.backend.workflow(self._id)
        if record is None:
            raise JobNotFoundError(f"no workflow has the id {self._id!r}; it may have been purged")
        return dict(record.counts)

    def _step(self, graph: Graph, record: JobRecord) -> WorkflowStep:
        error = last_error(record)
        status = public_status(record.state, record.why)
        return WorkflowStep(
            job=JobResult(self._connection, record.id),
            task_name=record.task,
            status="skipped" if graph.is_skipped(record) else status,
            depends_on=record.dependencies,
            error=record.reason or (None if error is None else error.summary or error.kind),
        )


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """A part of a listing; iterate over it for its workflows.

    Attributes:
        workflows: The workflows, newest first.
        next: What to give as ``after`` for those that follow; None at the end.
    """

    workflows: tuple[WorkflowRun, ...]
    next: int | None

    def __iter__(self) -> Iterator[WorkflowRun]:
        return iter(self.workflows)

    def __len__(self) -> int:
        return len(self.workflows)
