"""The data of a memory store, and what follows from each change of a job's state.

All data stands behind one lock. An operation runs inside ``atom``: it first reads and checks
everything that can be refused, then changes; nothing can fail after the first change.

Heaps are cleaned lazily: an entry whose job has moved on meanwhile is dropped when it comes to the
top. No entry can be mistaken for a newer one, since a job's due time, lease or lane says which of
its entries is meant.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from taskito.backends import params
from taskito.backends.base import Clock
from taskito.backends.memory.bucket import Limit
from taskito.backends.memory.edges import has_failed, inherited_reason, inputs_of, is_needed
from taskito.backends.memory.job import Job
from taskito.backends.memory.stored_schedule import StoredSchedule
from taskito.backends.params import SKIPPED, Condition, Dependency, JobState, Why
from taskito.backends.transitions import next_state
from taskito.exceptions import QueueClosedError

__all__ = ["EXPIRED", "HeldLock", "Lane", "Store", "Worker", "Workflow"]

EXPIRED = "expired"
"""The reason of a job that was not started in time."""

Lane = tuple[str, str, bool, str | None]
"""Queue, task, whether it holds suspects, and the concurrency key of its jobs."""

_WAITING = frozenset({JobState.BLOCKED, JobState.SCHEDULED, JobState.READY})


@dataclass(slots=True, eq=False, kw_only=True)
class Worker:
    """A registered worker.

    Attributes:
        running: The jobs that it holds, by id, in the order of their claims.
        fallen: Set when a lease of it ended: the runs that had started by then, by id, and whether
            each was a suspect. Its next exchange proves that it lives and clears this.
    """

    registration: params.WorkerRegistration
    started_ms: int
    running: dict[str, Job] = field(default_factory=dict)
    fallen: dict[str, bool] | None = None


@dataclass(slots=True)
class HeldLock:
    """A lock and who holds it, until ``deadline_ms`` of steady time."""

    token: int
    owner: str
    deadline_ms: int


@dataclass(slots=True, eq=False)
class Workflow:
    """Jobs that are the steps of one workflow.

    Attributes:
        number: Grows with every workflow of the store.
        jobs: By id, in the order of enqueueing.
    """

    number: int
    created_ms: int
    jobs: dict[str, Job] = field(default_factory=dict)


class Store:
    """Jobs, workers and keys of one namespace.

    Args:
        clock: Tells the time.
        namespace: Its name, for records.
    """

    def __init__(self, clock: Clock, namespace: str) -> None:
        self.clock = clock
        self.namespace = namespace
        self.jobs: dict[str, Job] = {}
        self.by_sequence: dict[int, Job] = {}
        self.finished: dict[str, Job] = {}
        """The final jobs in the order in which they ended."""
        self.workers: dict[str, Worker] = {}
        self.paused: set[str] = set()
        self.schedules: dict[str, StoredSchedule] = {}
        """By name, in the order of their first declaration."""
        self.workflows: dict[str, Workflow] = {}
        self.last_workflow = 0
        self.limits: dict[tuple[params.LimitKind, str], Limit] = {}
        self.locks: dict[str, HeldLock] = {}
        self.unique_keys: dict[str, str] = {}
        self.idempotency_keys: dict[str, str] = {}
        self.counts: Counter[tuple[str, str, JobState, bool]] = Counter()
        self.lanes: dict[Lane, list[tuple[tuple[int, int, int], Job]]] = {}
        """The ready jobs: a heap by rank for each lane. A lane that may not be claimed from is
        never looked into, so its jobs cost a claim nothing."""
        self.due: list[tuple[int, int, Job]] = []
        self.expiries: list[tuple[int, int, int, Job]] = []
        self.leases: list[tuple[int, int, Job]] = []
        self.retention: list[tuple[int, int, Job]] = []
        self.dead_letter_limit = params.DeadLetterLimit()
        self.last_sequence = 0
        self.last_token = 0
        self.changes = 0
        self._changed = False
        self._closed = False
        self._process = os.getpid()
        self._condition = threading.Condition()

    # The lock -----------------------------------------------------------------------------------

    @contextmanager
    def atom(self) -> Iterator[None]:
        """Run an operation alone; at its end, wake who waits for a change, if there was one."""
        self.refuse_forked()
        with self._condition:
            self._refuse_closed()
            self._changed = False
            yield
            if self._changed:
                self.changes += 1
                self._condition.notify_all()

    def wait(self, since: int, timeout: float) -> int:
        """Block until the change number is above ``since``, or for ``timeout`` seconds."""
        self.refuse_forked()
        with self._condition:
            self._condition.wait_for(lambda: self.changes > since or self._closed, timeout)
            self._refuse_closed()
            return self.changes

    def close(self) -> None:
        """Refuse further operations, and wake who waits."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def announce(self) -> None:
        """Note that something became claimable or final, or was requested."""
        self._changed = True

    def refuse_forked(self) -> None:
        """Refuse a copy of the store that ``os.fork()`` made: nobody else would see its jobs."""
        if os.getpid() != self._process:
            raise QueueClosedError(
                "this memory store was opened before a fork and cannot be used in the child; "
                "open a new one, or use SQLite to share jobs between processes"
            )

    def _refuse_closed(self) -> None:
        if self._closed:
            raise QueueClosedError("the memory store is closed; open it again before using it")

    # Changes of state ---------------------------------------------------------------------------

    def add(self, job: Job) -> None:
        """Store a new job in the state that it has."""
        self.last_sequence = job.sequence
        self.jobs[job.id] = job
        self.by_sequence[job.sequence] = job
        for edge in job.edges:
            self.jobs[str(edge.job)].dependents.setdefault(job.id, []).append(edge)
        if job.spec.workflow is not None:
            workflow = self.workflows.get(job.spec.workflow)
            if workflow is None:
                self.last_workflow += 1
                workflow = Workflow(self.last_workflow, job.created_ms)
                self.workflows[job.spec.workflow] = workflow
            workflow.jobs[job.id] = job
        if job.spec.idempotency_key is not None:
            self.idempotency_keys[job.spec.idempotency_key] = job.id
        self._count(job, 1)
        if job.state is JobState.CANCELLED:
            self._retire(job)
            return
        if job.spec.unique_key is not None:
            self.unique_keys[job.spec.unique_key] = job.id
        self._watch_expiry(job)
        self._place(job)

    def move(
        self, job: Job, event: str, *, why: Why | None = None, due_ms: int | None = None
    ) -> None:
        """Let ``event`` happen to a job that goes on; ``end`` is for one that does not.

        The caller has set everything else that decides about its place, such as ``suspect``.
        """
        state = next_state(job.state, event)
        self._count(job, -1)
        if job.state is JobState.RUNNING:
            self._take_from_worker(job)
            self._watch_expiry(job)
            if event == "release" and job.spec.unique_key is not None and not job.ever_started:
                # Only a key that ended with the claim can be free here.
                self.unique_keys.setdefault(job.spec.unique_key, job.id)
        job.state = state
        job.why = why
        if due_ms is not None:
            job.due_ms = due_ms
        self._count(job, 1)
        self._place(job)

    def end(self, job: Job, event: str, *, reason: str | None = None) -> None:
        """Bring a job to a final state, and do what follows from that.

        It closes the edges of its dependents. One whose condition can no longer be met is
        cancelled, and so is what depends on that, however far away; one whose last edge it was can
        start.
        """
        self._end_one(job, event, reason)
        ended = deque([job])
        while ended:
            parent = ended.popleft()
            for child_id, edges in parent.dependents.items():
                child = self.jobs[child_id]
                for edge in edges:
                    if child.state is JobState.BLOCKED and self._close_edge(child, edge, parent):
                        ended.append(child)

    def delete(self, job: Job) -> None:
        """Forget a finished job; its id and its idempotency key are free again."""
        del self.jobs[job.id], self.by_sequence[job.sequence], self.finished[job.id]
        self._count(job, -1)
        if job.spec.idempotency_key is not None:
            del self.idempotency_keys[job.spec.idempotency_key]
        for parent_id in job.dependencies:
            del self.jobs[parent_id].dependents[job.id]
        for child_id in job.dependents:
            del self.jobs[child_id].dependencies[job.id]
        if job.spec.workflow is not None:
            workflow = self.workflows[job.spec.workflow]
            del workflow.jobs[job.id]
            if not workflow.jobs:
                del self.workflows[job.spec.workflow]

    def is_needed(self, job: Job) -> bool:
        """Whether a job that has not ended needs to know how this one ended."""
        return is_needed(job, (self.jobs[child_id] for child_id in job.dependents))

    def inputs_of(self, job: Job) -> tuple[params.JobInput, ...]:
        """Describe how the jobs ended whose results a job takes."""
        return inputs_of((edge, self.jobs[str(edge.job)]) for edge in job.edges if edge.input)

    def claim(self, job: Job, worker: Worker) -> None:
        """Give a ready job to a worker, under a new lease."""
        self.last_token += 1
        job.token = self.last_token
        job.worker = worker.registration.id
        job.started = False
        self.move(job, "claim")
        if job.spec.unique_until_start:
            self._free_unique_key(job)
        worker.running[job.id] = job
        self.extend_lease(job, worker)
        heapq.heappush(self.leases, (job.lease_end_ms, job.token, job))

    def extend_lease(self, job: Job, worker: Worker) -> None:
        """Let the lease of a running job last for a full lease time from now."""
        job.lease_end_ms = self.clock.steady_ms() + worker.registration.lease_ms

    def remember(self, job: Job, kind: params.ErrorKind, detail: bytes = b"") -> None:
        """Write the present run of a job into its history."""
        job.errors.append(
            params.ErrorRecord(
                run=job.token,
                attempt=job.attempt,
                kind=kind,
                at_ms=self.clock.wall_ms(),
                worker=job.worker,
                detail=detail,
            )
        )

    def promote(self, budget: int) -> int:
        """Make up to ``budget`` jobs ready whose time has come, and return how many they were."""
        promoted = 0
        now = self.clock.wall_ms()
        while promoted < budget and (due_ms := self.first_due()) is not None and due_ms <= now:
            self.move(heapq.heappop(self.due)[-1], "promote")
            promoted += 1
        return promoted

    # Times --------------------------------------------------------------------------------------

    def next_due_ms(self) -> int | None:
        """Return how long until the next scheduled job is due; None if none is waiting."""
        at_ms = self.first_due()
        return None if at_ms is None else max(0, at_ms - self.clock.wall_ms())

    def first_due(self) -> int | None:
        """Return the wall time at which the job at the top of ``due`` may run."""
        while self.due:
            at_ms, _, job = self.due[0]
            if job.state is JobState.SCHEDULED and job.due_ms == at_ms:
                return at_ms
            heapq.heappop(self.due)
        return None

    def first_expiry(self) -> int | None:
        """Return the wall time at which the job at the top of ``expiries`` expires.

        Only waiting jobs do; a claimed one comes back here if it is given back unstarted.
        """
        while self.expiries:
            at_ms, _, _, job = self.expiries[0]
            if job.state in _WAITING and not job.ever_started:
                return at_ms
            heapq.heappop(self.expiries)
        return None

    def first_lease_end(self) -> int | None:
        """Return the steady time at which the lease at the top of ``leases`` may be taken back.

        A lease has one entry, made at its claim; renewals show when it comes to the top.
        """
        while self.leases:
            end_ms, token, job = self.leases[0]
            if job.state is not JobState.RUNNING or job.token != token:
                heapq.heappop(self.leases)
            elif job.lease_end_ms != end_ms:
                heapq.heapreplace(self.leases, (job.lease_end_ms, token, job))
            else:
                return end_ms
        return None

    def first_retention_end(self) -> int | None:
        """Return the wall time at which the job at the top of ``retention`` is to be deleted."""
        while self.retention:
            at_ms, _, job = self.retention[0]
            if self.jobs.get(job.id) is job and not self.is_needed(job):
                return at_ms
            # If it is kept for another job, the end of that one notes it again.
            heapq.heappop(self.retention)
        return None

    # Parts --------------------------------------------------------------------------------------

    def _end_one(self, job: Job, event: str, reason: str | None) -> None:
        state = next_state(job.state, event)
        if job.state is JobState.RUNNING:
            self._take_from_worker(job)
        self._count(job, -1)
        job.state = state
        job.why = None
        job.reason = reason
        job.suspect = False
        self._count(job, 1)
        self._free_unique_key(job)
        self._retire(job)

    def _free_unique_key(self, job: Job) -> None:
        """Free the key if the job still holds it; another one may have it by now."""
        key = job.spec.unique_key
        if key is not None and self.unique_keys.get(key) == job.id:
            del self.unique_keys[key]

    def _retire(self, job: Job) -> None:
        """Put a final job where finished jobs are kept."""
        now = self.clock.wall_ms()
        job.finished_ms = now
        self.finished[job.id] = job
        for edge in job.edges:
            if (edge.input or edge.condition == Condition.FAILURE) and edge.job in self.jobs:
                self._watch_retention(self.jobs[str(edge.job)])
        self._watch_retention(job)
        self.announce()

    def _watch_retention(self, job: Job) -> None:
        """Note when a final job is to be deleted; one that was kept for another is noted again."""
        if job.spec.result_ttl_ms is not None and job.finished_ms is not None:
            entry = (job.finished_ms + job.spec.result_ttl_ms, job.sequence, job)
            heapq.heappush(self.retention, entry)

    def _close_edge(self, child: Job, edge: Dependency, parent: Job) -> bool:
        """Close an edge of a blocked job to an ended one; return whether the job ends by that."""
        if edge.condition == Condition.SUCCESS and has_failed(parent):
            self._end_one(child, "cancel", inherited_reason(parent))
            return True
        child.pending -= 1
        if child.pending:
            return False
        failures = [other for other in child.edges if other.condition == Condition.FAILURE]
        if failures and not any(has_failed(self.jobs[str(other.job)]) for other in failures):
            self._end_one(child, "cancel", SKIPPED)
            return True
        self._unblock(child)
        return False

    def _unblock(self, child: Job) -> None:
        """All that a blocked job waits for has ended as it should; a delay counts from now."""
        now = self.clock.wall_ms()
        # Not from the instant of its enqueue: the wall clock may have been set back since.
        due_ms = max(child.spec.eta_ms or 0, now + child.spec.delay_ms)
        if due_ms > now:
            self.move(child, "delay", why=Why.DELAY, due_ms=due_ms)
        else:
            self.move(child, "unblock")

    def _watch_expiry(self, job: Job) -> None:
        if job.expires_ms is not None and not job.ever_started:
            heapq.heappush(self.expiries, (job.expires_ms, job.sequence, job.token, job))

    def _place(self, job: Job) -> None:
        if job.state is JobState.READY:
            heapq.heappush(self.lanes.setdefault(job.lane, []), (job.rank, job))
            self.announce()
        elif job.state is JobState.SCHEDULED:
            heapq.heappush(self.due, (job.due_ms, job.sequence, job))
            self.announce()

    def _take_from_worker(self, job: Job) -> None:
        """End the lease of a running job; its token stays, as the number of the last run."""
        del self.workers[job.worker].running[job.id]
        job.started = False
        job.cancel_reason = None

    def _count(self, job: Job, change: int) -> None:
        key = (job.spec.queue, job.spec.task, job.state, job.why is Why.RETRY)
        self.counts[key] += change
        if not self.counts[key]:
            del self.counts[key]
