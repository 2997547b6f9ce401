"""The operations of the directory store, as the seam has them."""

from __future__ import annotations

import builtins
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote, urlsplit

from taskito.backends import Backend, BackendOptions, Capabilities, params
from taskito.backends.ids import new_job_id, parse_job_id
from taskito.backends.params import FINAL_STATES, CancelVerdict, JobState, Why
from taskito.backends.validation import (
    check_exchange,
    check_integer,
    check_list,
    check_new_jobs,
    check_options,
    check_purge,
    check_worker,
)
from taskito.exceptions import ConfigurationError, QueueClosedError
from taskito_example.changes import end, release
from taskito_example.exchange import exchange
from taskito_example.image import Image, Worker
from taskito_example.job import Job
from taskito_example.journal import Journal
from taskito_example.maintain import maintain

__all__ = ["DirectoryBackend"]

POLL_SECONDS = 0.02
_NANOSECONDS = 1_000_000


class SystemClock:
    """The clocks of the host. Both are the same for all its processes."""

    def wall_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return time.time_ns() // _NANOSECONDS

    def steady_ms(self) -> int:
        """Return milliseconds since the host was started."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _NANOSECONDS


class DirectoryBackend(Backend):
    """A store in a plain directory, shared by the processes of one host.

    Args:
        path: The directory; created if it does not exist. It has to be on a local disk.
        options: Namespace, durability, clock and busy timeout.

    Raises:
        ConfigurationError: An option has a value that it cannot have.

    Example:
        >>> with DirectoryBackend("/var/lib/jobs") as backend:  # doctest: +SKIP
        ...     backend.enqueue([params.NewJob(task="add")])
    """

    name: ClassVar[str] = "directory"
    capabilities: ClassVar[Capabilities] = Capabilities(cross_process=True, virtual_time=True)

    def __init__(self, path: str | os.PathLike[str], options: BackendOptions | None = None) -> None:
        self.options = options if options is not None else BackendOptions()
        check_options(self.options)
        self.path = Path(path)
        self._clock = self.options.clock if self.options.clock is not None else SystemClock()
        self._journal: Journal | None = None

    @classmethod
    def from_url(cls, url: str, options: BackendOptions) -> DirectoryBackend:
        """Make the backend of ``directory://relative/path`` or ``directory:///absolute/path``."""
        parts = urlsplit(url)
        path = unquote(parts.netloc + parts.path)
        if not path or parts.query or parts.fragment:
            raise ConfigurationError(
                f"backend: {url!r} is not directory:// and the path of a directory, without options"
            )
        return cls(path, options)

    # Life ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the store, creating what does not exist."""
        if self._journal is None:
            # A dot would not be quoted, and two of them would lead elsewhere.
            folder = quote(self.options.namespace, safe="").replace(".", "%2E")
            self._journal = Journal(self.path / folder, self.options)

    def close(self) -> None:
        """Give the store back."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    @contextmanager
    def _atom(self) -> Iterator[Image]:
        with self._opened().atom() as image:
            yield image

    def _opened(self) -> Journal:
        journal = self._journal
        if journal is None:
            raise QueueClosedError("the directory store is closed; open it before using it")
        return journal

    # Producers ----------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[params.NewJob]) -> builtins.list[params.Enqueued]:
        """Store a batch of jobs; see ``Backend.enqueue``."""
        check_new_jobs(jobs)
        for job in jobs:
            self._refuse_undeclared(job)
        with self._atom() as image:
            return [params.Enqueued(id=self._add(image, job)) for job in jobs]

    def _refuse_undeclared(self, job: params.NewJob) -> None:
        for field, capability in (
            ("unique_key", "unique"),
            ("idempotency_key", "unique"),
            ("id", "given_ids"),
            ("depends_on", "dependencies"),
            ("workflow", "workflows"),
            ("concurrency_key", "limits"),
        ):
            if getattr(job, field) not in (None, ()):
                self.capabilities.require(capability, field, self.name)

    def _add(self, image: Image, new: params.NewJob) -> str:
        now = self._clock.wall_ms()
        due_ms = now + new.delay_ms if new.eta_ms is None else max(now, new.eta_ms)
        job = Job(
            id=new_job_id(now, image.last_sequence + 1),
            sequence=image.last_sequence + 1,
            task=new.task,
            queue=new.queue,
            payload=new.payload,
            serializer=new.serializer,
            metadata=new.metadata,
            priority=new.priority,
            max_retries=new.max_retries,
            max_crashes=new.max_crashes,
            timeout_ms=new.timeout_ms,
            result_ttl_ms=new.result_ttl_ms,
            created_ms=now,
            due_ms=due_ms,
            expires_ms=new.expires_at_ms if new.expires_in_ms is None else now + new.expires_in_ms,
        )
        if due_ms > now:
            job.state, job.why = JobState.SCHEDULED, Why.DELAY
        image.put(job)
        return job.id

    # Workers ------------------------------------------------------------------------------------

    def register(self, worker: params.WorkerRegistration) -> None:
        """Announce a worker; see ``Backend.register``."""
        check_worker(worker)
        if worker.dead_letters != params.DeadLetterLimit():
            self.capabilities.require("dead_letter_limits", "a limit of dead letters", self.name)
        if worker.limits:
            self.capabilities.require("limits", "a limit of a task", self.name)
        with self._atom() as image:
            if worker.id in image.workers:
                raise ConfigurationError(
                    f"id: {worker.id!r} is taken; every start of a worker needs an id of its own"
                )
            image.put_worker(Worker(registration=worker, started_ms=self._clock.wall_ms()))

    def unregister(self, worker: str) -> None:
        """Take a worker away; see ``Backend.unregister``."""
        with self._atom() as image:
            if worker in image.workers:
                for job in image.held_by(worker):
                    release(image, self._clock, job, interrupted=job.started)
                image.delete_worker(worker)

    def exchange(self, request: params.ExchangeRequest) -> params.ExchangeReply:
        """Settle, renew and claim; see ``Backend.exchange``."""
        check_exchange(request)
        with self._atom() as image:
            return exchange(image, self._clock, request)

    def maintain(self, budget: int) -> params.MaintainReply:
        """Do one step of upkeep; see ``Backend.maintain``."""
        check_integer("budget", budget, 1)
        with self._atom() as image:
            return maintain(image, self._clock, budget)

    def wait(self, since: int, timeout: float) -> int:
        """Wait for a change; see ``Backend.wait``. Looks at the size of a file now and then."""
        deadline = time.monotonic() + timeout
        while (changes := self._opened().watch()) <= since:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            time.sleep(min(remaining, POLL_SECONDS))
        return changes

    # Inspection ---------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> builtins.list[params.JobRecord | None]:
        """Return the record of each job; see ``Backend.get``."""
        with self._atom() as image:
            jobs = [_find(image, job_id) for job_id in ids]
            return [
                None if job is None else job.to_record(self.options.namespace, whole=True)
                for job in jobs
            ]

    def list(self, request: params.ListRequest) -> params.Page:
        """Return a page of jobs; see ``Backend.list``."""
        check_list(request)
        rows: builtins.list[Job] = []
        more = False
        with self._atom() as image:
            for job in reversed(image.jobs.values()):
                if _is_listed(job, request):
                    if len(rows) == request.limit:
                        more = True
                        break
                    rows.append(job)
            return params.Page(
                jobs=tuple(job.to_record(self.options.namespace, whole=False) for job in rows),
                next=rows[-1].sequence if more else None,
            )

    def counts(self) -> builtins.list[params.Count]:
        """Return how many jobs are in each state; see ``Backend.counts``."""
        with self._atom() as image:
            counted = Counter(
                (job.queue, job.task, job.state, job.why is Why.RETRY)
                for job in image.jobs.values()
            )
        return [
            params.Count(queue=queue, task=task, state=state, retrying=retrying, count=count)
            for (queue, task, state, retrying), count in sorted(counted.items())
        ]

    def workers(self) -> builtins.list[params.WorkerRecord]:
        """Return the registered workers; see ``Backend.workers``."""
        with self._atom() as image:
            return [
                params.WorkerRecord(
                    id=worker_id,
                    pid=worker.registration.pid,
                    host=worker.registration.host,
                    queues=worker.registration.queues,
                    tasks=worker.registration.tasks,
                    started_ms=worker.started_ms,
                    running=len(image.held_by(worker_id)),
                )
                for worker_id, worker in image.workers.items()
            ]

    # Control ------------------------------------------------------------------------------------

    def cancel(self, request: params.CancelRequest) -> builtins.list[CancelVerdict]:
        """Cancel jobs; see ``Backend.cancel``."""
        with self._atom() as image:
            return [self._cancel_one(image, job_id, request) for job_id in request.ids]

    def _cancel_one(
        self, image: Image, job_id: str, request: params.CancelRequest
    ) -> CancelVerdict:
        job = _find(image, job_id)
        if job is None or job.state in FINAL_STATES:
            return CancelVerdict.REFUSED
        if job.state is not JobState.RUNNING:
            end(image, self._clock, job, "cancel", request.reason)
            return CancelVerdict.DONE
        if not request.running:
            return CancelVerdict.REFUSED
        if job.cancel_reason is None:
            job.cancel_reason = request.reason
            image.put(job)
        return CancelVerdict.REQUESTED

    def purge(self, request: params.PurgeRequest) -> int:
        """Delete finished jobs, those that ended first before the others."""
        check_purge(request)
        named = {parse_job_id(job_id) for job_id in request.ids}
        with self._atom() as image:
            ended_by = self._clock.wall_ms() - request.older_than_ms
            chosen = [
                (job.finished_ms, job.sequence, job)
                for job in image.jobs.values()
                if job.finished_ms is not None
                and job.finished_ms <= ended_by
                and (not request.ids or job.id in named)
                and (not request.states or job.state in request.states)
                and request.queue in (None, job.queue)
                and request.task in (None, job.task)
            ]
            chosen = sorted(chosen)[: request.limit]
            for _, _, job in chosen:
                image.delete(job)
        return len(chosen)


def _find(image: Image, job_id: str) -> Job | None:
    """Return the job with this id, in whatever form the id is written."""
    return image.jobs.get(parse_job_id(job_id) or job_id)


def _is_listed(job: Job, request: params.ListRequest) -> bool:
    return (
        (request.after is None or job.sequence < request.after)
        and (not request.states or job.state in request.states)
        and (not request.whys or job.why is None or job.why in request.whys)
        and request.queue in (None, job.queue)
        and request.task in (None, job.task)
    )
