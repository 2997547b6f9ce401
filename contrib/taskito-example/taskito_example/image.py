"""What the journal says, in memory: all jobs and workers, and indexes of what is looked for.

``put`` and its like are the only ways to change an image. They note what changed, and
``take_changes`` hands that over as one entry of the journal, which ``apply`` turns into the same
image elsewhere.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from taskito.backends.params import JobState, WorkerRegistration
from taskito_example.job import Job, Lane

__all__ = ["Image", "Index", "Worker"]


@dataclass(slots=True, eq=False, kw_only=True)
class Worker:
    """A registered worker.

    Attributes:
        fallen: Set when one of its leases ended: the runs that had started by then, by id, and
            whether each was a suspect. Its next exchange proves that it lives and clears this.
    """

    registration: WorkerRegistration
    started_ms: int
    fallen: dict[str, bool] | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Worker:
        """Make the worker that ``dataclasses.asdict`` described."""
        told = data["registration"]
        queues = None if told["queues"] is None else tuple(told["queues"])
        registration = WorkerRegistration(
            **{**told, "queues": queues, "tasks": tuple(told["tasks"])}
        )
        return cls(**{**data, "registration": registration})


class Index:
    """Jobs in the order of a key. An entry that is not true any more is dropped at the top.

    Args:
        jobs: Where the jobs are found by id.
        key: Returns the place of a job, None if it does not belong here now.
    """

    def __init__(self, jobs: dict[str, Job], key: Callable[[Job], Any]) -> None:
        self._jobs = jobs
        self._key = key
        self._heap: list[tuple[Any, int, str]] = []

    def add(self, job: Job) -> None:
        """Note a job, if it belongs here."""
        key = self._key(job)
        if key is not None:
            heapq.heappush(self._heap, (key, job.sequence, job.id))

    def first(self) -> Job | None:
        """Return the job with the smallest key."""
        while self._heap:
            key, _, job_id = self._heap[0]
            job = self._jobs.get(job_id)
            if job is not None and self._key(job) == key:
                return job
            heapq.heappop(self._heap)
        return None


class Image:
    """All jobs and workers of one namespace."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        """Every job by id, in the order of enqueueing."""
        self.workers: dict[str, Worker] = {}
        self.running: dict[str, Job] = {}
        self.lanes: dict[Lane, Index] = {}
        """The ready jobs. A lane that a worker may not claim from costs its claims nothing."""
        self.due = Index(self.jobs, lambda job: job.due_at)
        self.expiring = Index(self.jobs, lambda job: job.expires_at)
        self.retained = Index(self.jobs, lambda job: job.deleted_at)
        self.last_sequence = 0
        self.last_token = 0
        self.entries = 0
        """How many jobs and workers were written to the journal, again and again included."""
        self._changed_jobs: dict[str, Job | None] = {}
        self._changed_workers: dict[str, Worker | None] = {}

    def put(self, job: Job) -> None:
        """Store a job that is new or was changed."""
        self._changed_jobs[job.id] = job
        self._place(job)

    def delete(self, job: Job) -> None:
        """Forget a job."""
        self._changed_jobs[job.id] = None
        del self.jobs[job.id]

    def put_worker(self, worker: Worker) -> None:
        """Store a worker that is new or was changed."""
        self._changed_workers[worker.registration.id] = worker
        self.workers[worker.registration.id] = worker

    def delete_worker(self, worker_id: str) -> None:
        """Forget a worker."""
        self._changed_workers[worker_id] = None
        del self.workers[worker_id]

    def held_by(self, worker_id: str) -> list[Job]:
        """Return the running jobs of a worker."""
        return [job for job in self.running.values() if job.worker == worker_id]

    def take_changes(self) -> dict[str, Any] | None:
        """Return what changed since the last call, as an entry of the journal; None if nothing."""
        jobs, self._changed_jobs = self._changed_jobs, {}
        workers, self._changed_workers = self._changed_workers, {}
        self.entries += len(jobs) + len(workers)
        return _entry(jobs, workers) if jobs or workers else None

    def everything(self) -> dict[str, Any]:
        """Return the whole image as one entry of the journal."""
        self.entries = len(self.jobs) + len(self.workers)
        return _entry(self.jobs, self.workers)

    def apply(self, entry: dict[str, Any]) -> None:
        """Follow an entry of the journal, whoever wrote it."""
        for job_id, data in entry["jobs"].items():
            if data is None:
                self.jobs.pop(job_id, None)
            else:
                self._place(Job.from_json(data))
        for worker_id, data in entry["workers"].items():
            if data is None:
                self.workers.pop(worker_id, None)
            else:
                self.workers[worker_id] = Worker.from_json(data)
        self.entries += len(entry["jobs"]) + len(entry["workers"])

    def _place(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.last_sequence = max(self.last_sequence, job.sequence)
        self.last_token = max(self.last_token, job.run)
        if job.state is JobState.RUNNING:
            self.running[job.id] = job
        else:
            self.running.pop(job.id, None)
        if job.state is JobState.READY:
            lane = job.lane
            if lane not in self.lanes:
                self.lanes[lane] = Index(self.jobs, partial(Job.rank_in, lane=lane))
            self.lanes[lane].add(job)
        for index in (self.due, self.expiring, self.retained):
            index.add(job)


def _entry(jobs: dict[str, Any], workers: dict[str, Any]) -> dict[str, Any]:
    return {
        "jobs": {key: job and job.to_json() for key, job in jobs.items()},
        "workers": {key: worker and asdict(worker) for key, worker in workers.items()},
    }
