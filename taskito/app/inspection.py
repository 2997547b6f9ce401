"""What a queue can be asked: jobs, counts, errors, workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from taskito import config
from taskito.backends.params import Count, ErrorKind, JobRecord, JobState, ListRequest
from taskito.connection import Connection
from taskito.exceptions import JobNotFoundError
from taskito.result import JobResult
from taskito.status import error_to_dict, selected_states

__all__ = ["Inspection", "JobPage", "walk"]

_PAGE = 1_000

_COUNTED_AS = {
    JobState.BLOCKED: "pending",
    JobState.SCHEDULED: "pending",
    JobState.READY: "pending",
    JobState.RUNNING: "running",
    JobState.COMPLETE: "completed",
    JobState.DEAD: "dead",
    JobState.CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class JobPage:
    """A part of a listing; iterate over it for its jobs.

    Attributes:
        jobs: The jobs, newest first.
        next: What to give as ``after`` for the jobs that follow; None at the end.
    """

    jobs: tuple[JobResult[Any], ...]
    next: int | None

    def __iter__(self) -> Iterator[JobResult[Any]]:
        return iter(self.jobs)

    def __len__(self) -> int:
        return len(self.jobs)


class Inspection:
    """The part of ``Queue`` that reads and changes nothing."""

    _connection: Connection

    def get_job(self, id: str) -> JobResult[Any] | None:
        """Return a job by its id; None if there is none (any more).

        Example:
            >>> job = queue.get_job(stored_id)
        """
        job_id = config.check_job_id("id", id)
        if self._connection.backend.get([job_id])[0] is None:
            return None
        return JobResult(self._connection, job_id)

    def list_jobs(
        self,
        status: str | None = None,
        queue: str | None = None,
        task_name: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> list[JobResult[Any]]:
        """Return jobs, newest first.

        A large ``offset`` is slow, since what it skips is read; ``list_jobs_after`` is not.

        Args:
            status: "pending", "running", "complete", "failed", "dead" or "cancelled"; None for all.
            queue: Only this queue.
            task_name: Only this task.
            limit: At most so many.
            offset: Leave out so many at the beginning.
        """
        limit = config.check_integer("limit", limit)
        offset = config.check_integer("offset", offset)
        request = _request(status, queue, task_name)
        jobs: list[JobResult[Any]] = []
        if not limit:
            return jobs
        for index, (record, _) in enumerate(self._walk(request, limit + offset)):
            if index >= offset:
                jobs.append(JobResult(self._connection, record.id))
        return jobs

    def list_jobs_after(
        self,
        status: str | None = None,
        queue: str | None = None,
        task_name: str | None = None,
        limit: int = 50,
        *,
        after: int | None = None,
    ) -> JobPage:
        """Return one page of jobs, newest first; equally fast wherever the page lies.

        Args:
            status: As in ``list_jobs``.
            queue: Only this queue.
            task_name: Only this task.
            limit: At most so many, 1 or more.
            after: ``JobPage.next`` of the page before; None begins with the newest.

        Example:
            >>> page = queue.list_jobs_after(status="dead", limit=100)
            >>> while page.next is not None:
            ...     page = queue.list_jobs_after(status="dead", limit=100, after=page.next)
        """
        limit = config.check_integer("limit", limit, minimum=1)
        if after is not None:
            after = config.check_integer("after", after, maximum=2**63 - 1)
        position: int | None = None
        jobs = []
        for record, position in self._walk(_request(status, queue, task_name), limit, after):  # noqa: B007
            jobs.append(JobResult[Any](self._connection, record.id))
        return JobPage(tuple(jobs), position)

    def stats(self) -> dict[str, int]:
        """Return how many jobs there are, by what they are.

        The keys are "pending", "running", "completed", "failed" (a retry waits), "dead" and
        "cancelled".
        """
        return _sum(self._connection.backend.counts())

    def stats_by_queue(self, name: str = "default") -> dict[str, int]:
        """Return the same counts for one queue; all zero if it never had a job."""
        name = config.check_name("name", name)
        return _sum([count for count in self._connection.backend.counts() if count.queue == name])

    def stats_all_queues(self) -> dict[str, dict[str, int]]:
        """Return the same counts for each queue that has jobs, by its name."""
        by_queue: dict[str, list[Count]] = {}
        for count in self._connection.backend.counts():
            by_queue.setdefault(count.queue, []).append(count)
        return {name: _sum(counts) for name, counts in sorted(by_queue.items())}

    def job_errors(self, id: str, *, interruptions: bool = False) -> list[dict[str, Any]]:
        """Return the attempts of a job that did not succeed, oldest first.

        Args:
            id: The job.
            interruptions: Whether to include attempts that the shutdown of a worker interrupted;
                they use up no attempt.

        Returns:
            Dicts as in ``JobResult.errors``.

        Raises:
            JobNotFoundError: There is no such job.
        """
        job_id = config.check_job_id("id", id)
        record = self._connection.backend.get([job_id])[0]
        if record is None:
            raise JobNotFoundError(f"no job has the id {job_id!r}")
        return [
            error_to_dict(record, entry)
            for entry in record.errors
            if interruptions or entry.kind is not ErrorKind.INTERRUPTED
        ]

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers that are registered now, oldest first.

        Each is a dict with ``id``, ``pid``, ``host``, ``queues`` (a list, or None for all),
        ``tasks`` (a list), ``started_at`` (ms since the epoch) and ``running`` (jobs it holds).
        """
        return [
            {
                "id": worker.id,
                "pid": worker.pid,
                "host": worker.host,
                "queues": None if worker.queues is None else list(worker.queues),
                "tasks": list(worker.tasks),
                "started_at": worker.started_ms,
                "running": worker.running,
            }
            for worker in self._connection.backend.workers()
        ]

    def _walk(
        self, request: ListRequest, limit: int, after: int | None = None
    ) -> Iterator[tuple[JobRecord, int | None]]:
        return walk(self._connection, request, limit, after)


def walk(
    connection: Connection, request: ListRequest, limit: int, after: int | None = None
) -> Iterator[tuple[JobRecord, int | None]]:
    """Yield up to ``limit`` records page by page, each with the position behind its page.

    Pages never hold more than what is still wanted, so that the position of the last record is
    where a later listing goes on.
    """
    while limit > 0:
        page = connection.backend.list(
            ListRequest(
                states=request.states,
                whys=request.whys,
                queue=request.queue,
                task=request.task,
                skip_replayed=request.skip_replayed,
                limit=min(limit, _PAGE),
                after=after,
            )
        )
        for record in page.jobs:
            yield record, page.next
        limit -= len(page.jobs)
        after = page.next
        if after is None:
            return


def _request(status: str | None, queue: str | None, task_name: str | None) -> ListRequest:
    states, whys = selected_states(status)
    return ListRequest(
        states=states,
        whys=whys,
        queue=None if queue is None else config.check_name("queue", queue),
        task=None if task_name is None else config.check_name("task_name", task_name),
    )


def _sum(counts: Iterable[Count]) -> dict[str, int]:
    stats = dict.fromkeys(("pending", "running", "completed", "failed", "dead", "cancelled"), 0)
    for count in counts:
        stats["failed" if count.retrying else _COUNTED_AS[count.state]] += count.count
    return stats
